//! The one driver of a link: what was read and not taken, and what waits to be written.
//!
//! A [`Stream`] reads into blocks of memory that it hands on without a copy, and writes a queue of
//! chunks. It knows what TLS needs (a flush after each run of writes) and keeps the reason when
//! the connection is lost. When to read and to write is decided by its user.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::{closing::close, error::LinkError, link::Link};
use crate::msrp::ChunkQueue;

/// Most pieces handed to the socket at once.
const SLICES: usize = 64;

/// One open connection with its unread input.
#[derive(Debug)]
pub struct Stream {
    link: Link,
    /// Octets that were read and that nobody has taken.
    pub input: BytesMut,
    ended: Option<Loss>,
    /// TLS has taken octets that may not be with the kernel.
    unflushed: bool,
    /// [`Link::sent`] when the socket last took no more.
    blocked_at: Option<u64>,
    traffic: Arc<Traffic>,
}

/// Octets of MSRP that one connection carried. One task writes, any may read.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

/// Sizes of the blocks that input is read into, in octets.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// A whole block.
    pub size: usize,
    /// Room below which the rest of a block is not used any more.
    pub least: usize,
}

/// How the input of a connection ended, or why it takes no output.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    /// FIN; over TLS after `close_notify`.
    #[error("closed by the peer")]
    Closed,
    /// FIN over TLS, without `close_notify`.
    #[error("closed by the peer without close_notify")]
    Truncated,
    /// RST.
    #[error("reset by the peer")]
    Reset,
    /// The kernel gave up: `TCP_USER_TIMEOUT`, or keep-alives without an answer.
    #[error("the peer's host does not answer any more")]
    Unanswered,
    /// An alert, a bad record, or another fault of TLS.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// Anything else.
    #[error("{0}")]
    Failed(io::Error),
}

/// What is written: a queue that is told what the socket took.
pub trait Outgoing {
    /// The octets that wait.
    fn queue(&self) -> &ChunkQueue;
    /// The socket took so many octets from the front.
    fn taken(&mut self, octets: usize);
}

/// What one run of writes did.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Octets that left the queue.
    pub octets: usize,
    /// The socket takes nothing more, and not all that it was offered has gone.
    pub blocked: bool,
    /// `blocked` is new, or the kernel took something since it was last said.
    pub moved: bool,
}

impl Stream {
    /// Drives a link that has just been opened.
    pub fn new(link: Link) -> Self {
        Self {
            link,
            input: BytesMut::new(),
            ended: None,
            unflushed: false,
            blocked_at: None,
            traffic: Arc::default(),
        }
    }

    /// The connection itself.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// What it carried so far.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// How the input ended, if it has. What was read before is in [`input`](Self::input).
    pub fn ended(&self) -> Option<&Loss> {
        self.ended.as_ref()
    }

    /// Reads what there is, up to the end of a block; returns how many octets came. When there
    /// are none and the input goes on, the task is woken later.
    ///
    /// TLS gives a record at a time, and passing a record on costs a system call: so this reads
    /// until the block is full.
    pub fn poll_fill(&mut self, blocks: Blocks, cx: &mut Context<'_>) -> usize {
        let input = &mut self.input;
        let room = blocks.size.saturating_sub(input.len()).max(blocks.least);
        // A block of which nothing waits any more is read into again.
        if !input.try_reclaim(room) && input.capacity() - input.len() < blocks.least {
            input.reserve(room);
        }
        let before = input.len();
        while input.capacity() > input.len() && self.ended.is_none() {
            match poll_read_buf(Pin::new(&mut self.link), cx, input) {
                Poll::Ready(Ok(0)) => self.ended = Some(Loss::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => self.ended = Some(error.into()),
                Poll::Pending => break,
            }
        }
        let filled = input.len() - before;
        Traffic::add(&self.traffic.received, filled);
        filled
    }

    /// Gives up the read block of a connection that is idle.
    pub fn release(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Waits until more input has come; `Err` at its end.
    pub async fn fill(&mut self, blocks: Blocks) -> Result<usize, &Loss> {
        let filled = poll_fn(|cx| match self.poll_fill(blocks, cx) {
            0 if self.ended.is_none() => Poll::Pending,
            filled => Poll::Ready(filled),
        })
        .await;
        match &self.ended {
            Some(loss) if filled == 0 => Err(loss),
            _ => Ok(filled),
        }
    }

    /// Writes as much as the socket takes, `most` octets or a little more.
    pub fn poll_write(
        &mut self,
        output: &mut impl Outgoing,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Result<Written, Loss> {
        let mut octets = 0;
        let mut blocked = false;
        while !output.queue().is_empty() && octets < most {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = output.queue().slices(&mut slices);
            match Pin::new(&mut self.link).poll_write_vectored(cx, &slices[..filled]) {
                Poll::Ready(Ok(0)) => return Err(Loss::Failed(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    output.taken(written);
                    octets += written;
                    Traffic::add(&self.traffic.sent, written);
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => {
                    blocked = true;
                    break;
                }
            }
        }
        // TLS keeps octets like a `BufWriter`: without a flush the last ones would wait for ever.
        if self.unflushed {
            match Pin::new(&mut self.link).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => blocked = true,
            }
        }
        let before = self.blocked_at;
        self.blocked_at = blocked.then(|| self.link.sent());
        Ok(Written { octets, blocked, moved: octets > 0 || self.blocked_at != before })
    }

    /// Waits until the whole queue is with the kernel.
    pub async fn write(&mut self, output: &mut impl Outgoing) -> Result<(), Loss> {
        poll_fn(|cx| match self.poll_write(output, usize::MAX, cx) {
            Ok(Written { blocked: true, .. }) => Poll::Pending,
            Ok(_) => Poll::Ready(Ok(())),
            Err(loss) => Poll::Ready(Err(loss)),
        })
        .await
    }

    /// Forgets that the socket was blocked: the next run of writes tells it anew.
    pub fn restart(&mut self) {
        self.blocked_at = None;
    }

    /// Closes so that the last octets arrive, see [`close`].
    pub async fn close(self, drain: Duration) -> Result<(), LinkError> {
        close(self.link, drain).await
    }
}

impl Traffic {
    /// Octets that came from the peer.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Octets that went to the peer.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// One task writes: no locked instruction is needed.
    fn add(counter: &AtomicU64, octets: usize) {
        counter.store(counter.load(Ordering::Relaxed) + octets as u64, Ordering::Relaxed);
    }
}

impl Outgoing for ChunkQueue {
    fn queue(&self) -> &ChunkQueue {
        self
    }

    fn taken(&mut self, octets: usize) {
        self.advance(octets);
    }
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => return Self::Truncated,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => return Self::Reset,
            io::ErrorKind::TimedOut => return Self::Unanswered,
            _ => {}
        }
        match error.downcast::<rustls::Error>() {
            Ok(error) => Self::Tls(error),
            Err(error) => Self::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use bytes::Bytes;
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{super::tests::pair, *};

    const BLOCKS: Blocks = Blocks { size: 4096, least: 1024 };

    #[tokio::test]
    async fn what_is_written_arrives_and_is_counted() {
        for tls in [false, true] {
            let (mut peer, link) = pair(tls).await;
            let mut stream = Stream::new(link);
            let mut queue = ChunkQueue::default();
            queue.push_slice(b"MSRP ");
            queue.push(Bytes::from(vec![b'x'; 100_000]));
            let reading = tokio::spawn(async move {
                let mut heard = vec![0; 100_005];
                peer.read_exact(&mut heard).await.unwrap();
                (peer, heard)
            });
            stream.write(&mut queue).await.unwrap();
            let (mut peer, heard) = reading.await.unwrap();
            assert!(heard.starts_with(b"MSRP xxx"));
            assert!(queue.is_empty());
            assert_eq!(stream.traffic().sent(), 100_005);
            peer.write_all(b"pong").await.unwrap();
            peer.flush().await.unwrap();
            assert_eq!(stream.fill(BLOCKS).await.unwrap(), 4);
            assert_eq!(&stream.input[..], b"pong");
            assert_eq!(stream.traffic().received(), 4);
        }
    }

    #[tokio::test]
    async fn a_loss_has_its_reason() {
        for (tls, polite, expected) in [
            (false, true, "closed by the peer"),
            (true, true, "closed by the peer"),
            (true, false, "closed by the peer without close_notify"),
        ] {
            let (mut peer, link) = pair(tls).await;
            let mut stream = Stream::new(link);
            if polite {
                peer.shutdown().await.unwrap();
            } else {
                SockRef::from(&*peer.tcp()).shutdown(Shutdown::Write).unwrap();
            }
            assert_eq!(stream.fill(BLOCKS).await.unwrap_err().to_string(), expected, "{tls}");
        }
        for tls in [false, true] {
            let (mut peer, link) = pair(tls).await;
            SockRef::from(&*peer.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
            let mut stream = Stream::new(link);
            assert_eq!(stream.fill(BLOCKS).await.unwrap_err().to_string(), "reset by the peer");
        }
        // Octets that are no TLS record.
        let (mut peer, link) = pair(true).await;
        peer.tcp().write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut stream = Stream::new(link);
        let loss = stream.fill(BLOCKS).await.unwrap_err().to_string();
        assert!(loss.starts_with("TLS: "), "{loss}");
    }

    #[tokio::test]
    async fn a_blocked_socket_is_told_and_so_is_its_progress() {
        let (mut peer, link) = pair(true).await;
        let mut stream = Stream::new(link);
        let mut queue = ChunkQueue::default();
        for _ in 0..4_000 {
            queue.push(Bytes::from(vec![b'x'; 16 * 1024]));
        }
        let mut turn = async || {
            poll_fn(|cx| Poll::Ready(stream.poll_write(&mut queue, usize::MAX, cx).unwrap())).await
        };
        let first = turn().await;
        assert!(first.blocked && first.moved && first.octets > 0);
        let second = turn().await;
        assert!(second.blocked && !second.moved, "{second:?}");
        let mut heard = vec![0; first.octets / 2];
        peer.read_exact(&mut heard).await.unwrap();
        // The kernel has room again, now or a little later.
        for _ in 0..100 {
            if turn().await.moved {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing moves");
    }
}
