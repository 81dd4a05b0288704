//! Encoded bytes that wait for a socket.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// Slices shorter than this are copied into the block at the end: a short slice must not keep a
/// large read buffer alive, and every block takes a slot in a vectored write.
const COPY_BELOW: usize = 8 * 1024;
/// Size of the blocks that short slices are copied into.
const BLOCK: usize = 4096;
/// What a block costs besides its bytes.
const OVERHEAD: usize = 64;

/// A FIFO of bytes. Long slices stay in the allocation they came in.
///
/// A position counts all octets that were pushed before it, so a place in the stream (the end of a
/// chunk, say) has the same name before and after it has been written.
#[derive(Debug, Default)]
pub struct ChunkQueue {
    blocks: VecDeque<Block>,
    tail: BytesMut,
    /// Which of `allocations` the tail is in.
    tail_end: Option<usize>,
    len: usize,
    pushed: u64,
    /// The allocations that the blocks and the tail keep alive, about in their order.
    allocations: VecDeque<Pinned>,
    /// Octets in `allocations`.
    pinned: usize,
    /// Positions of the ends of chunks that are not wholly taken.
    chunk_ends: VecDeque<u64>,
}

#[derive(Debug)]
struct Block {
    bytes: Bytes,
    /// [`Allocation::end`] of what it was cut from.
    allocation_end: usize,
}

/// An allocation that blocks or the tail keep alive.
#[derive(Debug)]
struct Pinned {
    allocation: Allocation,
    /// How many blocks are cut from it; the tail counts as one.
    holders: usize,
}

/// The memory that slices of a read buffer keep alive: all of it, as long as one of them exists.
///
/// [`Bytes`] does not tell its allocation. But the read buffer reaches to the end of the
/// allocation, however many slices were taken from its front. So the address of that end
/// identifies the allocation as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allocation {
    start: usize,
    end: usize,
}

impl Allocation {
    /// The allocation of `buf`, from the place where `buf` begins now.
    pub fn of(buf: &BytesMut) -> Self {
        let start = buf.as_ptr().addr();
        Self { start, end: start + buf.capacity() }
    }

    /// Looks at the buffer again: it may have another allocation, or begin further in.
    pub fn follow(&mut self, buf: &BytesMut) {
        let now = Self::of(buf);
        let start = if now.end == self.end { now.start.min(self.start) } else { now.start };
        *self = Self { start, ..now };
    }

    /// An allocation that holds `bytes` and no more.
    fn of_slice(bytes: &[u8]) -> Self {
        let start = bytes.as_ptr().addr();
        Self { start, end: start + bytes.len() }
    }

    fn len(self) -> usize {
        self.end - self.start
    }
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

    /// What the queue costs in memory, in octets: each allocation that it keeps alive counts
    /// whole, and once.
    pub fn cost(&self) -> usize {
        self.pinned + self.blocks.len() * OVERHEAD + self.chunk_ends.len() * size_of::<u64>()
    }

    /// Position behind the last octet pushed.
    pub fn end(&self) -> u64 {
        self.pushed
    }

    /// Position behind the last octet taken.
    pub fn taken(&self) -> u64 {
        self.pushed - self.len as u64
    }

    /// Marks the end of a chunk (a whole request or response, or one piece of a SEND) behind the
    /// last octet pushed. A transport with messages sends each chunk in one message (RFC 7977
    /// §5.1).
    pub fn mark_chunk_end(&mut self) {
        if !self.is_empty() && self.chunk_ends.back() != Some(&self.pushed) {
            self.chunk_ends.push_back(self.pushed);
        }
    }

    /// Position of the end of the chunk that the next octet to be taken belongs to; `None` while
    /// that chunk is not complete.
    pub fn next_chunk_end(&self) -> Option<u64> {
        self.chunk_ends.front().copied()
    }

    /// Positions of the ends of all complete chunks of which octets wait.
    pub fn chunk_ends(&self) -> impl Iterator<Item = u64> {
        self.chunk_ends.iter().copied()
    }

    /// Appends bytes that have an allocation of their own.
    pub fn push(&mut self, bytes: Bytes) {
        let allocation = Allocation::of_slice(&bytes);
        self.push_from(bytes, allocation);
    }

    /// Appends a whole chunk that has an allocation of its own, and marks its end.
    pub fn push_chunk(&mut self, chunk: Bytes) {
        self.push(chunk);
        self.mark_chunk_end();
    }

    /// Appends bytes that were cut from `allocation`.
    pub fn push_from(&mut self, bytes: Bytes, allocation: Allocation) {
        if bytes.len() < COPY_BELOW {
            return self.push_slice(&bytes);
        }
        self.count(bytes.len());
        self.seal();
        self.push_block(bytes, allocation);
    }

    /// Appends a copy.
    pub fn push_slice(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.seal();
            self.tail.reserve(BLOCK.max(bytes.len()));
        }
        self.tail.extend_from_slice(bytes);
        self.follow_tail();
    }

    /// Appends what `write` writes into the block at the end.
    pub fn write(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.tail.capacity() - self.tail.len() < BLOCK / 4 {
            self.seal();
            self.tail.reserve(BLOCK);
        }
        let before = self.tail.len();
        write(&mut self.tail);
        self.count(self.tail.len() - before);
        self.follow_tail();
    }

    /// Fills `slices` from the front; returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let blocks = self.blocks.iter().map(|block| &block.bytes[..]);
        let all = blocks.chain(std::iter::once(&self.tail[..]).filter(|tail| !tail.is_empty()));
        slices.iter_mut().zip(all).map(|(slot, bytes)| *slot = IoSlice::new(bytes)).count()
    }

    /// Drops `len` octets from the front: they are with the socket.
    pub fn advance(&mut self, mut len: usize) {
        debug_assert!(len <= self.len, "more taken than there is");
        self.len -= len;
        if self.is_empty() {
            // Idle sessions hold no buffer.
            *self = Self { pushed: self.pushed, ..Self::default() };
            return;
        }
        let taken = self.taken();
        while self.chunk_ends.pop_front_if(|end| *end <= taken).is_some() {}
        while let Some(block) = self.blocks.front_mut() {
            if len < block.bytes.len() {
                return block.bytes.advance(len);
            }
            len -= block.bytes.len();
            if let Some(block) = self.blocks.pop_front() {
                self.unpin(block.allocation_end);
            }
        }
        self.tail.advance(len);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let allocation = Allocation::of(&self.tail);
            let bytes = self.tail.split().freeze();
            self.push_block(bytes, allocation);
        }
    }

    fn push_block(&mut self, bytes: Bytes, allocation: Allocation) {
        self.pin(allocation);
        self.blocks.push_back(Block { bytes, allocation_end: allocation.end });
    }

    /// Counts the allocation of the tail, which may be another one now.
    fn follow_tail(&mut self) {
        let allocation = Allocation::of(&self.tail);
        if self.tail_end == Some(allocation.end) {
            // A block that grew fills the gap at its start: it is longer than was known.
            self.widen(allocation);
            return;
        }
        if let Some(end) = self.tail_end.replace(allocation.end) {
            self.unpin(end);
        }
        self.pin(allocation);
    }

    fn pin(&mut self, allocation: Allocation) {
        if let Some(known) = self.widen(allocation) {
            known.holders += 1;
            return;
        }
        self.pinned += allocation.len();
        self.allocations.push_back(Pinned { allocation, holders: 1 });
    }

    /// The record of an allocation, which may begin before what was known of it.
    fn widen(&mut self, allocation: Allocation) -> Option<&mut Pinned> {
        // Nearly always one of the last two: that of the tail, and that of the last read.
        let is_it = |known: &&mut Pinned| known.allocation.end == allocation.end;
        let known = self.allocations.iter_mut().rev().find(is_it)?;
        let further = known.allocation.start.saturating_sub(allocation.start);
        known.allocation.start -= further;
        self.pinned += further;
        Some(known)
    }

    fn unpin(&mut self, allocation_end: usize) {
        let is_it = |known: &Pinned| known.allocation.end == allocation_end;
        let Some(at) = self.allocations.iter().position(is_it) else { return };
        self.allocations[at].holders -= 1;
        if self.allocations[at].holders == 0 {
            self.pinned -= self.allocations[at].allocation.len();
            self.allocations.remove(at);
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

    /// A read buffer, and all of it as slices of `len` octets.
    fn read_block(len: usize, cuts: usize) -> (Allocation, Vec<Bytes>) {
        let mut buf = BytesMut::zeroed(len);
        let mut allocation = Allocation::default();
        let mut slices = Vec::new();
        while !buf.is_empty() {
            allocation.follow(&buf);
            slices.push(buf.split_to(cuts.min(buf.len())).freeze());
        }
        (allocation, slices)
    }

    #[test]
    fn an_allocation_costs_once_whatever_part_of_it_waits() {
        const READ: usize = 60 * 1024;

        let mut queue = ChunkQueue::default();
        let (first, slices) = read_block(READ, 10 * 1024);
        for bytes in &slices {
            queue.push_from(bytes.clone(), first);
            queue.push_slice(b"between");
        }
        let cost = queue.cost();
        assert!((READ..READ + 2 * BLOCK).contains(&cost), "{cost}");
        // One slice is as much as all of them.
        let (second, slices) = read_block(READ, COPY_BELOW);
        queue.push_from(slices[3].clone(), second);
        let cost = queue.cost();
        assert!((2 * READ..2 * READ + 2 * BLOCK).contains(&cost), "{cost}");
        // The first goes with its last slice.
        queue.advance(READ - 1);
        assert!(queue.cost() > 2 * READ);
        queue.advance(1 + 6 * "between".len());
        let cost = queue.cost();
        assert!((READ..READ + 2 * BLOCK).contains(&cost), "{cost}");
        queue.advance(COPY_BELOW);
        assert_eq!(queue.cost(), 0);
    }

    #[test]
    fn short_pieces_cost_the_blocks_that_they_are_copied_to() {
        let mut queue = ChunkQueue::default();
        let (allocation, slices) = read_block(10 * COPY_BELOW, BLOCK / 2 + 1);
        for bytes in slices {
            queue.push_from(bytes, allocation);
        }
        // Each fills little more than half of a block.
        assert!(queue.cost() > queue.len() * 3 / 2, "{} {}", queue.cost(), queue.len());
        assert_eq!(queue.cost(), queue.pinned + queue.blocks.len() * OVERHEAD);
        assert_eq!(queue.pinned, queue.allocations.len() * BLOCK);
    }

    #[test]
    fn the_ends_of_chunks_go_with_the_octets() {
        let mut queue = ChunkQueue::default();
        queue.mark_chunk_end();
        assert_eq!(queue.next_chunk_end(), None, "nothing is no chunk");
        for len in [100, 20_000, 1] {
            queue.push(vec![0; len].into());
            queue.mark_chunk_end();
            queue.mark_chunk_end();
        }
        queue.push_slice(b"unfinished");
        let ends = |queue: &ChunkQueue| queue.chunk_ends().collect::<Vec<_>>();
        assert_eq!(ends(&queue), [100, 20_100, 20_101]);
        for (take, next) in [(99, 100), (1, 20_100), (19_999, 20_100), (1, 20_101)] {
            queue.advance(take);
            assert_eq!(queue.next_chunk_end(), Some(next));
        }
        queue.advance(3);
        assert_eq!((queue.taken(), queue.next_chunk_end()), (20_103, None));
        queue.push_slice(b" no more");
        queue.mark_chunk_end();
        assert_eq!(queue.next_chunk_end(), Some(queue.end()));
        // Across several at once, and all.
        queue.push_slice(b"a");
        queue.mark_chunk_end();
        queue.push_slice(b"b");
        queue.mark_chunk_end();
        queue.advance(queue.len() - 1);
        assert_eq!(ends(&queue), [queue.end()]);
        queue.advance(1);
        assert_eq!((queue.next_chunk_end(), queue.cost()), (None, 0));
        queue.mark_chunk_end();
        assert_eq!(queue.next_chunk_end(), None);
    }

    /// A block that grows keeps a gap where octets stood that are sent, and fills it later.
    #[test]
    fn a_block_that_fills_its_gap_counts_whole() {
        let mut queue = ChunkQueue::default();
        let write = |queue: &mut ChunkQueue, octets: usize| {
            queue.write(|out| out.extend_from_slice(&vec![1; octets]));
        };
        write(&mut queue, 3000);
        queue.advance(2000);
        write(&mut queue, 4000);
        queue.advance(4500);
        let start = queue.tail.as_ptr();
        write(&mut queue, 2000);
        assert!(queue.tail.as_ptr() < start, "the gap is not filled");
        write(&mut queue, 5000);
        assert!(queue.pinned >= queue.len(), "{} of {}", queue.pinned, queue.len());
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
                let held = queue.blocks.iter().map(|block| block.bytes.len()).sum::<usize>();
                prop_assert_eq!(held + queue.tail.len(), queue.len());
                prop_assert!(queue.pinned >= queue.len());
                let holders = queue.allocations.iter().map(|pinned| pinned.holders).sum::<usize>();
                prop_assert_eq!(holders, queue.blocks.len() + usize::from(queue.tail_end.is_some()));
                let pinned = queue.allocations.iter().map(|p| p.allocation.len()).sum::<usize>();
                prop_assert_eq!(pinned, queue.pinned);
            }
        }
    }
}
