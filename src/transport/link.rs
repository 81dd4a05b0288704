//! An open connection, over any transport.

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

use super::{
    carrier::Layer,
    socket::{Acknowledged, acknowledged},
};

/// One open connection.
///
/// Writes are vectored: slices are gathered into as few TLS records as possible. Over TLS a write
/// buffers like a `BufWriter`: octets that it accepted may not have been sent, so end each run of
/// writes with a flush.
///
/// A read returns `Ok(0)` when the peer has ended its output with FIN or `close_notify`. Over TLS,
/// a FIN without `close_notify` is the error `UnexpectedEof`. That need not be fatal: MSRP frames
/// show whether they are complete.
#[derive(Debug)]
pub struct Link {
    pub(super) layer: Box<dyn Layer>,
    peer: SocketAddr,
    local: SocketAddr,
    security: Security,
}

impl Link {
    pub(super) fn new(layer: impl Layer + 'static, peer: SocketAddr) -> io::Result<Self> {
        let local = layer.carrier().tcp().local_addr()?;
        let security = layer.session().map_or(Security::Plain, Security::negotiated);
        Ok(Self { layer: Box::new(layer), peer, local, security })
    }

    /// Address of the other end: the one given to [`accept`](super::accept), or the one dialled.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Address of this end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub fn security(&self) -> Security {
        self.security
    }

    /// Octets that the kernel has taken so far. Over TLS these are octets of records.
    pub fn sent(&self) -> u64 {
        self.layer.carrier().sent()
    }

    /// How much of [`sent`](Self::sent) the peer's kernel has, and when it said so; asks the kernel.
    pub(super) fn acknowledged(&self) -> io::Result<Acknowledged> {
        acknowledged(self.layer.carrier().tcp())
    }

    /// Most octets that the transport adds to so many octets of one write.
    pub(super) fn overhead(&self, octets: usize) -> usize {
        self.layer.overhead(octets)
    }

    /// Most octets of which the peer can use none before it has all.
    pub(super) fn record(&self) -> usize {
        self.layer.record()
    }

    pub(super) fn tcp(&mut self) -> &mut TcpStream {
        self.layer.carrier_mut().tcp_mut()
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.layer.expect(buf.remaining());
        Pin::new(&mut *self.layer).poll_read(cx, buf)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.layer).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.layer).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.layer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.layer).poll_shutdown(cx)
    }
}

/// How a connection is secured. Its text form is for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Plain TCP, the scheme `msrp`.
    Plain,
    /// TLS, the scheme `msrps`.
    Tls { version: ProtocolVersion, suite: CipherSuite },
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
        super::{
            secured::TLS_BUFFER,
            tests::{pair, poll_once, serve},
        },
        *,
    };
    use crate::tls::tests::{identity, roots};

    /// A TCP stream that keeps all it reads. Its client uses TLS 1.2, where handshake records can
    /// be told from data.
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
        /// Number of records of application data that were read.
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

    /// Reads `length` octets from a server whose certificate `anchors` verify. Returns the octets,
    /// and in how many records they came.
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
        // A hundred slices of 100 octets fit into one record; 40 KiB need three.
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

    /// Whether octets that a write accepted still wait for a flush.
    fn has_unsent(link: &Link) -> bool {
        link.layer.session().is_some_and(CommonState::wants_write)
    }

    /// tokio-rustls buffers like a `BufWriter`: without a flush, not all that a write accepted is
    /// sent.
    #[tokio::test]
    async fn a_flush_sends_what_a_write_took() {
        let (mut link, mut peer) = pair(true).await;
        let body: Vec<u8> = (0..1024 * 1024_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let mut taken = 0;
        // Fill the buffers of the kernel, so that TLS has to keep some octets.
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
        // What waits is in rustls, and in a record that has reached the peer only in part.
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
