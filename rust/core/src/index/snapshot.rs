//! What readers see: replaced as a whole, never changed but for live bits.

use super::page::bits;
use super::rows::Rows;
use super::segment::Segment;
use super::tail::Tail;
use std::sync::Arc;

/// The vectors at one moment, in the order of their ids.
#[derive(Debug, Default, Clone)]
pub(crate) struct Snapshot {
    pub(crate) segments: Vec<Arc<Segment>>,
    /// What is newer than every segment.
    pub(crate) tail: Option<Arc<Tail>>,
}

impl Snapshot {
    /// Looks at a held vector.
    pub(crate) fn find<T>(&self, id: u64, look: impl FnOnce(&Rows, usize) -> T) -> Option<T> {
        if let Some(tail) = self.tail.as_ref().filter(|tail| id >= tail.first_id()) {
            let slot = usize::try_from(id - tail.first_id()).ok().filter(|slot| *slot < tail.capacity())?;
            let row = tail.row(slot).filter(|_| tail.live.bits() & (1 << slot) != 0)?;
            return Some(look(&row.row, 0));
        }
        let segment = self.segments.get(self.segments.partition_point(|segment| segment.last_id() < id))?;
        let page = segment.pages.get(segment.pages.partition_point(|page| page.id(page.len() - 1) < id))?;
        let slot = page.slot(id).filter(|slot| page.live.bits() & (1 << slot) != 0)?;
        Some(look(&page.rows, slot))
    }

    /// Looks at every held vector from an id on, in the order of ids, while it is told to go on.
    pub(crate) fn each(&self, first_id: u64, mut look: impl FnMut(u64, &Rows, usize) -> bool) {
        let start = self.segments.partition_point(|segment| segment.last_id() < first_id);
        for page in self.segments[start..].iter().flat_map(|segment| &segment.pages) {
            for slot in bits(page.live.bits()).filter(|slot| page.id(*slot) >= first_id) {
                if !look(page.id(slot), &page.rows, slot) {
                    return;
                }
            }
        }
        let Some(tail) = &self.tail else { return };
        for slot in bits(tail.live.bits()) {
            let id = tail.first_id() + slot as u64;
            if let Some(row) = tail.row(slot).filter(|_| id >= first_id)
                && !look(id, &row.row, 0)
            {
                return;
            }
        }
    }
}
