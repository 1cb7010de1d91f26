//! Fingerprints of what left the small queue unread. One that comes back was wanted after all and goes
//! straight to the main queue (S3-FIFO, Yang et al., SOSP'23, section 4.2: a hash table of short
//! fingerprints with their insertion time).

use crate::text::canonical::Fingerprint;

const WAYS: usize = 4;

/// A set-associative memory of the last few evictions.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    cells: Vec<[(u32, u32); WAYS]>, // (fingerprint, time); time 0 is empty
    time: u32,
    reach: u32,
}

impl Ghost {
    /// Bytes of the table.
    pub(super) fn nbytes(&self) -> usize {
        super::bytes::allocated(self.cells.capacity() * size_of::<[(u32, u32); WAYS]>())
    }

    /// Remembers `fingerprint` for about twice as many evictions as there are `live` entries. (Once as many, as in the
    /// paper, gave a mean hit ratio of 36.3 % in a simulation over our traces, twice 37.0 %, three times 36.8 %.)
    pub(super) fn remember(&mut self, fingerprint: Fingerprint, live: usize) {
        let reach = live.saturating_mul(2);
        self.reach = u32::try_from(reach).unwrap_or(u32::MAX);
        let wanted = (reach + reach / 4).div_ceil(WAYS).next_power_of_two().max(4);
        if self.cells.len() < wanted {
            self.grow(wanted);
        }
        self.time = self.time.checked_add(1).unwrap_or_else(|| {
            self.cells.fill([(0, 0); WAYS]);
            1
        });
        let (bucket, mark) = self.place(fingerprint);
        let cell = &mut self.cells[bucket];
        let oldest = (0..WAYS).min_by_key(|way| cell[*way].1).unwrap_or(0);
        cell[oldest] = (mark, self.time);
    }

    /// Whether `fingerprint` was evicted lately; forgets it.
    pub(super) fn recall(&mut self, fingerprint: Fingerprint) -> bool {
        if self.cells.is_empty() {
            return false;
        }
        let (bucket, mark) = self.place(fingerprint);
        let (time, reach) = (self.time, self.reach);
        self.cells[bucket]
            .iter_mut()
            .find(|cell| cell.0 == mark && cell.1 != 0 && time - cell.1 <= reach)
            .map(|cell| *cell = (0, 0))
            .is_some()
    }

    /// The bucket takes the low bits of one half of the fingerprint, the mark is from the other half.
    fn place(&self, fingerprint: Fingerprint) -> (usize, u32) {
        let bits = u128::from_le_bytes(fingerprint.0);
        (bits as usize & (self.cells.len() - 1), (bits >> 96) as u32)
    }

    /// A larger table starts empty: the marks do not hold enough of the fingerprints to move them.
    fn grow(&mut self, buckets: usize) {
        self.cells = vec![[(0, 0); WAYS]; buckets];
        self.time = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, Ghost};

    fn fingerprint(n: u64) -> Fingerprint {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
        Fingerprint(bytes)
    }

    #[test]
    fn recalls_each_recent_eviction_once() {
        let mut ghost = Ghost::default();
        assert!(!ghost.recall(fingerprint(1)));
        ghost.remember(fingerprint(1), 100);
        assert!(ghost.recall(fingerprint(1)));
        assert!(!ghost.recall(fingerprint(1)));
    }

    #[test]
    fn forgets_after_its_reach() {
        let mut ghost = Ghost::default();
        for n in 0..1000 {
            ghost.remember(fingerprint(n), 100);
        }
        let recent = (800..1000).filter(|n| ghost.recall(fingerprint(*n))).count();
        let old = (0..790).filter(|n| ghost.recall(fingerprint(*n))).count();
        assert!(recent >= 140, "{recent} of the last 200 are known"); // full buckets lose some
        assert_eq!(old, 0);
    }
}
