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

/// Bytes that rustls holds per connection while the kernel takes none. More than is read at once,
/// so that it leaves with the heads and end-lines around it in one system call; a response waits
/// behind at most this much.
pub const TLS_BUFFER: usize = 96 * 1024;

/// One open connection.
///
/// Writing is vectored, and pieces are gathered into as few TLS records as they fill. Over TLS a
/// write buffers like a `BufWriter`: bytes may have been taken and not sent, so end every run of
/// writes with a flush. Reading ends with `Ok(0)` where the peer said that it is done (FIN,
/// `close_notify`), and over TLS with `UnexpectedEof` where it hung up without a word; MSRP's
/// frames tell for themselves whether they are whole.
#[derive(Debug)]
pub struct Link {
    pub(super) layer: Layer,
    peer: SocketAddr,
    local: SocketAddr,
    security: Security,
}

#[derive(Debug)]
pub(super) enum Layer {
    Plain(Carrier),
    Tls(Box<TlsStream<Carrier>>),
}

impl Link {
    pub(super) fn plain(tcp: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        let local = tcp.local_addr()?;
        Ok(Self { layer: Layer::Plain(Carrier::new(tcp)), peer, local, security: Security::Plain })
    }

    pub(super) fn secured(tls: TlsStream<Carrier>, peer: SocketAddr) -> io::Result<Self> {
        let (carrier, session) = tls.get_ref();
        let local = carrier.tcp().local_addr()?;
        let security = Security::negotiated(session);
        Ok(Self { layer: Layer::Tls(Box::new(tls)), peer, local, security })
    }

    /// The other end, as the caller of [`accept`](super::accept) named it or as it was dialled.
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

    /// Octets that the kernel took so far, of what was written and of TLS around it.
    pub fn sent(&self) -> u64 {
        match &self.layer {
            Layer::Plain(carrier) => carrier.sent(),
            Layer::Tls(tls) => tls.get_ref().0.sent(),
        }
    }

    pub(super) fn tcp(&mut self) -> &mut TcpStream {
        match &mut self.layer {
            Layer::Plain(carrier) => carrier.tcp_mut(),
            Layer::Tls(tls) => tls.get_mut().0.tcp_mut(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(carrier) => Pin::new(carrier).poll_read(cx, buf),
            Layer::Tls(tls) => {
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
        match &mut self.layer {
            Layer::Plain(carrier) => Pin::new(carrier).poll_write(cx, buf),
            Layer::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(carrier) => Pin::new(carrier).poll_write_vectored(cx, bufs),
            Layer::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(carrier) => Pin::new(carrier).poll_flush(cx),
            Layer::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(carrier) => Pin::new(carrier).poll_shutdown(cx),
            Layer::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
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

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSlice, Read, Write},
        sync::Arc,
        thread,
        time::Duration,
    };

    use rustls::{ClientConfig, RootCertStore, pki_types::ServerName, version::TLS12};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::{
        super::tests::{pair, poll_once, serve},
        *,
    };
    use crate::tls::tests::{identity, roots};

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
            let anchors = roots(&server);
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

    /// Whether bytes that were taken by a write still wait for a flush.
    fn has_unsent(link: &Link) -> bool {
        match &link.layer {
            Layer::Plain(_) => false,
            Layer::Tls(tls) => tls.get_ref().1.wants_write(),
        }
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
        assert!(has_unsent(&link));
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
        assert!(!has_unsent(&link));
        let cycle = body.iter().cycle().take(taken);
        assert!(heard.iter().eq(cycle), "bytes changed on their way");
    }
}
