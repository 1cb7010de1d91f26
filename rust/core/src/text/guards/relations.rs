//! The order guard: the same words, turned round a pivot.
//!
//! Reading the words that both texts share in the order of one text gives a permutation in the other.
//! A phrase that moved as a block ("in India, how..." and "how... in India") gives decreasing runs of
//! length two; x p y against y p x, whatever the pivot p (a verb, "to", "than", "versus"), gives three.

use super::align::{Alignment, CONNECTORS};
use super::tokens::{Analysis, Kind};
use super::{Guard, Reason, reason};

/// Longer texts reorder clauses for many reasons; there the guard says nothing.
const MAX_WORDS: usize = 40;

/// The shared words as places in `a`, in the order of `b`; only words that stand once in each text.
pub(crate) fn permutation(pair: &Alignment<'_, '_, '_>) -> Vec<(usize, usize)> {
    let mut order: Vec<(usize, usize)> =
        pair.matched.iter().filter(|(i, _)| !pair.a.tokens[*i].stop).map(|&(i, j)| (j, i)).collect();
    let connectors = |analysis: &Analysis<'_>, word: &str| -> Vec<usize> {
        let tokens = analysis.tokens.iter().enumerate();
        tokens.filter(|(_, token)| token.stop && analysis.key(token) == word).map(|(place, _)| place).collect()
    };
    for word in CONNECTORS {
        if let ([i], [j]) = (connectors(pair.a, word).as_slice(), connectors(pair.b, word).as_slice()) {
            order.push((*j, *i));
        }
    }
    let (ours, theirs) = super::quantity::unmatched(pair.a, pair.b);
    if ours.is_empty() && theirs.is_empty() && pair.a.numbers.len() <= 8 {
        order.extend(numbers(pair));
    }
    order.sort_unstable();
    order.dedup();
    order
}

/// Numbers that stand once in each text.
fn numbers(pair: &Alignment<'_, '_, '_>) -> Vec<(usize, usize)> {
    let once = |analysis: &Analysis<'_>, place: usize| {
        let value = &analysis.numbers[place].value;
        analysis.numbers.iter().filter(|other| other.value == *value).count() == 1
    };
    let mut pairs = Vec::new();
    for (place, number) in pair.a.numbers.iter().enumerate().filter(|(place, _)| once(pair.a, *place)) {
        let same = |other: &&super::numbers::Number| other.value == pair.a.numbers[place].value;
        let mut hits = pair.b.numbers.iter().filter(same);
        if let (Some(other), None) = (hits.next(), hits.next()) {
            pairs.push((other.token, number.token));
        }
    }
    pairs
}

/// The longest decreasing run of places, as places in `a`.
pub(crate) fn longest_reversal(order: &[(usize, usize)]) -> Vec<usize> {
    let mut tails: Vec<usize> = Vec::new(); // index into `order` of the last element of the best run of each length
    let mut previous = vec![usize::MAX; order.len()];
    for (here, &(_, place)) in order.iter().enumerate() {
        let length = tails.partition_point(|&tail| order[tail].1 > place);
        if length > 0 {
            previous[here] = tails[length - 1];
        }
        if length == tails.len() { tails.push(here) } else { tails[length] = here }
    }
    let mut run = Vec::with_capacity(tails.len());
    let mut here = tails.last().copied().unwrap_or(usize::MAX);
    while let Some(&(_, place)) = order.get(here) {
        run.push(place);
        here = previous[here];
    }
    run
}

/// "X wrote Y" and "Y was written by X": the passive turns the words and keeps the sense.
fn voice_changes(pair: &Alignment<'_, '_, '_>) -> bool {
    passive(pair.a) != passive(pair.b)
}

/// "by", or a form of "be" shortly before a participle.
fn passive(analysis: &Analysis<'_>) -> bool {
    let tokens = &analysis.tokens;
    tokens.iter().enumerate().any(|(place, token)| {
        let written = analysis.written(token);
        let be = token.stop
            && ["is", "are", "was", "were", "be", "been", "being"].iter().any(|be| written.eq_ignore_ascii_case(be));
        let participle = |other: &super::tokens::Token| {
            let written = analysis.written(other);
            !other.stop && written.len() > 4 && (written.ends_with("ed") || written.ends_with("en"))
        };
        token.kind == Kind::Word
            && (token.stop && analysis.key(token) == "by" || be && tokens[place + 1..].iter().take(3).any(participle))
    })
}

pub(super) fn judge(pair: &Alignment<'_, '_, '_>) -> Option<Reason> {
    if pair.matched.len() < 2 || pair.matched.len() > MAX_WORDS || voice_changes(pair) {
        return None;
    }
    let order = permutation(pair);
    let run = longest_reversal(&order);
    if run.len() < 3 {
        return None;
    }
    let (first, last) = (run.first()?, run.last()?);
    let word = |place: usize| pair.a.written(&pair.a.tokens[place]);
    let forth = format!("{} \u{2026} {}", word(*first), word(*last));
    let back = format!("{} \u{2026} {}", word(*last), word(*first));
    Some(reason(Guard::Order, &forth, &back))
}
