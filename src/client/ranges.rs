//! Sets of octet numbers: which octets of a message have arrived, or are confirmed.

/// A set of octet numbers, counted from 0. Kept as disjoint ranges in ascending order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// Most disjoint ranges that a set remembers. A peer that leaves more gaps is not sending a
    /// file.
    pub const MAX: usize = 4096;

    /// Adds the octets from `start` up to but not including `end`. Returns `false` if that would
    /// make more than [`MAX`](Self::MAX) ranges; then the set is unchanged.
    #[must_use]
    pub fn insert(&mut self, start: u64, end: u64) -> bool {
        if start >= end {
            return true;
        }
        let first = self.ranges.partition_point(|&(_, e)| e < start);
        let last = self.ranges.partition_point(|&(s, _)| s <= end);
        if first == last {
            if self.ranges.len() == Self::MAX {
                return false;
            }
            self.ranges.insert(first, (start, end));
            return true;
        }
        let merged = (start.min(self.ranges[first].0), end.max(self.ranges[last - 1].1));
        self.ranges.splice(first..last, [merged]);
        true
    }

    /// Number of octets in the set.
    pub fn octets(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether every octet before `total` is in the set.
    pub fn covers(&self, total: u64) -> bool {
        total == 0 || self.ranges.first().is_some_and(|&(start, end)| start == 0 && end >= total)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_and_overlaps_become_one() {
        let mut set = RangeSet::default();
        for (start, end) in [(10, 20), (30, 40), (20, 30), (5, 12), (0, 5), (7, 7)] {
            assert!(set.insert(start, end));
        }
        assert_eq!(set.ranges, [(0, 40)]);
        assert!(set.covers(40) && !set.covers(41));
        assert_eq!(set.octets(), 40);
    }

    #[test]
    fn a_gap_is_a_gap() {
        let mut set = RangeSet::default();
        assert!(set.covers(0) && !set.covers(1));
        assert!(set.insert(1, 100));
        assert!(!set.covers(100));
        assert!(set.insert(0, 1));
        assert!(set.covers(100));
    }

    #[test]
    fn gaps_are_limited() {
        let mut set = RangeSet::default();
        for n in 0..RangeSet::MAX as u64 {
            assert!(set.insert(n * 2, n * 2 + 1));
        }
        assert!(!set.insert(1_000_000, 1_000_001));
        assert!(set.insert(1, 2), "filling a gap is always possible");
    }

    proptest! {
        #[test]
        fn equals_a_set_of_numbers(
            pieces in proptest::collection::vec((0u64..60, 0u64..20), 0..20)
        ) {
            let mut set = RangeSet::default();
            let mut model = std::collections::BTreeSet::new();
            for (start, len) in pieces {
                prop_assert!(set.insert(start, start + len));
                model.extend(start..start + len);
            }
            prop_assert_eq!(set.octets(), model.len() as u64);
            for total in 0..80 {
                prop_assert_eq!(set.covers(total), (0..total).all(|n| model.contains(&n)));
            }
        }
    }
}
