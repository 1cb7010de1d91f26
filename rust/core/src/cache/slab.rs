//! Entries by slot, threaded on two lists each: an eviction queue and the tenant's own order of arrival.
//! Linking and unlinking are O(1), and a list owns no memory of its own.

use super::entry::Entry;
use std::sync::Arc;

/// No slot.
pub(super) const NIL: u32 = u32::MAX;

/// Which of a node's two lists is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Lane {
    /// The eviction queue (small or main).
    Queue = 0,
    /// The tenant's entries, oldest first.
    Tenant = 1,
}

/// The eviction queue a node is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Small,
    Main,
}

#[derive(Debug, Clone, Copy)]
struct Links {
    prev: u32,
    next: u32,
}

/// A slot's contents.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) entry: Arc<Entry>,
    pub(super) charge: usize,
    pub(super) queue: Queue,
    links: [Links; 2],
}

#[derive(Debug)]
enum Cell {
    Free { next: u32 },
    Used(Node),
}

/// Nodes in stable slots.
#[derive(Debug)]
pub(super) struct Slab {
    cells: Vec<Cell>,
    free: u32,
    len: usize,
}

impl Default for Slab {
    fn default() -> Self {
        Self { cells: Vec::new(), free: NIL, len: 0 }
    }
}

impl Slab {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the slab itself.
    pub(super) fn nbytes(&self) -> usize {
        super::bytes::allocated(self.cells.capacity() * size_of::<Cell>())
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Node> {
        match self.cells.get(slot as usize) {
            Some(Cell::Used(node)) => Some(node),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Node> {
        match self.cells.get_mut(slot as usize) {
            Some(Cell::Used(node)) => Some(node),
            _ => None,
        }
    }

    /// The slot the next [`Slab::insert`] will use.
    pub(super) fn next_slot(&self) -> u32 {
        if self.free == NIL { self.cells.len() as u32 } else { self.free }
    }

    pub(super) fn insert(&mut self, entry: Arc<Entry>, charge: usize, queue: Queue) -> u32 {
        let slot = self.next_slot();
        let links = [Links { prev: NIL, next: NIL }; 2];
        let node = Cell::Used(Node { entry, charge, queue, links });
        match self.cells.get_mut(slot as usize) {
            Some(cell) => {
                if let Cell::Free { next } = cell {
                    self.free = *next;
                }
                *cell = node;
            }
            None => self.cells.push(node),
        }
        self.len += 1;
        slot
    }

    /// Takes a node out; it must be on no list any more.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Node> {
        let cell = self.cells.get_mut(slot as usize)?;
        if matches!(cell, Cell::Free { .. }) {
            return None;
        }
        let taken = std::mem::replace(cell, Cell::Free { next: self.free });
        self.free = slot;
        self.len -= 1;
        match taken {
            Cell::Used(node) => Some(node),
            Cell::Free { .. } => None,
        }
    }

    fn links_mut(&mut self, slot: u32, lane: Lane) -> Option<&mut Links> {
        self.get_mut(slot).map(|node| &mut node.links[lane as usize])
    }
}

/// A doubly linked list through a [`Slab`], oldest first.
#[derive(Debug, Clone)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: usize,
    bytes: usize,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NIL, tail: NIL, len: 0, bytes: 0 }
    }
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Charges of its nodes together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn front(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    pub(super) fn push_back(&mut self, slab: &mut Slab, slot: u32, lane: Lane) {
        let Some(node) = slab.get_mut(slot) else { return };
        node.links[lane as usize] = Links { prev: self.tail, next: NIL };
        self.bytes += node.charge;
        match slab.links_mut(self.tail, lane) {
            Some(last) => last.next = slot,
            None => self.head = slot,
        }
        self.tail = slot;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, slab: &mut Slab, slot: u32, lane: Lane) {
        let Some(node) = slab.get(slot) else { return };
        let Links { prev, next } = node.links[lane as usize];
        self.bytes -= node.charge;
        match slab.links_mut(prev, lane) {
            Some(links) => links.next = next,
            None => self.head = next,
        }
        match slab.links_mut(next, lane) {
            Some(links) => links.prev = prev,
            None => self.tail = prev,
        }
        self.len -= 1;
    }

    /// The slots from the oldest on.
    pub(super) fn iter<'a>(&self, slab: &'a Slab, lane: Lane) -> impl Iterator<Item = u32> + 'a {
        let mut at = self.head;
        std::iter::from_fn(move || {
            let node = slab.get(at)?;
            let slot = at;
            at = node.links[lane as usize].next;
            Some(slot)
        })
    }
}
