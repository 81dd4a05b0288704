//! What carries the octets of a link: TCP, alone or below something else. With read-ahead for TLS.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use rustls::CommonState;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

/// Most octets read ahead at once.
const MOST: usize = 64 * 1024;

/// What carries the octets of a [`Link`](super::Link): TCP, or what runs over it. A new transport
/// implements this in a file of its own.
pub(super) trait Layer: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {
    /// The TCP connection below.
    fn carrier(&self) -> &Carrier;

    fn carrier_mut(&mut self) -> &mut Carrier;

    /// The TLS session, if there is one.
    fn session(&self) -> Option<&CommonState>;

    /// Most octets that this layer adds to so many octets of one write.
    fn overhead(&self, octets: usize) -> usize;

    /// Most octets of one record: the peer can use none of them before it has all.
    fn record(&self) -> usize;

    /// Called before each read, with the room for it.
    fn expect(&mut self, octets: usize);
}

/// A TCP connection that reads ahead and counts what it has sent.
///
/// rustls asks for 4 KiB at a time, which makes five system calls for a full record. The carrier
/// reads as much at once as the caller of TLS has room for, and keeps it until rustls has taken it.
#[derive(Debug)]
pub(super) struct Carrier {
    tcp: TcpStream,
    /// Octets that were read but not taken yet. Holds no memory while it is empty.
    block: BytesMut,
    /// How many octets to read ahead.
    room: usize,
    sent: u64,
}

impl Carrier {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, block: BytesMut::new(), room: 0, sent: 0 }
    }

    /// Sets how much to read ahead: as many octets as the caller has room for plaintext. A record
    /// is longer than its plaintext, so what is read ahead is soon used up.
    pub(super) fn set_room(&mut self, octets: usize) {
        self.room = octets.min(MOST);
    }

    /// Octets that the kernel has accepted so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    fn count(&mut self, taken: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(octets)) = &taken {
            self.sent += *octets as u64;
        }
        taken
    }
}

/// Plain TCP.
impl Layer for Carrier {
    fn carrier(&self) -> &Carrier {
        self
    }

    fn carrier_mut(&mut self) -> &mut Carrier {
        self
    }

    fn session(&self) -> Option<&CommonState> {
        None
    }

    fn overhead(&self, _octets: usize) -> usize {
        0
    }

    fn record(&self) -> usize {
        0
    }

    fn expect(&mut self, _octets: usize) {}
}

impl AsyncRead for Carrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { tcp, block, room, .. } = &mut *self;
        if block.is_empty() {
            if *room <= buf.remaining() {
                return Pin::new(tcp).poll_read(cx, buf);
            }
            // Allocate nothing for a socket without input.
            ready!(tcp.poll_read_ready(cx))?;
            block.reserve(*room);
            match poll_read_buf(Pin::new(tcp), cx, block) {
                Poll::Ready(Ok(octets)) if octets > 0 => {}
                other => {
                    *block = BytesMut::new();
                    return other.map_ok(drop);
                }
            }
        }
        let octets = block.len().min(buf.remaining());
        buf.put_slice(&block[..octets]);
        block.advance(octets);
        if block.is_empty() {
            *block = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.count(taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.count(taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (TcpStream, Carrier) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (peer, Carrier::new(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn all_that_was_read_ahead_is_given_out() {
        let (mut peer, mut carrier) = pair().await;
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move { peer.write_all(&sent).await.unwrap() });
        let (mut heard, mut ahead) = (Vec::new(), 0);
        for room in [0, 1, 5_000, 64 * 1024, usize::MAX, 3].into_iter().cycle() {
            carrier.set_room(room);
            let mut buf = [0; 4096];
            let octets = carrier.read(&mut buf).await.unwrap();
            if octets == 0 {
                break;
            }
            heard.extend_from_slice(&buf[..octets]);
            ahead = ahead.max(carrier.block.len());
            assert!(carrier.block.capacity() <= MOST);
            assert!(!carrier.block.is_empty() || carrier.block.capacity() == 0, "held for nothing");
        }
        assert_eq!(heard, expected);
        assert!(ahead > 4096, "{ahead}");
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn what_the_kernel_takes_is_counted() {
        let (_peer, mut carrier) = pair().await;
        carrier.write_all(b"MSRP").await.unwrap();
        let slices = [IoSlice::new(b"12"), IoSlice::new(b"345")];
        assert_eq!(carrier.write_vectored(&slices).await.unwrap(), 5);
        assert_eq!(carrier.sent(), 9);
    }
}
