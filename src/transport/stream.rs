//! The one driver of a link, with its unread input.
//!
//! A [`Stream`] reads into blocks of memory that are passed on without a copy, and writes a queue
//! of chunks. It flushes after each run of writes, which TLS needs, and keeps the reason when the
//! connection is lost. Its user decides when to read and when to write.

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
use tokio::{
    io::{AsyncWrite, Interest, Ready},
    time::sleep,
};
use tokio_util::io::poll_read_buf;

use super::{closing::close, error::LinkError, link::Link};
use crate::msrp::ChunkQueue;

/// Most slices given to the socket in one write.
const SLICES: usize = 64;

/// How often a connection whose input is not read is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// One open connection with its unread input and its counters.
#[derive(Debug)]
pub struct Stream {
    link: Link,
    /// Octets that were read and not taken yet. The user takes them from the front.
    pub input: BytesMut,
    ended: Option<Loss>,
    /// TLS has accepted octets that it may not have passed to the kernel yet.
    unflushed: bool,
    /// Octets that TLS has taken and the kernel may not have, its own included; never less than
    /// there are.
    buffered: u64,
    /// The value of [`Link::sent`] when the socket last blocked.
    blocked_at: Option<u64>,
    traffic: Arc<Traffic>,
}

/// Octets of MSRP that one connection has carried, without TLS. One task writes them; any task may
/// read them.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

/// Sizes of the blocks that input is read into, in octets.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// Size of a fresh block.
    pub size: usize,
    /// If less room than this is left in a block, the next read uses a fresh one.
    pub least: usize,
}

/// Why the input of a connection ended, or why it accepts no more output.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    /// FIN. Over TLS: `close_notify`.
    #[error("closed by the peer")]
    Closed,
    /// FIN over TLS, without `close_notify`.
    #[error("closed by the peer without close_notify")]
    Truncated,
    /// RST.
    #[error("reset by the peer")]
    Reset,
    /// The kernel gave the connection up: `TCP_USER_TIMEOUT`, or unanswered keep-alive probes.
    #[error("the peer's host does not answer any more")]
    Unanswered,
    /// A TLS error, such as an alert or a bad record.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// Any other error of the socket.
    #[error("{0}")]
    Failed(io::Error),
}

/// A queue to be written, whose owner learns what the socket has taken.
pub trait Outgoing {
    /// The octets that wait to be written.
    fn queue(&self) -> &ChunkQueue;
    /// The socket took this many octets from the front. Must remove them from the queue.
    fn taken(&mut self, octets: usize);
}

/// Outcome of one run of writes.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Octets that left the queue.
    pub octets: usize,
    /// The socket accepts no more for now, and some of what it was offered has not been sent.
    pub blocked: bool,
    /// There was progress since the last run, or `blocked` is new. Progress means that octets left
    /// the queue, or that the kernel took some from TLS.
    pub moved: bool,
}

/// What has not arrived at the peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Octets of what was written that the peer's kernel may not have; never less than there are.
    pub octets: u64,
    /// Most octets before those that the peer cannot use yet, although its kernel has them.
    pub unusable: u64,
    /// The peer's kernel has had all others for this long at least.
    pub age: Duration,
    /// How long an octet and its acknowledgement take at present, by a cautious estimate.
    pub round_trip: Duration,
}

impl Stream {
    /// Takes over a link that has just been opened.
    pub fn new(link: Link) -> Self {
        Self {
            link,
            input: BytesMut::new(),
            ended: None,
            unflushed: false,
            buffered: 0,
            blocked_at: None,
            traffic: Arc::default(),
        }
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Counters of the octets carried so far. They outlive the stream.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Why the input ended, if it has. Octets that were read before are still in
    /// [`input`](Self::input).
    pub fn ended(&self) -> Option<&Loss> {
        self.ended.as_ref()
    }

    /// Like [`ended`](Self::ended), but gives the reason away. The next read finds the end of the
    /// input again.
    pub fn take_ended(&mut self) -> Option<Loss> {
        self.ended.take()
    }

    /// Reads until the block is full or the socket has no more. Returns how many octets were read.
    /// If there are none and the input has not ended, the task is woken when there is more.
    ///
    /// One read from TLS returns one record at most. Passing on each record by itself would cost a
    /// system call for each, so this fills the block.
    pub fn poll_fill(&mut self, blocks: Blocks, cx: &mut Context<'_>) -> usize {
        let input = &mut self.input;
        let room = blocks.size.saturating_sub(input.len()).max(blocks.least);
        // If none of the block's octets is in use any more, it is read into again.
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

    /// Frees the read block of an idle connection.
    pub fn release(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Waits for more input and returns the number of octets read. The error is the reason why the
    /// input ended.
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

    /// Waits until the peer hangs up. Reads until at least one block is unread; beyond that it only
    /// looks now and then.
    pub async fn hang_up(&mut self, blocks: Blocks) -> Loss {
        while self.input.len() < blocks.size {
            if self.fill(blocks).await.is_err() {
                return self.take_ended().unwrap_or(Loss::Closed);
            }
        }
        // The kernel tells of FIN and RST although octets that came before are unread.
        while !self.link.tcp().ready(Interest::READABLE).await.is_ok_and(Ready::is_read_closed) {
            sleep(LOOK).await;
        }
        Loss::Closed
    }

    /// Writes until the queue is empty, the socket blocks, or at least `most` octets have been
    /// written.
    pub fn poll_write(
        &mut self,
        output: &mut impl Outgoing,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Result<Written, Loss> {
        let mut octets = 0;
        let mut blocked = false;
        let sent_before = self.link.sent();
        while !output.queue().is_empty() && octets < most {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = output.queue().slices(&mut slices);
            match Pin::new(&mut self.link).poll_write_vectored(cx, &slices[..filled]) {
                Poll::Ready(Ok(0)) => return Err(Loss::Failed(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    output.taken(written);
                    octets += written;
                    Traffic::add(&self.traffic.sent, written);
                    self.buffered += (written + self.link.overhead(written)) as u64;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => {
                    blocked = true;
                    break;
                }
            }
        }
        // tokio-rustls buffers like a `BufWriter`. Without a flush, the last octets would never
        // leave.
        if self.unflushed {
            match Pin::new(&mut self.link).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    self.buffered = 0;
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => {
                    blocked = true;
                    let sent = self.link.sent() - sent_before;
                    self.buffered = self.buffered.saturating_sub(sent);
                }
            }
        }
        let before = self.blocked_at;
        self.blocked_at = blocked.then(|| self.link.sent());
        Ok(Written { octets, blocked, moved: octets > 0 || self.blocked_at != before })
    }

    /// Waits until the kernel has taken the whole queue.
    pub async fn write(&mut self, output: &mut impl Outgoing) -> Result<(), Loss> {
        poll_fn(|cx| match self.poll_write(output, usize::MAX, cx) {
            Ok(Written { blocked: true, .. }) => Poll::Pending,
            Ok(_) => Poll::Ready(Ok(())),
            Err(loss) => Poll::Ready(Err(loss)),
        })
        .await
    }

    /// How much of what was written has not arrived at the peer's kernel, as far as the kernel can
    /// tell.
    pub fn outstanding(&self) -> io::Result<Outstanding> {
        let acknowledged = self.link.acknowledged()?;
        let octets = self.link.sent().saturating_sub(acknowledged.octets) + self.buffered;
        let (mut age, mut unusable) = (acknowledged.heard, 0);
        if octets == 0 {
            // The last acknowledgement of data came soon after the last data; what came later may
            // have acknowledged nothing.
            age = age.max(acknowledged.transmitted.saturating_sub(acknowledged.round_trip));
        } else {
            // What was acknowledged last may be part of a record of which the rest is on its way.
            unusable = self.link.record() as u64;
        }
        Ok(Outstanding { octets, unusable, age, round_trip: acknowledged.round_trip })
    }

    /// Forgets that the socket blocked, so that the next run of writes reports it as new.
    pub fn restart(&mut self) {
        self.blocked_at = None;
    }

    /// Closes the link so that the last octets arrive, see [`close`].
    pub async fn close(self, drain: Duration) -> Result<(), LinkError> {
        close(self.link, drain).await
    }
}

impl Traffic {
    /// Octets received from the peer.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Octets sent to the peer.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Adds without a locked instruction, because only one task writes.
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
    use std::{net::Shutdown, pin::pin};

    use bytes::Bytes;
    use socket2::SockRef;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

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
    async fn a_peer_that_hangs_up_is_noticed_whatever_is_unread() {
        // Nothing, part of a block, and more than the block.
        for (tls, said) in [(false, 0), (false, 10), (false, 50_000), (true, 10), (true, 50_000)] {
            let (mut peer, link) = pair(tls).await;
            let mut stream = Stream::new(link);
            peer.write_all(&vec![b'x'; said]).await.unwrap();
            peer.flush().await.unwrap();
            {
                let mut noticed = pin!(stream.hang_up(BLOCKS));
                let stays = timeout(Duration::from_millis(700), noticed.as_mut()).await;
                assert!(stays.is_err(), "{tls} {said}");
                peer.shutdown().await.unwrap();
                let loss = timeout(Duration::from_secs(10), noticed).await.expect("noticed");
                assert!(matches!(loss, Loss::Closed), "{tls} {said}: {loss}");
            }
            let unread = stream.input.len();
            assert!(unread == said || unread >= BLOCKS.size, "{unread}");
            assert!(unread <= 2 * BLOCKS.size, "{unread}");
        }
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
