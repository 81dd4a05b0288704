//! Encoded bytes waiting for a socket.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// Pieces shorter than this are copied into the block at the end: a short slice must not keep a
/// large read buffer alive, and every block costs a slot in a vectored write.
const COPY_BELOW: usize = 8 * 1024;
/// Size of the blocks that short pieces are gathered in.
const BLOCK: usize = 4096;
/// What a block costs besides its bytes.
const OVERHEAD: usize = 64;

/// A FIFO of bytes, long pieces in the allocation they came in.
///
/// Positions count every octet that was ever pushed, so a place in the stream (the end of a
/// chunk, say) can be named before and after it has been written.
#[derive(Debug, Default)]
pub struct ChunkQueue {
    blocks: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
    pushed: u64,
}

impl ChunkQueue {
    /// Octets waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the queue costs in memory, in octets.
    pub fn cost(&self) -> usize {
        self.len + self.blocks.len() * OVERHEAD
    }

    /// Position behind the last octet pushed.
    pub fn end(&self) -> u64 {
        self.pushed
    }

    /// Position behind the last octet taken.
    pub fn taken(&self) -> u64 {
        self.pushed - self.len as u64
    }

    /// Appends bytes that the caller has in an allocation of their own.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BELOW {
            return self.push_slice(&bytes);
        }
        self.count(bytes.len());
        self.seal();
        self.blocks.push_back(bytes);
    }

    /// Appends a copy.
    pub fn push_slice(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.seal();
            self.tail.reserve(BLOCK.max(bytes.len()));
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Appends what `write` writes.
    pub fn write(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.tail.capacity() - self.tail.len() < BLOCK / 4 {
            self.seal();
            self.tail.reserve(BLOCK);
        }
        let before = self.tail.len();
        write(&mut self.tail);
        self.count(self.tail.len() - before);
    }

    /// Fills `slices` from the front; returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let blocks = self.blocks.iter().map(|block| &block[..]);
        let all = blocks.chain(std::iter::once(&self.tail[..]).filter(|tail| !tail.is_empty()));
        slices.iter_mut().zip(all).map(|(slot, bytes)| *slot = IoSlice::new(bytes)).count()
    }

    /// Drops `len` octets from the front: they are with the socket.
    pub fn advance(&mut self, mut len: usize) {
        debug_assert!(len <= self.len, "more taken than there is");
        self.len -= len;
        while let Some(block) = self.blocks.front_mut() {
            if len < block.len() {
                return block.advance(len);
            }
            len -= block.len();
            self.blocks.pop_front();
        }
        self.tail.advance(len);
        if self.is_empty() {
            // Idle sessions hold no buffer.
            *self = Self { pushed: self.pushed, ..Self::default() };
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.blocks.push_back(self.tail.split().freeze());
        }
    }

    fn count(&mut self, len: usize) {
        self.len += len;
        self.pushed += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents(queue: &ChunkQueue) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 1000];
        let n = queue.slices(&mut slices);
        slices[..n].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn long_pieces_are_not_copied_short_ones_are() {
        let long = Bytes::from(vec![1; COPY_BELOW]);
        let short = Bytes::from(vec![2; COPY_BELOW - 1]);
        let mut queue = ChunkQueue::default();
        queue.push(short.clone());
        queue.push(long.clone());
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(queue.slices(&mut slices), 2);
        assert_ne!(slices[0].as_ptr(), short.as_ptr());
        assert_eq!(slices[1].as_ptr(), long.as_ptr());
    }

    #[test]
    fn an_empty_queue_holds_no_memory() {
        let mut queue = ChunkQueue::default();
        queue.push_slice(b"hello");
        queue.advance(5);
        assert_eq!((queue.tail.capacity(), queue.blocks.capacity()), (0, 0));
        assert_eq!((queue.end(), queue.taken()), (5, 5));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(pieces in proptest::collection::vec((0usize..20_000, any::<u8>(), 0usize..5000), 0..50)) {
            let mut queue = ChunkQueue::default();
            let mut expected = Vec::new();
            for (len, byte, take) in pieces {
                let piece = vec![byte; len];
                expected.extend_from_slice(&piece);
                match byte % 3 {
                    0 => queue.push(piece.into()),
                    1 => queue.push_slice(&piece),
                    _ => queue.write(|out| out.extend_from_slice(&piece)),
                }
                let take = take.min(queue.len());
                queue.advance(take);
                expected.drain(..take);
                prop_assert_eq!(&contents(&queue), &expected);
                prop_assert_eq!(queue.len(), expected.len());
                prop_assert_eq!(queue.end() - queue.taken(), expected.len() as u64);
            }
        }
    }
}
