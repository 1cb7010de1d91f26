//! What callers said of near hits: pairs of prompts with a label, which thresholds and verifiers can be fitted to.

use super::bytes::allocated;
use super::clock::Millis;
use super::record::{Reader, Writer};
use crate::text::canonical::ScopeId;
use std::collections::VecDeque;

/// Judgements kept, at most; the oldest give way.
const MOST: usize = 10_000;
/// First byte of every record.
const FORMAT: u8 = 0x81;

/// One judgement of a near hit.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What was asked.
    pub query: Box<str>,
    /// The prompt whose answer was given.
    pub candidate: Box<str>,
    /// Cosine of the two.
    pub similarity: f32,
    /// Whether the answer was right.
    pub correct: bool,
    /// When it was judged.
    pub at: Millis,
    /// Whose hit it was.
    pub caller: ScopeId,
}

impl Judgement {
    fn nbytes(&self) -> usize {
        size_of::<(u64, Self)>() + allocated(self.query.len()) + allocated(self.candidate.len())
    }

    fn same_pair(&self, other: &Self) -> bool {
        (&self.query, &self.candidate, self.caller) == (&other.query, &other.candidate, other.caller)
    }
}

/// The latest judgements under their numbers, oldest first.
#[derive(Debug, Default)]
pub(super) struct Judgements {
    kept: VecDeque<(u64, Judgement)>,
    bytes: usize,
}

impl Judgements {
    pub(super) fn nbytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, Judgement)> {
        self.kept.iter()
    }

    /// Keeps a judgement within `most_bytes` for all; returns the numbers of those that give way: an earlier one of the
    /// same pair, and the oldest.
    pub(super) fn add(&mut self, number: u64, judgement: Judgement, most_bytes: usize) -> Vec<u64> {
        let mut gone = self.remove(|other| other.same_pair(&judgement));
        self.bytes += judgement.nbytes();
        self.kept.push_back((number, judgement));
        while self.kept.len() > MOST || self.bytes > most_bytes {
            let Some((number, oldest)) = self.kept.pop_front() else { break };
            self.bytes -= oldest.nbytes();
            gone.push(number);
        }
        gone
    }

    /// Drops a caller's judgements; returns their numbers.
    pub(super) fn remove_caller(&mut self, caller: ScopeId) -> Vec<u64> {
        self.remove(|judgement| judgement.caller == caller)
    }

    fn remove(&mut self, gone: impl Fn(&Judgement) -> bool) -> Vec<u64> {
        let mut numbers = Vec::new();
        self.kept.retain(|(number, judgement)| {
            let goes = gone(judgement);
            if goes {
                self.bytes -= judgement.nbytes();
                numbers.push(*number);
            }
            !goes
        });
        numbers
    }
}

/// The bytes of a judgement.
pub(super) fn encode(judgement: &Judgement) -> Vec<u8> {
    let mut out = Writer(vec![FORMAT, u8::from(judgement.correct)]);
    out.0.extend_from_slice(&judgement.similarity.to_le_bytes());
    out.0.extend_from_slice(&judgement.at.to_le_bytes());
    out.0.extend_from_slice(&judgement.caller.0);
    out.bytes(judgement.query.as_bytes());
    out.bytes(judgement.candidate.as_bytes());
    out.0
}

/// What `data` says, if it is a whole record of a known format.
pub(super) fn decode(data: &[u8]) -> Option<Judgement> {
    let mut rest = Reader(data);
    let [FORMAT, correct @ (0 | 1)] = rest.take()? else { return None };
    let similarity = f32::from_le_bytes(rest.take()?);
    let at = u64::from_le_bytes(rest.take()?);
    let caller = ScopeId(rest.take()?);
    let (query, candidate) = (rest.text()?.into(), rest.text()?.into());
    let judgement = Judgement { query, candidate, similarity, correct: correct == 1, at, caller };
    rest.0.is_empty().then_some(judgement)
}

#[cfg(test)]
mod tests {
    use super::{Judgement, Judgements, MOST, ScopeId, decode, encode};
    use proptest::prelude::*;

    fn judgement(number: usize, caller: u8) -> Judgement {
        Judgement {
            query: format!("query {number}").into(),
            candidate: "candidate".into(),
            similarity: 0.9,
            correct: number.is_multiple_of(2),
            at: number as u64,
            caller: ScopeId([caller; 16]),
        }
    }

    #[test]
    fn the_latest_are_kept_and_a_pair_once() {
        let mut judged = Judgements::default();
        for number in 0..MOST + 5 {
            let gone = judged.add(number as u64, judgement(number, 0), usize::MAX);
            assert_eq!(gone.first().copied(), number.checked_sub(MOST).map(|gone| gone as u64));
        }
        let again = judgement(MOST + 4, 0);
        assert_eq!(judged.add(99_999, again.clone(), usize::MAX), [(MOST + 4) as u64]);
        assert_eq!(judged.add(100_000, Judgement { caller: ScopeId([1; 16]), ..again }, usize::MAX), [5]);
        assert_eq!(judged.remove_caller(ScopeId([1; 16])), [100_000]);
        assert_eq!(judged.iter().count(), MOST - 1);
        let bytes: usize = judged.iter().map(|(_, judgement)| judgement.nbytes()).sum();
        assert_eq!(judged.nbytes(), bytes);
    }

    #[test]
    fn bytes_are_bounded() {
        let mut judged = Judgements::default();
        let each = judgement(0, 0).nbytes();
        for number in 0..9 {
            drop(judged.add(number, judgement(number as usize, 0), 3 * each));
        }
        assert_eq!(judged.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [6, 7, 8]);
        assert_eq!(judged.add(10, judgement(10, 0), each / 2), [6, 7, 8, 10]);
        assert_eq!(judged.nbytes(), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            texts in any::<(String, String)>(), similarity in -1.0..1.0_f32, correct: bool, at: u64, caller: [u8; 16],
        ) {
            let (query, candidate) = (texts.0.into(), texts.1.into());
            let judgement = Judgement { query, candidate, similarity, correct, at, caller: ScopeId(caller) };
            let data = encode(&judgement);
            prop_assert_eq!(decode(&data), Some(judgement));
            for end in 0..data.len() {
                prop_assert_eq!(decode(&data[..end]), None);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..100)) {
            drop(decode(&data));
            drop(decode(&[&[super::FORMAT, 1], data.as_slice()].concat()));
        }
    }
}
