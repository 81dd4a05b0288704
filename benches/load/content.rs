//! The octets that are sent: not stored as a whole, and comparable at any offset.

use std::sync::Arc;

use bytes::BufMut;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Longer than any window in which an error could hide by shifting.
const BLOCK: usize = 1 << 20;
/// Sessions start at different places of the block, a prime number of octets apart, so that octets
/// of one session delivered to another are noticed.
const STRIDE: usize = 509;

/// An endless text of random octets, the same in every run.
#[derive(Clone)]
pub(crate) struct Content {
    block: Arc<[u8]>,
    shift: usize,
}

impl Content {
    pub(crate) fn new() -> Self {
        let mut block = vec![0; BLOCK];
        StdRng::seed_from_u64(4976).fill_bytes(&mut block);
        Self { block: block.into(), shift: 0 }
    }

    /// The text of one session.
    pub(crate) fn of_session(&self, number: usize) -> Self {
        Self { block: Arc::clone(&self.block), shift: number * STRIDE % BLOCK }
    }

    /// Up to `length` octets from `offset` on, fewer where the block wraps.
    pub(crate) fn slice(&self, offset: u64, length: u64) -> &[u8] {
        let block = self.block.len() as u64;
        let start = (offset + self.shift as u64) % block;
        &self.block[index(start)..index(block.min(start + length))]
    }

    /// Appends exactly `length` octets from `offset` on.
    pub(crate) fn copy(&self, mut offset: u64, mut length: u64, out: &mut impl BufMut) {
        while length > 0 {
            let slice = self.slice(offset, length);
            out.put_slice(slice);
            offset += slice.len() as u64;
            length -= slice.len() as u64;
        }
    }

    /// Whether these octets stand at `offset`.
    pub(crate) fn equals(&self, mut offset: u64, mut octets: &[u8]) -> bool {
        while !octets.is_empty() {
            let slice = self.slice(offset, octets.len() as u64);
            let (head, rest) = octets.split_at(slice.len());
            if head != slice {
                return false;
            }
            offset += slice.len() as u64;
            octets = rest;
        }
        true
    }
}

/// An offset inside the block.
fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a block fits into memory")
}
