//! Frames over one link, both directions in one task.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::{
    msrp::{ChunkQueue, DecodeError, Decoder, Event},
    transport::{self, Link},
};

/// Octets read at a time. Pieces of this size reach the disk unchanged.
const READ: usize = 256 * 1024;
/// Room below which a new read buffer is taken.
const READ_AT_LEAST: usize = 32 * 1024;
/// Slices of one vectored write.
const SLICES: usize = 16;

/// Why a connection can no longer be used.
#[derive(Debug, Error)]
pub enum Lost {
    /// The peer said that it is done, or hung up.
    #[error("the other side closed the connection")]
    Closed,
    /// The network failed.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// What came in is not MSRP.
    #[error("the other side does not speak MSRP as it should: {0}")]
    Framing(DecodeError),
}

/// A link with its decoder and what waits to be written.
#[derive(Debug)]
pub struct Connection {
    link: Link,
    decoder: Decoder,
    input: BytesMut,
    output: ChunkQueue,
    unflushed: bool,
    ended: Option<Lost>,
    failed_write: Option<io::Error>,
}

impl Connection {
    /// Takes over a fresh link.
    pub fn new(link: Link) -> Self {
        Self {
            link,
            decoder: Decoder::default(),
            input: BytesMut::new(),
            output: ChunkQueue::default(),
            unflushed: false,
            ended: None,
            failed_write: None,
        }
    }

    /// The link.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// What waits to be written.
    pub fn output(&self) -> &ChunkQueue {
        &self.output
    }

    /// To append to what waits to be written; [`turn`](Self::turn) writes it.
    pub fn output_mut(&mut self) -> &mut ChunkQueue {
        &mut self.output
    }

    /// Writes what waits and reads, until there is an event, or (`None`) until no more than `mark`
    /// octets wait, or until the connection is lost, which is told only after the last event. May
    /// be dropped and called again: nothing is lost.
    pub async fn turn(&mut self, mark: Option<usize>) -> Result<Option<Event>, Lost> {
        loop {
            if let Some(event) = self.decoder.next(&mut self.input).map_err(Lost::Framing)? {
                return Ok(Some(event));
            }
            if let Some(lost) = self.ended.take() {
                return Err(lost);
            }
            if poll_fn(|cx| self.poll_turn(mark, cx)).await {
                return Ok(None);
            }
        }
    }

    /// Waits until everything is written, for the end of a conversation; input is kept.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_output(cx)).await
    }

    /// Closes so that the last bytes arrive.
    pub async fn close(mut self, drain: Duration) {
        let flushed = tokio::time::timeout(drain, self.flush()).await;
        if matches!(flushed, Ok(Ok(()))) {
            // Everything that had to be said has been said.
            let _: Result<_, _> = transport::close(self.link, drain).await;
        }
    }

    /// Ready with `false` when there is input (or its end), with `true` when the mark is reached.
    fn poll_turn(&mut self, mark: Option<usize>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.failed_write.is_none()
            && let Poll::Ready(Err(error)) = self.poll_output(cx)
        {
            // The peer's last words may still be in the socket: the reading end tells.
            self.failed_write = Some(error);
        }
        if self.poll_input(cx).is_ready() {
            return Poll::Ready(false);
        }
        match mark {
            Some(mark) if self.output.len() <= mark => Poll::Ready(true),
            _ => Poll::Pending,
        }
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outcome = Poll::Ready(Ok(()));
        while !self.output.is_empty() && outcome.is_ready() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.output.slices(&mut slices);
            match Pin::new(&mut self.link).poll_write_vectored(cx, &slices[..filled]) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => outcome = Poll::Pending,
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.link).poll_flush(cx))?;
            self.unflushed = false;
        }
        outcome
    }

    /// Ready when at least one octet was read, or the input has ended.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut read = 0;
        if self.input.capacity() - self.input.len() < READ_AT_LEAST {
            self.input.reserve(READ);
        }
        while self.input.capacity() > self.input.len() && self.ended.is_none() {
            let outcome = {
                let reading = pin!(self.link.read_buf(&mut self.input));
                reading.poll(cx)
            };
            match outcome {
                Poll::Ready(Ok(0)) => self.ended = Some(self.end()),
                Poll::Ready(Ok(len)) => read += len,
                Poll::Ready(Err(error)) => self.ended = Some(error.into()),
                Poll::Pending => break,
            }
        }
        if read > 0 || self.ended.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn end(&mut self) -> Lost {
        self.failed_write.take().map_or(Lost::Closed, Lost::from)
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // TLS cut off without a word, or a peer that closed with input unread: it is gone.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Broken(error),
        }
    }
}
