//! MSRP frames over one link. One task drives both directions.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use thiserror::Error;

use crate::{
    msrp::{ChunkQueue, DecodeError, Decoder, Event},
    transport::{Blocks, Link, Loss, Stream},
};

/// Large blocks, because a body piece goes to the disk in the block that it was read into.
const BLOCKS: Blocks = Blocks { size: 256 * 1024, least: 32 * 1024 };

/// Why a connection can no longer be used.
#[derive(Debug, Error)]
pub enum Lost {
    /// The peer closed the connection, with or without `close_notify`, or reset it.
    #[error("the other side closed the connection")]
    Closed,
    /// The network failed.
    #[error("the connection broke: {0}")]
    Broken(Loss),
    /// The input is not MSRP.
    #[error("the other side does not speak MSRP as it should: {0}")]
    Framing(DecodeError),
}

/// A link with its decoder and the queue of its output.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    decoder: Decoder,
    output: ChunkQueue,
    /// The error of the first write that failed. Nothing is written after it.
    unwritable: Option<Loss>,
}

impl Connection {
    pub fn new(link: Link) -> Self {
        Self {
            stream: Stream::new(link),
            decoder: Decoder::default(),
            output: ChunkQueue::default(),
            unwritable: None,
        }
    }

    pub fn link(&self) -> &Link {
        self.stream.link()
    }

    /// The output that waits to be written.
    pub fn output(&self) -> &ChunkQueue {
        &self.output
    }

    /// The output, to append to. The caller marks the end of each chunk
    /// ([`ChunkQueue::mark_chunk_end`]). [`turn`](Self::turn) writes the output.
    pub fn output_mut(&mut self) -> &mut ChunkQueue {
        &mut self.output
    }

    /// Writes and reads until one of these happens:
    ///
    /// - a frame event has been read: `Some`
    /// - the output has fallen to `mark` octets or less: `None`
    /// - the connection is lost and all its events have been returned: the error
    ///
    /// The future may be dropped and called again without losing anything.
    pub async fn turn(&mut self, mark: Option<usize>) -> Result<Option<Event>, Lost> {
        loop {
            let event = self.decoder.next(&mut self.stream.input).map_err(Lost::Framing)?;
            if let Some(event) = event {
                return Ok(Some(event));
            }
            if let Some(ended) = self.stream.take_ended() {
                return Err(self.lost(ended));
            }
            if poll_fn(|cx| self.poll_turn(mark, cx)).await {
                return Ok(None);
            }
        }
    }

    /// Waits until all output is written, at the end of a session. Reads nothing.
    pub async fn flush(&mut self) -> Result<(), Loss> {
        self.stream.write(&mut self.output).await
    }

    /// Writes the output and closes the link, so that the last octets arrive. Each of the two may
    /// take `drain`.
    pub async fn close(mut self, drain: Duration) {
        let flushed = tokio::time::timeout(drain, self.flush()).await;
        if matches!(flushed, Ok(Ok(()))) {
            // Nothing is left to say, so an error while closing does not matter.
            let _: Result<_, _> = self.stream.close(drain).await;
        }
    }

    /// Ready with `false` if there is input or its end, with `true` if the output has fallen to
    /// `mark`.
    fn poll_turn(&mut self, mark: Option<usize>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.unwritable.is_none()
            && let Err(loss) = self.stream.poll_write(&mut self.output, usize::MAX, cx)
        {
            // Go on reading: the last messages of the peer may still be in the socket.
            self.unwritable = Some(loss);
        }
        if self.stream.poll_fill(BLOCKS, cx) > 0 || self.stream.ended().is_some() {
            return Poll::Ready(false);
        }
        match mark {
            Some(mark) if self.output.len() <= mark => Poll::Ready(true),
            _ => Poll::Pending,
        }
    }

    /// Chooses the reason to report. If the peer just closed, an earlier write error says more.
    fn lost(&mut self, ended: Loss) -> Lost {
        match (ended, self.unwritable.take()) {
            (Loss::Closed, Some(loss)) | (loss, _) => loss.into(),
        }
    }
}

impl From<Loss> for Lost {
    fn from(loss: Loss) -> Self {
        match loss {
            // For the user, a reset or a missing `close_notify` means the same: the peer has gone.
            Loss::Closed | Loss::Truncated | Loss::Reset => Self::Closed,
            _ => Self::Broken(loss),
        }
    }
}
