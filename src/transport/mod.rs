//! Open connections: plain TCP or TLS, accepted or dialled (RFC 4975 §5.4, RFC 4976 §6.1).
//!
//! Everything about sockets is decided here: their options, TLS, which address of a next hop
//! answers, and how a connection is closed so that its last bytes arrive. What MSRP is, this room
//! does not know. Deadlines of accepted connections belong to the caller; dialling has its own.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use rustls::{
    AlertDescription, ClientConfig, PeerIncompatible, ServerConfig, pki_types::ServerName,
};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use self::link::{Link, Security};
use self::{carrier::Carrier, resolve::ResolveError};

mod carrier;
mod link;
pub mod pem;
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

/// Bytes that rustls holds per connection while the kernel takes none. More than is read at once,
/// so that it leaves with the heads and end-lines around it in one system call; a response waits
/// behind at most this much.
pub const TLS_BUFFER: usize = 96 * 1024;

/// Time for a dial as a whole: names, all addresses, TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection that was closed politely is read and discarded, see [`close`].
pub const LINGER: Duration = Duration::from_secs(2);

/// How many bytes are discarded meanwhile.
pub const LINGER_BYTES: usize = 1024 * 1024;

/// A bound listener, not blocking, made without a runtime: the daemon binds before it forks.
///
/// An IPv6 address takes IPv6 only, so that `0.0.0.0` and `[::]` can be bound side by side.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address, false).map_err(|cause| advised(&cause, address))
}

/// [`listen`] beside `own`, listeners on the same port whose addresses cover this one or are
/// covered by it, such as 0.0.0.0.
///
/// The kernel allows that only while all agree, and where the same user made them.
pub fn listen_beside(address: SocketAddr, own: &[impl AsFd]) -> io::Result<TcpListener> {
    let agree = |agree: bool| {
        own.iter().try_for_each(|listener| SockRef::from(listener).set_reuse_port(agree))
    };
    agree(true)?;
    let bound = bind(address, true);
    // Nobody else is to share the port.
    agree(false)?;
    let listener = bound.map_err(|cause| advised(&cause, address))?;
    SockRef::from(&listener).set_reuse_port(false)?;
    Ok(listener)
}

fn advised(cause: &io::Error, address: SocketAddr) -> io::Error {
    let advice = bind_advice(cause, address.port());
    io::Error::new(cause.kind(), format!("cannot listen on {address}: {cause}{advice}"))
}

/// What an operator can do about an address that cannot be bound; begins with its own `: `.
fn bind_advice(cause: &io::Error, port: u16) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => format!(
            ": another program listens there, `ss -ltnp sport = :{port}` names it; stop it or set \
             another address"
        ),
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 are for root and for whoever has CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            ": this machine has no such address, `ip address` lists those it has".to_owned()
        }
        _ => String::new(),
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
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
    if starts_with_old_hello(&tcp).await.map_err(LinkError::Closed)? {
        refuse_version(tcp, peer).await.map_err(LinkError::Closed)?;
        return Err(LinkError::Handshake(HandshakeError::VersionTooOld));
    }
    let limit = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(TLS_BUFFER));
    match TlsAcceptor::from(config).accept_with(Carrier::new(tcp), limit).await {
        Ok(tls) => Link::secured(tls.into(), peer).map_err(LinkError::Closed),
        Err(cause) => Err(LinkError::Handshake(HandshakeError::from(cause))),
    }
}

/// Whether the first bytes are a `ClientHello` whose highest version is below TLS 1.2.
///
/// rustls misses the signature algorithms first, which those versions do not have, and sends
/// `handshake_failure`; RFC 8996 §4 and §5 want `protocol_version`. A hello that comes in crumbs is
/// left to rustls.
async fn starts_with_old_hello(tcp: &TcpStream) -> io::Result<bool> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let mut start = [0; 11];
    let seen = tcp.peek(&mut start).await?;
    let [HANDSHAKE, _, _, _, _, CLIENT_HELLO, _, _, _, major, minor] = start else {
        return Ok(false);
    };
    Ok(seen == start.len() && (major, minor) < (3, 3))
}

async fn refuse_version(tcp: TcpStream, peer: SocketAddr) -> io::Result<()> {
    // RFC 5246 §7.2: an alert record of version 3.1; fatal, protocol_version.
    const ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];
    let mut link = Link::plain(tcp, peer)?;
    link.write_all(&ALERT).await?;
    link.shutdown().await?;
    linger(&mut link).await;
    Ok(())
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
    let tls = target.tls.then(|| ClientTls::new(target, config)).transpose()?;
    let resolving = resolve::addresses(&target.host, target.port);
    let Ok(resolved) = timeout_at(deadline, resolving).await else {
        return Err(LinkError::ResolveTimeout { target: target.clone() });
    };
    let addresses = resolved.map_err(LinkError::Resolve)?;
    dial(&addresses, tls.as_ref(), deadline)
        .await
        .map_err(|attempts| LinkError::Connect { target: target.clone(), attempts })
}

/// What TLS needs for each of a target's addresses.
struct ClientTls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl ClientTls {
    fn new(target: &Target, config: &Arc<ClientConfig>) -> Result<Self, LinkError> {
        match ServerName::try_from(target.host.clone()) {
            Ok(name) => Ok(Self { connector: Arc::clone(config).into(), name }),
            Err(_) => Err(LinkError::ServerName { target: target.clone() }),
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
    let tcp = TcpStream::connect(address).await.map_err(AttemptError::Connect)?;
    set_options(&tcp).map_err(AttemptError::Connect)?;
    let link = match tls {
        None => Link::plain(tcp, address),
        Some(tls) => Link::secured(handshake(tcp, tls).await?, address),
    };
    link.map_err(AttemptError::Connect)
}

async fn handshake(tcp: TcpStream, tls: &ClientTls) -> Result<TlsStream<Carrier>, AttemptError> {
    let limit = |session: &mut rustls::ClientConnection| session.set_buffer_limit(Some(TLS_BUFFER));
    let connecting = tls.connector.connect_with(tls.name.clone(), Carrier::new(tcp), limit);
    let connected = connecting.await;
    connected.map(Into::into).map_err(|cause| AttemptError::Handshake(cause.into()))
}

#[expect(clippy::disallowed_methods, reason = "a dial's deadline; the network has no other clock")]
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
    linger(&mut link).await;
    Ok(())
}

/// Under TLS too the bytes are only counted, so they need not be decrypted.
async fn linger(link: &mut Link) {
    let _: Result<(), _> = timeout(LINGER, discard(link.tcp())).await;
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
        if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
            return Self::Closed;
        }
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
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

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::{IoSlice, Read, Write},
        pin::Pin,
        process::{Command, Stdio},
        sync::Mutex,
        task::Poll,
        thread,
    };

    use rustls::{
        CertificateError, CipherSuite, ProtocolVersion, RootCertStore, pki_types::CertificateDer,
        server::WebPkiClientVerifier, version::TLS12,
    };
    use tokio::{io::AsyncWrite, net::TcpListener, task::JoinHandle, time::sleep};

    use super::{
        link::Stream,
        tls::{
            Identity, Verification, client_config, server_config,
            tests::{identity, trusting},
        },
        *,
    };

    const LOOPBACK: &str = "127.0.0.1:0";

    fn listener() -> TcpListener {
        TcpListener::from_std(listen(LOOPBACK.parse().unwrap()).unwrap()).unwrap()
    }

    fn target(host: &str, port: u16, tls: bool) -> Target {
        Target { host: host.to_owned(), port, tls }
    }

    fn trusting_anyone() -> Arc<ClientConfig> {
        client_config(Verification::Off, None).unwrap()
    }

    /// Accepts one connection; without identities, in plain TCP.
    fn serve(identities: &[Identity]) -> (u16, JoinHandle<Result<Link, LinkError>>) {
        let config = (!identities.is_empty()).then(|| server_config(identities).unwrap());
        let listener = listener();
        let port = listener.local_addr().unwrap().port();
        let accepting = async move {
            let (tcp, peer) = listener.accept().await.unwrap();
            accept(tcp, peer, config).await
        };
        (port, tokio::spawn(accepting))
    }

    /// Both ends of a connection: dialled, accepted.
    async fn pair(tls: bool) -> (Link, Link) {
        let identities = if tls { vec![identity(&["localhost"])] } else { vec![] };
        let (port, accepted) = serve(&identities);
        let dialled = connect(&target("127.0.0.1", port, tls), &trusting_anyone()).await.unwrap();
        (dialled, accepted.await.unwrap().unwrap())
    }

    fn peer_certificate(link: &Link) -> Option<CertificateDer<'static>> {
        let Stream::Tls(tls) = &link.stream else {
            return None;
        };
        tls.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned())
    }

    /// A port of the loopback interface where nobody listens.
    fn closed_port() -> SocketAddr {
        listener().local_addr().unwrap()
    }

    #[test]
    fn listening_needs_no_runtime_and_errors_name_the_address() {
        let first = listen(LOOPBACK.parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = first.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let error = listen(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }

    #[test]
    fn both_families_are_bound_side_by_side() {
        let v6 = listen("[::]:0".parse().unwrap()).unwrap();
        let port = v6.local_addr().unwrap().port();
        listen(SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
        assert!(SockRef::from(&v6).only_v6().unwrap());
    }

    #[tokio::test]
    async fn both_ends_get_the_socket_options() {
        let (mut dialled, mut accepted) = pair(true).await;
        for link in [&mut dialled, &mut accepted] {
            let socket = SockRef::from(&*link.tcp());
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
        }
    }

    #[tokio::test]
    async fn links_carry_bytes_and_know_their_ends() {
        for tls in [false, true] {
            let (mut dialled, mut accepted) = pair(tls).await;
            assert_eq!(dialled.peer(), accepted.local());
            assert_eq!(dialled.local(), accepted.peer());
            assert_eq!(dialled.security(), accepted.security());
            assert_eq!(dialled.security().is_tls(), tls);
            dialled.write_all(b"ping").await.unwrap();
            dialled.flush().await.unwrap();
            let mut heard = [0; 4];
            accepted.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"ping");
            // One direction ends, the other goes on.
            dialled.shutdown().await.unwrap();
            assert_eq!(accepted.read(&mut heard).await.unwrap(), 0);
            accepted.write_all(b"pong").await.unwrap();
            accepted.flush().await.unwrap();
            dialled.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"pong");
        }
    }

    #[tokio::test]
    async fn the_peer_is_who_the_caller_says() {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let behind_the_balancer = "198.51.100.7:4711".parse().unwrap();
        let link = accept(tcp, behind_the_balancer, None).await.unwrap();
        assert_eq!((link.peer(), link.local()), (behind_the_balancer, address));
    }

    /// What `openssl s_client` prints with a protocol option.
    fn s_client(port: u16, version: &'static str) -> JoinHandle<String> {
        tokio::task::spawn_blocking(move || {
            let output = Command::new("openssl")
                .args(["s_client", version, "-cipher", "DEFAULT@SECLEVEL=0", "-connect"])
                .arg(format!("127.0.0.1:{port}"))
                .stdin(Stdio::null())
                .output()
                .expect("the tests need openssl");
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        })
    }

    #[tokio::test]
    async fn tls_begins_at_1_2() {
        let identities = [identity(&["localhost"])];
        for (option, expected) in
            [("-tls1_2", ProtocolVersion::TLSv1_2), ("-tls1_3", ProtocolVersion::TLSv1_3)]
        {
            let (port, accepted) = serve(&identities);
            let printed = s_client(port, option);
            let link = accepted.await.unwrap().unwrap();
            let Security::Tls { version, .. } = link.security() else { panic!("not TLS") };
            assert_eq!(version, expected);
            drop(link);
            let printed = printed.await.unwrap();
            assert!(printed.contains("No client certificate CA names sent"), "{printed}");
        }
        for option in ["-tls1", "-tls1_1"] {
            let (port, accepted) = serve(&identities);
            let printed = s_client(port, option);
            let error = accepted.await.unwrap().unwrap_err();
            assert!(
                matches!(error, LinkError::Handshake(HandshakeError::VersionTooOld)),
                "{error:?}"
            );
            let printed = printed.await.unwrap();
            assert!(printed.contains("alert protocol version"), "{printed}");
        }
    }

    #[tokio::test]
    async fn handshakes_with_strangers_end_in_words() {
        let (port, accepted) = serve(&[identity(&["localhost"])]);
        let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        plain.write_all(b"MSRP 49fh AUTH\r\nTo-Path: msrps://localhost;tcp\r\n").await.unwrap();
        let error = accepted.await.unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "TLS handshake failed: the peer does not speak TLS here (plain TCP?)"
        );

        let (port, plain) = serve(&[]);
        let answer = tokio::spawn(async move {
            plain.await.unwrap().unwrap().write_all(b"MSRP 1234 400 What?\r\n").await
        });
        let error = connect(&target("localhost", port, true), &trusting_anyone()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("does not speak TLS here (plain TCP?)"), "{error}");
        answer.await.unwrap().unwrap();

        let (port, accepted) = serve(&[identity(&["localhost"])]);
        drop(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        let error = accepted.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "TLS handshake failed: the peer closed the connection");
    }

    #[tokio::test]
    async fn the_name_asked_for_chooses_the_identity() {
        let first = identity(&["one.example.com"]);
        let second = identity(&["localhost"]);
        let third = identity(&["*.example.org"]);
        let identities = [first.clone(), second.clone(), third.clone()];
        // An address sends no name; a name nobody has gets the default.
        let cases = [
            ("127.0.0.1", &first),
            ("localhost", &second),
            ("LOCALHOST", &second),
            ("a.example.org", &third),
            ("nobody.example.net", &first),
        ];
        for (host, expected) in cases {
            let (port, accepted) = serve(&identities);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let tls = ClientTls::new(&target(host, port, true), &trusting_anyone()).unwrap();
            let link = dial_one(address, Some(&tls)).await.unwrap();
            assert_eq!(peer_certificate(&link).as_ref(), Some(&expected.chain()[0]), "{host}");
            let accepted = accepted.await.unwrap().unwrap();
            let Stream::Tls(stream) = &accepted.stream else { panic!("not TLS") };
            let TlsStream::Server(stream) = stream.as_ref() else { panic!("not a server") };
            let sent = (host != "127.0.0.1").then(|| host.to_lowercase());
            assert_eq!(stream.get_ref().1.server_name().map(str::to_owned), sent);
        }
    }

    /// A dial with `verification` of a server whose certificate is for `name`.
    async fn verified_dial(
        server: &Identity,
        verification: Verification,
    ) -> Result<Link, LinkError> {
        let (port, accepted) = serve(std::slice::from_ref(server));
        let config = client_config(verification, None).unwrap();
        let link = connect(&target("localhost", port, true), &config).await;
        let _: Result<Link, LinkError> = accepted.await.unwrap();
        link
    }

    fn certificate_error(link: Result<Link, LinkError>) -> CertificateError {
        let Err(LinkError::Connect { mut attempts, .. }) = link else { panic!("{link:?}") };
        match attempts.0.pop().unwrap().failure {
            AttemptError::Handshake(HandshakeError::Certificate(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn enforcing_refuses_what_logging_reports() {
        let right = identity(&["localhost"]);
        let wrong_name = identity(&["elsewhere.example.com"]);
        let enforce = |anchors| Verification::Enforce { anchors };
        verified_dial(&right, enforce(trusting(&right))).await.unwrap();
        let refused = verified_dial(&right, enforce(trusting(&wrong_name))).await;
        assert_eq!(certificate_error(refused), CertificateError::UnknownIssuer);
        let refused = verified_dial(&wrong_name, enforce(trusting(&wrong_name))).await;
        let error = certificate_error(refused);
        assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");

        let told = Arc::new(Mutex::new(Vec::new()));
        let log = |anchors: RootCertStore| {
            let told = Arc::clone(&told);
            let observer = Box::new(move |host: &str, reason: &rustls::Error| {
                told.lock().unwrap().push(format!("{host}: {reason}"));
            });
            Verification::Log { anchors, observer }
        };
        verified_dial(&right, log(trusting(&right))).await.unwrap();
        assert!(told.lock().unwrap().is_empty());
        verified_dial(&right, log(RootCertStore::empty())).await.unwrap();
        verified_dial(&wrong_name, log(trusting(&wrong_name))).await.unwrap();
        let told = told.lock().unwrap();
        assert_eq!(told[0], "localhost: invalid peer certificate: UnknownIssuer");
        assert!(told[1].contains("not valid for name"), "{told:?}");
        assert_eq!(told.len(), 2);
    }

    /// RFC 4976 §9.2: relays authenticate each other.
    #[tokio::test]
    async fn our_certificate_is_shown_to_who_asks() {
        let server = identity(&["localhost"]);
        let client = identity(&["relay.example.com"]);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(trusting(&client));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let mut asking = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_cert_resolver(Arc::clone(&server_config(&[server]).unwrap().cert_resolver));
        asking.send_tls13_tickets = 0;
        let listener = listener();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            let (tcp, peer) = listener.accept().await.unwrap();
            accept(tcp, peer, Some(Arc::new(asking))).await.unwrap()
        });
        let config = client_config(Verification::Off, Some(&client)).unwrap();
        let _link = connect(&target("localhost", port, true), &config).await.unwrap();
        let accepted = accepting.await.unwrap();
        assert_eq!(peer_certificate(&accepted).as_ref(), Some(&client.chain()[0]));
    }

    #[tokio::test]
    async fn the_next_address_is_tried() {
        let (port, accepted) = serve(&[identity(&["localhost"])]);
        let tls = ClientTls::new(&target("localhost", port, true), &trusting_anyone()).unwrap();
        let good = SocketAddr::from(([127, 0, 0, 1], port));

        // Refused; speaking no TLS; saying nothing at all.
        let refusing = closed_port();
        let (plain_port, plain) = serve(&[]);
        let silent = listener();
        let plain_address = SocketAddr::from(([127, 0, 0, 1], plain_port));
        let answer = tokio::spawn(async move {
            let mut link = plain.await.unwrap().unwrap();
            link.write_all(b"MSRP 1234 400 What?\r\n").await.unwrap();
            sleep(Duration::from_secs(5)).await;
        });
        let addresses = [refusing, plain_address, silent.local_addr().unwrap(), good];
        let deadline = clock() + Duration::from_secs(2);
        let link = dial(&addresses, Some(&tls), deadline).await.unwrap();
        assert_eq!(link.peer(), good);
        assert!(clock() < deadline, "the silent one took more than its share");
        accepted.await.unwrap().unwrap();

        let addresses = [refusing, silent.local_addr().unwrap()];
        let Err(attempts) = dial(&addresses, Some(&tls), clock() + LINGER / 10).await else {
            panic!("nobody is there to speak TLS");
        };
        let [refused, timeout] = &attempts.0[..] else { panic!("{attempts}") };
        assert!(refused.failure.to_string().contains("refused"), "{attempts}");
        assert!(matches!(timeout.failure, AttemptError::Timeout { .. }), "{attempts}");
        answer.abort();
    }

    #[tokio::test]
    async fn errors_name_target_and_addresses() {
        let refusing = closed_port();
        let error = connect(&target("127.0.0.1", refusing.port(), true), &trusting_anyone()).await;
        let port = refusing.port();
        assert_eq!(
            error.unwrap_err().to_string(),
            format!(
                "cannot connect to msrps://127.0.0.1:{port}: 127.0.0.1:{port}: \
                 Connection refused (os error 111)"
            )
        );
        let error = connect(&target("::1", port, false), &trusting_anyone()).await.unwrap_err();
        let start = format!("cannot connect to msrp://[::1]:{port}: [::1]:{port}: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        let error = connect(&target("localhost", 0, false), &trusting_anyone()).await.unwrap_err();
        assert_eq!(error.to_string(), "port 0 of \"localhost\" cannot be dialled");
        let error = connect(&target("a b\n", 1, true), &trusting_anyone()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot connect to msrps://a b\\n:1: no host name that TLS could ask for"
        );
    }

    #[tokio::test]
    async fn ipv6_literals_are_dialled() {
        let listener = TcpListener::from_std(listen("[::1]:0".parse().unwrap()).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let dialled = connect(&target("::1", address.port(), false), &trusting_anyone()).await;
        assert_eq!(dialled.unwrap().peer(), address);
    }

    /// A TLS 1.2 client (whose handshake records are told apart from data) that keeps what it reads.
    struct Tap {
        tcp: std::net::TcpStream,
        seen: Vec<u8>,
    }

    impl Read for Tap {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let read = self.tcp.read(buf)?;
            self.seen.extend_from_slice(&buf[..read]);
            Ok(read)
        }
    }

    impl Write for Tap {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.tcp.write(buf)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.tcp.flush()
        }
    }

    impl Tap {
        /// How many records of application data came.
        fn data_records(&self) -> usize {
            let mut rest = &self.seen[..];
            let mut count = 0;
            while let [kind, _, _, high, low, ..] = *rest {
                count += usize::from(kind == 23);
                rest = &rest[5 + usize::from(u16::from_be_bytes([high, low]))..];
            }
            count
        }
    }

    /// Reads `length` bytes from a server that `anchors` vouch for; the bytes and their records.
    fn tapped_read(port: u16, anchors: RootCertStore, length: usize) -> (Vec<u8>, usize) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(anchors)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, Tap { tcp, seen: Vec::new() });
        let mut heard = vec![0; length];
        stream.read_exact(&mut heard).unwrap();
        (heard, stream.sock.data_records())
    }

    #[tokio::test]
    async fn vectored_writes_fill_records() {
        let server = identity(&["localhost"]);
        // Pieces of a hundred bytes in one record; 40 KiB in three.
        for (count, size, records) in [(100, 100, 1), (40, 1024, 3)] {
            let (port, accepted) = serve(std::slice::from_ref(&server));
            let anchors = trusting(&server);
            let reader = thread::spawn(move || tapped_read(port, anchors, count * size));
            let mut link = accepted.await.unwrap().unwrap();
            assert!(link.is_write_vectored());
            let pieces: Vec<Vec<u8>> =
                (0..count).map(|n| vec![u8::try_from(n).unwrap(); size]).collect();
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            assert_eq!(link.write_vectored(&slices).await.unwrap(), count * size);
            link.flush().await.unwrap();
            let (heard, seen) =
                tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap();
            assert_eq!(heard, pieces.concat());
            assert_eq!(seen, records);
        }
    }

    #[tokio::test]
    async fn plain_vectored_writes_are_one_call() {
        let (mut link, mut peer) = pair(false).await;
        let slices = [IoSlice::new(b"MSRP "), IoSlice::new(b"1234 "), IoSlice::new(b"SEND\r\n")];
        assert_eq!(link.write_vectored(&slices).await.unwrap(), 16);
        let mut heard = [0; 16];
        peer.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"MSRP 1234 SEND\r\n");
    }

    /// tokio-rustls buffers like a `BufWriter`: what a write took is not all sent without a flush.
    #[tokio::test]
    async fn a_flush_sends_what_a_write_took() {
        let (mut link, mut peer) = pair(true).await;
        let body: Vec<u8> = (0..1024 * 1024_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let mut taken = 0;
        // Small buffers in the kernel would make this quick; full ones make it certain.
        while let Some(n) = poll_once(&mut link, &body[taken % body.len()..]).await {
            taken += n;
        }
        assert!(link.has_unsent());
        let mut heard = vec![0; taken];
        let silence = Duration::from_millis(300);
        let mut arrived = 0;
        while let Ok(read) = timeout(silence, peer.read(&mut heard[arrived..])).await {
            arrived += read.unwrap();
        }
        assert!(arrived < taken, "nothing was buffered, so nothing is shown");
        // What waits in rustls, and a record of which the peer has a part.
        let waiting = taken - arrived;
        assert!(waiting <= TLS_BUFFER + 16 * 1024, "{waiting} bytes");

        let rest = taken - arrived;
        let flushing = async { link.flush().await.unwrap() };
        let reading = async { peer.read_exact(&mut heard[arrived..]).await.unwrap() };
        let ((), read) = tokio::join!(flushing, reading);
        assert_eq!(read, rest);
        assert!(!link.has_unsent());
        let cycle = body.iter().cycle().take(taken);
        assert!(heard.iter().eq(cycle), "bytes changed on their way");
    }

    /// One poll of a write: the bytes it took, none if it would have waited.
    async fn poll_once(link: &mut Link, bytes: &[u8]) -> Option<usize> {
        poll_fn(|cx| match Pin::new(&mut *link).poll_write(cx, bytes) {
            Poll::Ready(written) => Poll::Ready(Some(written.unwrap())),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// What a peer that has sent input which nobody read gets to see: bytes, and how they ended.
    async fn last_words(tls: bool, polite: bool) -> (Vec<u8>, io::Result<usize>) {
        let (mut peer, mut link) = pair(tls).await;
        peer.write_all(&vec![b'x'; 200_000]).await.unwrap();
        peer.flush().await.unwrap();
        link.write_all(b"MSRP 1234 REPORT\r\n").await.unwrap();
        let ending = tokio::spawn(async move {
            if polite {
                close(link, LINGER).await.unwrap();
            } else {
                link.flush().await.unwrap();
            }
        });
        sleep(Duration::from_millis(100)).await;
        let mut heard = Vec::new();
        let end = peer.read_to_end(&mut heard).await;
        drop(peer);
        ending.await.unwrap();
        (heard, end)
    }

    #[tokio::test]
    async fn a_polite_close_does_not_reset() {
        for tls in [false, true] {
            let (heard, end) = last_words(tls, true).await;
            assert_eq!(heard, b"MSRP 1234 REPORT\r\n");
            assert_eq!(end.unwrap(), heard.len());
            let (_, end) = last_words(tls, false).await;
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn a_close_ends_whatever_the_peer_does() {
        // The peer keeps the connection open.
        let (_peer, link) = pair(true).await;
        let start = clock();
        close(link, LINGER).await.unwrap();
        let taken = clock() - start;
        assert!(taken >= LINGER && taken < LINGER * 2, "{taken:?}");

        // The peer never stops talking.
        let (mut peer, link) = pair(false).await;
        let talking = tokio::spawn(async move {
            let mut said = 0;
            let words = vec![b'x'; 64 * 1024];
            while let Ok(n) = peer.write(&words).await {
                said += n;
            }
            said
        });
        let start = clock();
        close(link, LINGER).await.unwrap();
        assert!(clock() - start < LINGER, "not ended by {LINGER_BYTES} bytes");
        assert!(talking.await.unwrap() >= LINGER_BYTES);

        // The peer does not read.
        let (_peer, mut link) = pair(true).await;
        let body = vec![0; 64 * 1024];
        while poll_once(&mut link, &body).await.is_some() {}
        let drain = Duration::from_millis(200);
        let error = close(link, drain).await.unwrap_err();
        assert!(matches!(error, LinkError::DrainTimeout { after } if after == drain), "{error}");
    }

    #[test]
    fn targets_and_security_read_well() {
        assert_eq!(target("2001:db8::1", 2855, true).to_string(), "msrps://[2001:db8::1]:2855");
        assert_eq!(target("a.example", 9, false).to_string(), "msrp://a.example:9");
        assert_eq!(Security::Plain.to_string(), "plain TCP");
        let tls = Security::Tls {
            version: ProtocolVersion::TLSv1_3,
            suite: CipherSuite::TLS13_AES_256_GCM_SHA384,
        };
        assert_eq!(tls.to_string(), "TLSv1_3 TLS13_AES_256_GCM_SHA384");
    }
}
