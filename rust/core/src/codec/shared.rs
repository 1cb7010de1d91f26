//! One basis for many indexes.

use super::Basis;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A basis that indexes of one embedder share: whichever of them has enough vectors learns it, the others
/// take it over for what they code from then on. Holding it costs one matrix, however many indexes there are.
#[derive(Debug, Default)]
pub struct SharedBasis {
    basis: ArcSwapOption<Basis>,
    /// Vectors in the index that it was learned in.
    learned_from: AtomicUsize,
}

impl SharedBasis {
    /// A basis that is given and stays.
    pub fn fixed(basis: Basis) -> Self {
        Self { basis: ArcSwapOption::from_pointee(basis), learned_from: AtomicUsize::new(usize::MAX) }
    }

    /// The present basis, if there is one.
    pub fn get(&self) -> Option<Arc<Basis>> {
        self.basis.load_full()
    }

    /// Whether the basis is given for good.
    pub(crate) fn is_fixed(&self) -> bool {
        self.learned_from() == usize::MAX
    }

    pub(crate) fn learned_from(&self) -> usize {
        self.learned_from.load(Ordering::Acquire)
    }

    /// Takes a newly learned basis, unless another index was quicker with more vectors.
    pub(crate) fn put(&self, basis: Arc<Basis>, learned_from: usize) {
        if self.learned_from.fetch_max(learned_from, Ordering::AcqRel) < learned_from {
            self.basis.store(Some(basis));
        }
    }
}
