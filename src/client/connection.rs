//! Frames over one link, both directions in one task.

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

/// Pieces of a whole block reach the disk unchanged.
const BLOCKS: Blocks = Blocks { size: 256 * 1024, least: 32 * 1024 };

/// Why a connection can no longer be used.
#[derive(Debug, Error)]
pub enum Lost {
    /// The peer said that it is done, or hung up.
    #[error("the other side closed the connection")]
    Closed,
    /// The network failed.
    #[error("the connection broke: {0}")]
    Broken(Loss),
    /// What came in is not MSRP.
    #[error("the other side does not speak MSRP as it should: {0}")]
    Framing(DecodeError),
}

/// A link with its decoder and what waits to be written.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    decoder: Decoder,
    output: ChunkQueue,
    /// Why nothing can be written any more.
    unwritable: Option<Loss>,
}

impl Connection {
    /// Takes over a fresh link.
    pub fn new(link: Link) -> Self {
        Self {
            stream: Stream::new(link),
            decoder: Decoder::default(),
            output: ChunkQueue::default(),
            unwritable: None,
        }
    }

    /// The link.
    pub fn link(&self) -> &Link {
        self.stream.link()
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

    /// Waits until everything is written, for the end of a conversation; input is kept.
    pub async fn flush(&mut self) -> Result<(), Loss> {
        self.stream.write(&mut self.output).await
    }

    /// Closes so that the last octets arrive.
    pub async fn close(mut self, drain: Duration) {
        let flushed = tokio::time::timeout(drain, self.flush()).await;
        if matches!(flushed, Ok(Ok(()))) {
            // Everything that had to be said has been said.
            let _: Result<_, _> = self.stream.close(drain).await;
        }
    }

    /// Ready with `false` when there is input (or its end), with `true` when the mark is reached.
    fn poll_turn(&mut self, mark: Option<usize>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.unwritable.is_none()
            && let Err(loss) = self.stream.poll_write(&mut self.output, usize::MAX, cx)
        {
            // The peer's last words may still be in the socket: the reading end tells.
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

    /// Why the connection is lost: where the input ended politely, the write that failed says more.
    fn lost(&mut self, ended: Loss) -> Lost {
        match (ended, self.unwritable.take()) {
            (Loss::Closed, Some(loss)) | (loss, _) => loss.into(),
        }
    }
}

impl From<Loss> for Lost {
    fn from(loss: Loss) -> Self {
        match loss {
            // Cut off without a word over TLS, or reset: to a person at this end the peer is gone.
            Loss::Closed | Loss::Truncated | Loss::Reset => Self::Closed,
            _ => Self::Broken(loss),
        }
    }
}
