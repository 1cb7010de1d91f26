//! Activations, quantised row by row and interleaved in the order in which the kernels read them.

/// Rows of the largest tile. 12 x 2 sums, 2 weights and an activation leave some of AVX-512's 32 registers
/// free; 14 rows were no faster, 8 rows 5 % slower from 60 rows on (each weight line is loaded more often).
pub(super) const TILE: usize = 12;
/// Inputs per word.
pub(super) const STEP: usize = 8;

/// Rows of unsigned bytes: `value = scale * (byte - zero)`.
///
/// The rows are cut into tiles of at most 12, as equal as can be. A tile is stored as
/// `[inputs / 8][rows of the tile][8 bytes]`: the kernel walks it with one pointer, where row-major
/// rows need one register each and spill (measured: 87 against 215 GMAC/s at 10 rows).
#[derive(Clone, Debug, Default)]
pub(crate) struct QuantisedRows {
    inputs: usize,
    words: Vec<u64>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
}

impl QuantisedRows {
    /// Starts over with `count` rows of `inputs` values, each to be [`set`](Self::set). Keeps its memory.
    ///
    /// # Panics
    /// If `inputs` is not a multiple of 8.
    pub(crate) fn reset(&mut self, count: usize, inputs: usize) {
        assert!(inputs.is_multiple_of(STEP), "{inputs} inputs are not a multiple of {STEP}");
        self.inputs = inputs;
        // Grows only: rows of changing width would otherwise be cleared again and again (3 % of a long text).
        let words = count * (inputs / STEP);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        self.scales.resize(count, 0.0);
        self.zeros.resize(count, 0);
    }

    /// Number of rows.
    pub(crate) fn count(&self) -> usize {
        self.scales.len()
    }

    /// Values per row.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Scale of each row.
    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Zero point of each row, in 0..=255.
    pub(crate) fn zeros(&self) -> &[i32] {
        &self.zeros
    }

    /// Sets one row.
    ///
    /// # Panics
    /// If there is no such row, or `bytes` is not one row long.
    pub(crate) fn set(&mut self, row: usize, scale: f32, zero: u8, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.inputs, "one row of bytes");
        let (start, rows) = tile_of(self.count(), row);
        self.scales[row] = scale;
        self.zeros[row] = i32::from(zero);
        let steps = self.inputs / STEP;
        let tile = &mut self.words[start * steps..(start + rows) * steps];
        let (chunks, _) = bytes.as_chunks::<STEP>();
        for (slot, chunk) in tile[row - start..].iter_mut().step_by(rows).zip(chunks) {
            *slot = u64::from_le_bytes(*chunk);
        }
    }

    /// The bytes of one row, in order.
    #[cfg(test)]
    pub(in crate::simd) fn bytes_of(&self, row: usize) -> Vec<u8> {
        let (start, rows) = tile_of(self.count(), row);
        let steps = self.inputs / STEP;
        let words = self.words[start * steps..(start + rows) * steps][row - start..].iter().step_by(rows);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The tiles, each as its first row, its number of rows and its words.
    pub(super) fn tiles(&self) -> impl Iterator<Item = (usize, usize, &[u64])> {
        let (count, steps) = (self.count(), self.inputs / STEP);
        let tiles = count.div_ceil(TILE);
        (0..tiles).map(move |tile| {
            let (start, end) = (tile * count / tiles, (tile + 1) * count / tiles);
            (start, end - start, &self.words[start * steps..end * steps])
        })
    }
}

/// First row and number of rows of the tile that holds `row`.
fn tile_of(count: usize, row: usize) -> (usize, usize) {
    let tiles = count.div_ceil(TILE);
    // The inverse of `start = tile * count / tiles`, rounded down.
    let tile = (row * tiles + tiles - 1) / count;
    let start = tile * count / tiles;
    (start, (tile + 1) * count / tiles - start)
}

#[cfg(test)]
mod tests {
    use super::{QuantisedRows, tile_of};

    #[test]
    fn every_row_is_found_in_its_tile() {
        for count in 1..200 {
            let mut rows = QuantisedRows::default();
            rows.reset(count, 8);
            for (start, len, _) in rows.tiles() {
                assert!((1..=12).contains(&len), "{count} rows: a tile of {len}");
                for row in start..start + len {
                    assert_eq!(tile_of(count, row), (start, len), "row {row} of {count}");
                }
            }
            assert_eq!(rows.tiles().map(|(_, len, _)| len).sum::<usize>(), count);
        }
    }

    #[test]
    fn a_reset_keeps_the_memory() {
        let mut rows = QuantisedRows::default();
        rows.reset(64, 1536);
        let capacity = rows.words.capacity();
        rows.reset(3, 384);
        rows.reset(64, 1536);
        assert_eq!(rows.words.capacity(), capacity);
    }
}
