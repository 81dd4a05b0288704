//! Open connections: plain TCP or TLS, accepted or dialled (RFC 4975 §5.4, RFC 4976 §6.1).
//!
//! Everything about sockets is decided here: their options, TLS, which address of a next hop
//! answers, and how a connection is closed so that its last bytes arrive. What MSRP is, this room
//! does not know. Deadlines of accepted connections belong to the caller; dialling has its own.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    AlertDescription, CipherSuite, ClientConfig, CommonState, PeerIncompatible, ProtocolVersion,
    ServerConfig, pki_types::ServerName,
};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use self::resolve::ResolveError;

pub mod resolve;
pub mod tls;

/// Connections that the kernel completes and keeps until they are accepted.
pub const BACKLOG: i32 = 1024;

/// Silence after which the kernel asks whether the peer still lives; short enough to keep the
/// entry of most NATs alive.
pub const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);

/// Distance of the kernel's further questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Questions without an answer after which the connection is lost: two minutes in all.
pub const KEEPALIVE_PROBES: u32 = 4;

/// How long bytes that were sent may stay unacknowledged, or a peer's window closed, before the
/// connection is lost. Without it the kernel goes on trying for a quarter of an hour.
pub const USER_TIMEOUT: Duration = Duration::from_mins(2);

/// Unsent bytes the kernel takes on per connection. A response waits behind these, so there must
/// not be megabytes of them.
pub const NOTSENT_LOWAT: u32 = 128 * 1024;

/// Bytes that rustls holds per connection while the kernel takes none.
pub const TLS_BUFFER: usize = 64 * 1024;

/// Time for a dial as a whole: names, all addresses, TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection that was closed politely is read and discarded, see [`close`].
pub const LINGER: Duration = Duration::from_secs(2);

/// How many bytes are discarded meanwhile.
pub const LINGER_BYTES: usize = 1024 * 1024;

/// One open connection.
///
/// Writing is vectored, and pieces are gathered into as few TLS records as they fill. Over TLS a
/// write buffers like a `BufWriter`: bytes may have been taken and not sent, so end every run of
/// writes with a flush. Reading ends with `Ok(0)` where the peer said that it is done (FIN,
/// `close_notify`), and over TLS with `UnexpectedEof` where it hung up without a word; MSRP's
/// frames tell for themselves whether they are whole.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    peer: SocketAddr,
    local: SocketAddr,
    security: Security,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Link {
    fn plain(tcp: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        let local = tcp.local_addr()?;
        Ok(Self {
            stream: Stream::Plain(tcp),
            peer,
            local,
            security: Security::Plain,
        })
    }

    fn secured(tls: TlsStream<TcpStream>, peer: SocketAddr) -> io::Result<Self> {
        let (tcp, session) = tls.get_ref();
        let local = tcp.local_addr()?;
        let security = Security::negotiated(session);
        Ok(Self {
            stream: Stream::Tls(Box::new(tls)),
            peer,
            local,
            security,
        })
    }

    /// The other end, as the caller of [`accept`] named it or as it was dialled.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// How the connection is secured.
    pub fn security(&self) -> Security {
        self.security
    }

    /// Whether bytes that were taken by a write still wait for a flush.
    pub fn has_unsent(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.get_ref().1.wants_write(),
        }
    }

    fn tcp(&mut self) -> &mut TcpStream {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_mut().0,
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Not at all: plain TCP, the scheme `msrp`.
    Plain,
    /// TLS, the scheme `msrps`.
    Tls {
        /// The version that was negotiated.
        version: ProtocolVersion,
        /// The cipher suite that was negotiated.
        suite: CipherSuite,
    },
}

impl Security {
    fn negotiated(session: &CommonState) -> Self {
        Self::Tls {
            version: session
                .protocol_version()
                .unwrap_or(ProtocolVersion::Unknown(0)),
            suite: session
                .negotiated_cipher_suite()
                .map_or(CipherSuite::Unknown(0), |suite| suite.suite()),
        }
    }

    /// Whether it is TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls { .. })
    }
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain TCP"),
            Self::Tls { version, suite } => write!(f, "{version:?} {suite:?}"),
        }
    }
}

/// A bound listener, not blocking, made without a runtime: the daemon binds before it forks.
///
/// An IPv6 address takes IPv6 only, so that `0.0.0.0` and `[::]` can be bound side by side.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address).map_err(|cause| {
        io::Error::new(cause.kind(), format!("cannot listen on {address}: {cause}"))
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Makes a link of an accepted connection: over TLS with `config`, plain without.
///
/// `peer` is the client as the caller knows it, who may have it from a load balancer. The handshake
/// is as slow as the peer likes: the caller holds the deadline (RFC 4976 §6.1).
pub async fn accept(
    tcp: TcpStream,
    peer: SocketAddr,
    config: Option<Arc<ServerConfig>>,
) -> Result<Link, LinkError> {
    set_options(&tcp).map_err(LinkError::Closed)?;
    let Some(config) = config else {
        return Link::plain(tcp, peer).map_err(LinkError::Closed);
    };
    let limit = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(TLS_BUFFER));
    match TlsAcceptor::from(config).accept_with(tcp, limit).await {
        Ok(tls) => Link::secured(tls.into(), peer).map_err(LinkError::Closed),
        Err(cause) => Err(LinkError::Handshake(HandshakeError::from(cause))),
    }
}

/// Where to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port; 0 is an error.
    pub port: u16,
    /// Whether the scheme is `msrps`. There is no fallback to plain TCP (RFC 4975 §5.4).
    pub tls: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "msrps" } else { "msrp" };
        let host = self.host.escape_debug();
        if self.host.contains(':') {
            return write!(f, "{scheme}://[{host}]:{}", self.port);
        }
        write!(f, "{scheme}://{host}:{}", self.port)
    }
}

/// Opens a connection to `target` within [`CONNECT_TIMEOUT`].
///
/// All addresses are tried in the order of the records (RFC 4975 §6.2), each with its share of the
/// time that is left; one that refuses, is silent or fails at TLS is followed by the next. The
/// server name sent is the host of the target (RFC 4976 §9.2), and none where that is an address.
pub async fn connect(target: &Target, config: &Arc<ClientConfig>) -> Result<Link, LinkError> {
    let deadline = clock() + CONNECT_TIMEOUT;
    let tls = target
        .tls
        .then(|| ClientTls::new(target, config))
        .transpose()?;
    let resolving = resolve::addresses(&target.host, target.port);
    let Ok(resolved) = timeout_at(deadline, resolving).await else {
        return Err(LinkError::ResolveTimeout {
            target: target.clone(),
        });
    };
    let addresses = resolved.map_err(LinkError::Resolve)?;
    dial(&addresses, tls.as_ref(), deadline)
        .await
        .map_err(|attempts| LinkError::Connect {
            target: target.clone(),
            attempts,
        })
}

/// What TLS needs for each of a target's addresses.
struct ClientTls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl ClientTls {
    fn new(target: &Target, config: &Arc<ClientConfig>) -> Result<Self, LinkError> {
        match ServerName::try_from(target.host.clone()) {
            Ok(name) => Ok(Self {
                connector: Arc::clone(config).into(),
                name,
            }),
            Err(_) => Err(LinkError::ServerName {
                target: target.clone(),
            }),
        }
    }
}

async fn dial(
    addresses: &[SocketAddr],
    tls: Option<&ClientTls>,
    deadline: Instant,
) -> Result<Link, Attempts> {
    let mut attempts = Vec::new();
    for (tried, &address) in (0_u32..).zip(addresses) {
        let left = u32::try_from(addresses.len()).unwrap_or(u32::MAX) - tried;
        let share = deadline.saturating_duration_since(clock()) / left;
        let failure = match timeout(share, dial_one(address, tls)).await {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(failure)) => failure,
            Err(_) => AttemptError::Timeout { after: share },
        };
        attempts.push(Attempt { address, failure });
    }
    Err(Attempts(attempts))
}

async fn dial_one(address: SocketAddr, tls: Option<&ClientTls>) -> Result<Link, AttemptError> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(AttemptError::Connect)?;
    set_options(&tcp).map_err(AttemptError::Connect)?;
    let link = match tls {
        None => Link::plain(tcp, address),
        Some(tls) => Link::secured(handshake(tcp, tls).await?, address),
    };
    link.map_err(AttemptError::Connect)
}

async fn handshake(tcp: TcpStream, tls: &ClientTls) -> Result<TlsStream<TcpStream>, AttemptError> {
    let limit = |session: &mut rustls::ClientConnection| session.set_buffer_limit(Some(TLS_BUFFER));
    let connecting = tls.connector.connect_with(tls.name.clone(), tcp, limit);
    let connected = connecting.await;
    connected
        .map(Into::into)
        .map_err(|cause| AttemptError::Handshake(cause.into()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a dial's deadline; the network has no other clock"
)]
fn clock() -> Instant {
    Instant::now()
}

/// What every connection gets before its first byte: the handshake is slow under Nagle's
/// algorithm, and a peer that vanishes during it must be noticed too.
fn set_options(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)
}

/// Closes politely: what was written is sent, `close_notify` and FIN follow, then the peer's bytes
/// are read and discarded until it hangs up, for [`LINGER`] or [`LINGER_BYTES`] at most.
///
/// A close with unread input makes the kernel send RST, which destroys what the peer has not read
/// yet: the last REPORT. Sending may take `drain`; a peer that does not read in that time loses it.
pub async fn close(mut link: Link, drain: Duration) -> Result<(), LinkError> {
    match timeout(drain, link.shutdown()).await {
        Ok(outcome) => outcome.map_err(LinkError::Closed)?,
        Err(_) => return Err(LinkError::DrainTimeout { after: drain }),
    }
    // Under TLS too the bytes are only counted, so they need not be decrypted.
    let _: Result<_, _> = timeout(LINGER, discard(link.tcp())).await;
    Ok(())
}

/// Ends with the peer's end, an error (the peer is gone) or [`LINGER_BYTES`].
async fn discard(tcp: &mut TcpStream) {
    let mut waste = vec![0; 16 * 1024];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match tcp.read(&mut waste).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}

/// Why there is no connection, or none any more. Causes are part of the message.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection ended before it could be used, or while it was being closed.
    #[error("connection closed: {0}")]
    Closed(io::Error),
    /// The TLS handshake of an accepted connection failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(HandshakeError),
    /// The host of the next hop has no address.
    #[error("{0}")]
    Resolve(ResolveError),
    /// The resolver took all the time there was.
    #[error("cannot connect to {target}: the name was not resolved within {CONNECT_TIMEOUT:?}")]
    ResolveTimeout {
        /// What was to be dialled.
        target: Target,
    },
    /// The host cannot stand in a certificate, so TLS cannot be spoken with it.
    #[error("cannot connect to {target}: no host name that TLS could ask for")]
    ServerName {
        /// What was to be dialled.
        target: Target,
    },
    /// Every address failed.
    #[error("cannot connect to {target}: {attempts}")]
    Connect {
        /// What was to be dialled.
        target: Target,
        /// Each address and what became of it.
        attempts: Attempts,
    },
    /// The peer did not read what was still to be sent.
    #[error("connection closed with bytes unsent: the peer read nothing for {after:?}")]
    DrainTimeout {
        /// How long was waited.
        after: Duration,
    },
}

/// The addresses that were tried in vain, in order.
#[derive(Debug)]
pub struct Attempts(pub Vec<Attempt>);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Attempt { address, failure }) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {failure}")?;
        }
        Ok(())
    }
}

/// One address that was tried in vain.
#[derive(Debug)]
pub struct Attempt {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    pub failure: AttemptError,
}

/// Why an address could not be used.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// TCP failed: refused, unreachable, reset.
    #[error("{0}")]
    Connect(io::Error),
    /// TCP was there, TLS failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(HandshakeError),
    /// Its share of the time was over.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The share.
        after: Duration,
    },
}

/// Why a TLS handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are not TLS.
    #[error("the peer does not speak TLS here (plain TCP?)")]
    NotTls,
    /// RFC 8996: nothing below TLS 1.2.
    #[error("the peer offers no TLS version from 1.2 on")]
    VersionTooOld,
    /// The connection ended in the middle.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer sent an alert; after `UnknownCA` and the like it does not trust our certificate.
    #[error("refused by the peer with the alert {0:?}")]
    Refused(AlertDescription),
    /// The peer's certificate did not verify (`verify_next_hop = enforce`).
    #[error("the certificate of the peer is not acceptable: {0}")]
    Certificate(rustls::CertificateError),
    /// Anything else.
    #[error("{0}")]
    Other(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ) {
            return Self::Closed;
        }
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                Self::NotTls
            }
            Some(rustls::Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerDoesNotSupportTls12Or13,
            )) => Self::VersionTooOld,
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused(*alert),
            Some(rustls::Error::InvalidCertificate(cause)) => Self::Certificate(cause.clone()),
            _ => Self::Other(error),
        }
    }
}
