//! Which embedder a vector is from.

use crate::{Error, Result};

/// The embedder that made a vector: vectors of different spaces are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Space {
    id: u64,
    dim: u32,
}

impl Space {
    /// The space of the embedder with this id, whose vectors have `dim` values.
    pub fn of(embedder_id: &str, dim: usize) -> Self {
        let mut head = [0; 8];
        head.copy_from_slice(&blake3::hash(embedder_id.as_bytes()).as_bytes()[..8]);
        Self { id: u64::from_le_bytes(head), dim: u32::try_from(dim).unwrap_or(u32::MAX) }
    }

    /// Values of a vector.
    pub fn dim(&self) -> usize {
        self.dim as usize
    }

    /// Twelve bytes that name the space in a file.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..].copy_from_slice(&self.dim.to_le_bytes());
        bytes
    }

    /// The space that [`Space::to_bytes`] named.
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let [id @ .., a, b, c, d] = bytes;
        Self { id: u64::from_le_bytes(id), dim: u32::from_le_bytes([a, b, c, d]) }
    }

    /// `vector` if it has this space's dimension.
    pub(super) fn check(self, vector: &[f32]) -> Result<()> {
        if vector.len() == self.dim() {
            Ok(())
        } else {
            Err(Error::Dimension { expected: self.dim(), got: vector.len() })
        }
    }
}
