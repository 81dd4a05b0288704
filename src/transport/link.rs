//! A connection, whatever secures it.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use rustls::{CipherSuite, CommonState, ProtocolVersion};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

use super::carrier::Carrier;

/// One open connection.
///
/// Writing is vectored, and pieces are gathered into as few TLS records as they fill. Over TLS a
/// write buffers like a `BufWriter`: bytes may have been taken and not sent, so end every run of
/// writes with a flush. Reading ends with `Ok(0)` where the peer said that it is done (FIN,
/// `close_notify`), and over TLS with `UnexpectedEof` where it hung up without a word; MSRP's
/// frames tell for themselves whether they are whole.
#[derive(Debug)]
pub struct Link {
    pub(super) stream: Stream,
    peer: SocketAddr,
    local: SocketAddr,
    security: Security,
}

#[derive(Debug)]
pub(super) enum Stream {
    Plain(Carrier),
    Tls(Box<TlsStream<Carrier>>),
}

impl Link {
    pub(super) fn plain(tcp: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        let local = tcp.local_addr()?;
        Ok(Self {
            stream: Stream::Plain(Carrier::new(tcp)),
            peer,
            local,
            security: Security::Plain,
        })
    }

    pub(super) fn secured(tls: TlsStream<Carrier>, peer: SocketAddr) -> io::Result<Self> {
        let (carrier, session) = tls.get_ref();
        let local = carrier.tcp().local_addr()?;
        let security = Security::negotiated(session);
        Ok(Self { stream: Stream::Tls(Box::new(tls)), peer, local, security })
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

    /// Octets that the kernel took so far, of what was written and of TLS around it.
    pub fn sent(&self) -> u64 {
        match &self.stream {
            Stream::Plain(carrier) => carrier.sent(),
            Stream::Tls(tls) => tls.get_ref().0.sent(),
        }
    }

    pub(super) fn tcp(&mut self) -> &mut TcpStream {
        match &mut self.stream {
            Stream::Plain(carrier) => carrier.tcp_mut(),
            Stream::Tls(tls) => tls.get_mut().0.tcp_mut(),
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
            Stream::Plain(carrier) => Pin::new(carrier).poll_read(cx, buf),
            Stream::Tls(tls) => {
                tls.get_mut().0.set_room(buf.remaining());
                Pin::new(tls).poll_read(cx, buf)
            }
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
            Stream::Plain(carrier) => Pin::new(carrier).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(carrier) => Pin::new(carrier).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(carrier) => Pin::new(carrier).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(carrier) => Pin::new(carrier).poll_shutdown(cx),
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
            version: session.protocol_version().unwrap_or(ProtocolVersion::Unknown(0)),
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
