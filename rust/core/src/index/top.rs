//! The best neighbours found so far.

use super::Neighbour;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Keeps the `k` best of what it is offered at or above a threshold; ties go to the lower id.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    threshold: f32,
    worst_first: BinaryHeap<Ranked>,
}

#[derive(Debug)]
struct Ranked(Neighbour);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.similarity.total_cmp(&self.0.similarity).then(self.0.id.cmp(&other.0.id))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

impl TopK {
    pub(crate) fn new(k: usize, threshold: f32) -> Self {
        Self { k, threshold, worst_first: BinaryHeap::new() }
    }

    /// What a similarity must reach to matter.
    pub(crate) fn floor(&self) -> f32 {
        match self.worst_first.peek() {
            Some(Ranked(worst)) if self.worst_first.len() >= self.k => worst.similarity,
            _ => self.threshold,
        }
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// The least similarity that is asked for.
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Whether there are as many neighbours as were asked for.
    pub(crate) fn is_full(&self) -> bool {
        self.worst_first.len() >= self.k
    }

    /// The same question without answers.
    pub(crate) fn empty(&self) -> Self {
        Self::new(self.k, self.threshold)
    }

    /// Asks for at least this similarity from here on.
    pub(crate) fn raise(&mut self, floor: f32) {
        self.threshold = self.threshold.max(floor);
    }

    pub(crate) fn offer(&mut self, id: u64, similarity: f32) {
        let similarity = similarity.clamp(-1.0, 1.0);
        if similarity < self.floor() {
            return;
        }
        self.worst_first.push(Ranked(Neighbour { id, similarity }));
        if self.worst_first.len() > self.k {
            self.worst_first.pop();
        }
    }

    /// Best first.
    pub(crate) fn into_sorted(self) -> Vec<Neighbour> {
        self.worst_first.into_sorted_vec().into_iter().map(|Ranked(neighbour)| neighbour).collect()
    }
}
