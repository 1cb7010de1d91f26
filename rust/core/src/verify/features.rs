//! Cheap features of a pair of texts: what the verifier sees besides the vectors.
//!
//! All are symmetric in the two texts, so that swapping query and candidate changes nothing.

use super::weights::WordWeights;
use crate::text::guards::{Alignment, Guard, Verdict, evidence};

/// Names of the features, in their order.
pub const NAMES: [&str; 46] = [
    "similarity",
    "content_min",
    "content_max",
    "matched",
    "only_min",
    "only_max",
    "jaccard",
    "containment",
    "coverage",
    "weighted_jaccard",
    "weight_only_min",
    "weight_only_max",
    "heaviest_only_min",
    "heaviest_only_max",
    "heaviest_matched",
    "trigrams",
    "bigrams",
    "function_words",
    "length_ratio",
    "length_max",
    "same_start",
    "same_end",
    "same_first",
    "inversions",
    "reversal",
    "numbers_only_min",
    "numbers_only_max",
    "numbers_both",
    "negations_differ",
    "opposites",
    "class_conflict",
    "class_one_sided",
    "name_conflict",
    "name_one_sided",
    "question_same",
    "question_differs",
    "literal",
    "language",
    "substitution",
    "sentences_differ",
    "asks_both",
    "asks_one",
    "asked_min",
    "asked_max",
    "learned_only",
    "learned_both",
];

/// How many features there are.
pub const COUNT: usize = NAMES.len();

/// The features of an aligned pair.
pub fn features(
    pair: &Alignment<'_, '_, '_>,
    verdict: &Verdict,
    similarity: f32,
    weights: &WordWeights,
) -> [f32; COUNT] {
    let (a, b) = (pair.a, pair.b);
    let (only_a, only_b) = (pair.only_a.len() as f32, pair.only_b.len() as f32);
    let matched = pair.matched.iter().filter(|(i, _)| !a.tokens[*i].stop).count() as f32;
    let (content_a, content_b) = (matched + only_a, matched + only_b);
    let (lone, shared) = words(pair);
    // In double precision the sums are exact, so that they do not depend on which text comes first.
    let (mut sums, mut tops, mut learned_only) = ([0.0_f64; 2], [0.0_f32; 2], 0.0_f64);
    for (side, key) in lone {
        let rarity = weights.rarity(key);
        sums[side] += f64::from(rarity);
        tops[side] = tops[side].max(rarity);
        learned_only += f64::from(weights.only(key));
    }
    let (mut sum_both, mut top_both, mut learned_both) = (0.0_f64, 0.0_f32, 0.0_f64);
    for key in shared {
        let rarity = weights.rarity(key);
        sum_both += f64::from(rarity);
        top_both = top_both.max(rarity);
        learned_both += f64::from(weights.both(key));
    }
    let ([sum_a, sum_b], [top_a, top_b], sum_both) = (sums.map(|sum| sum as f32), tops, sum_both as f32);
    let found = evidence(pair);
    let (tokens_a, tokens_b) = (a.tokens.len() as f32, b.tokens.len() as f32);
    let (functions, bigrams) = overlaps(pair);
    let refused = |guard: Guard| f32::from(verdict.reasons.iter().any(|reason| reason.guard == guard));
    let (numbers_a, numbers_b) = (found.numbers_only.0 as f32, found.numbers_only.1 as f32);
    let same_start = common(a.tokens.iter().zip(&b.tokens).map(|(x, y)| a.key(x) == b.key(y)));
    let same_end = common(a.tokens.iter().rev().zip(b.tokens.iter().rev()).map(|(x, y)| a.key(x) == b.key(y)));
    let longest = tokens_a.max(tokens_b).max(1.0);
    [
        similarity,
        content_a.min(content_b).min(30.0),
        content_a.max(content_b).min(30.0),
        matched.min(30.0),
        only_a.min(only_b).min(15.0),
        only_a.max(only_b).min(15.0),
        ratio(matched, matched + only_a + only_b),
        ratio(matched, content_a.min(content_b)),
        ratio(matched, content_a.max(content_b)),
        ratio(sum_both, sum_both + (sum_a + sum_b)),
        sum_a.min(sum_b).min(10.0),
        sum_a.max(sum_b).min(10.0),
        top_a.min(top_b),
        top_a.max(top_b),
        top_both,
        trigram_overlap(a.text, b.text),
        bigrams,
        functions,
        ratio(tokens_a.min(tokens_b), tokens_a.max(tokens_b)),
        longest.min(80.0),
        same_start / longest,
        same_end / longest,
        f32::from(same_start > 0.0),
        found.inversions,
        (found.reversal as f32).min(8.0),
        numbers_a.min(numbers_b).min(4.0),
        numbers_a.max(numbers_b).min(4.0),
        f32::from(!a.numbers.is_empty() && !b.numbers.is_empty()),
        f32::from(found.negations.0.abs_diff(found.negations.1) % 2 == 1),
        (found.opposites as f32).min(3.0),
        f32::from(found.class_conflict),
        f32::from(found.class_one_sided),
        refused(Guard::Name),
        f32::from(found.name_one_sided),
        f32::from(found.question == Some(true)),
        f32::from(found.question == Some(false)),
        refused(Guard::Literal),
        refused(Guard::Language),
        refused(Guard::Substitution),
        (sentences(a.text).abs_diff(sentences(b.text)) as f32).min(4.0),
        f32::from(a.asks && b.asks),
        f32::from(a.asks != b.asks),
        f32::from(found.asked.0.min(found.asked.1)),
        f32::from(found.asked.0.max(found.asked.1)),
        (learned_only as f32).clamp(-6.0, 6.0),
        (learned_both as f32).clamp(-6.0, 6.0),
    ]
}

fn ratio(part: f32, whole: f32) -> f32 {
    if whole > 0.0 { part / whole } else { 1.0 }
}

/// Keys of the content words that stand on one side only, with the side, and of those that both have.
pub fn words<'p>(
    pair: &'p Alignment<'_, '_, '_>,
) -> (impl Iterator<Item = (usize, &'p str)>, impl Iterator<Item = &'p str>) {
    let (a, b) = (pair.a, pair.b);
    let left = pair.only_a.iter().map(|&i| (0, a.key(&a.tokens[i])));
    let right = pair.only_b.iter().map(|&j| (1, b.key(&b.tokens[j])));
    let shared = pair.matched.iter().map(|(i, _)| &a.tokens[*i]).filter(|token| !token.stop);
    (left.chain(right), shared.map(|token| a.key(token)))
}

fn common(mut equal: impl Iterator<Item = bool>) -> f32 {
    let mut count = 0.0;
    while equal.next() == Some(true) {
        count += 1.0;
    }
    count
}

/// A set of 2,048 bits; what falls together counts once.
#[derive(Clone, Copy)]
struct Bits([u64; 32]);

impl Bits {
    fn add(&mut self, hash: u32) {
        let bit = hash.wrapping_mul(0x9e37_79b1) >> 21;
        self.0[(bit >> 6) as usize] |= 1 << (bit & 63);
    }

    fn jaccard(&self, other: &Self) -> f32 {
        let count = |bits: u64| bits.count_ones();
        let both: u32 = self.0.iter().zip(&other.0).map(|(x, y)| count(x & y)).sum();
        let any: u32 = self.0.iter().zip(&other.0).map(|(x, y)| count(x | y)).sum();
        ratio(both as f32, any as f32)
    }
}

/// Bytes looked at for letter trigrams; longer texts fill the set.
const SAMPLE: usize = 1024;

fn trigram_overlap(a: &str, b: &str) -> f32 {
    let bits = |text: &str| {
        let mut bits = Bits([0; 32]);
        let mut window = 0x0020_u32;
        for byte in
            text.bytes().take(SAMPLE).filter(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80 || *byte == b' ')
        {
            window = (window << 8 | u32::from(byte.to_ascii_lowercase())) & 0x00ff_ffff;
            bits.add(window);
        }
        bits
    };
    bits(a).jaccard(&bits(b))
}

/// Shares of function words, and of neighbouring words.
fn overlaps(pair: &Alignment<'_, '_, '_>) -> (f32, f32) {
    let bits = |analysis: &crate::text::guards::Analysis<'_>| {
        let (mut functions, mut bigrams, mut previous) = (Bits([0; 32]), Bits([0; 32]), 0_u32);
        for token in analysis.tokens.iter().take(SAMPLE / 4) {
            let hash = fnv(analysis.key(token));
            if token.stop {
                functions.add(hash);
            }
            bigrams.add(previous.rotate_left(7) ^ hash);
            previous = hash;
        }
        (functions, bigrams)
    };
    let ((functions_a, bigrams_a), (functions_b, bigrams_b)) = (bits(pair.a), bits(pair.b));
    (functions_a.jaccard(&functions_b), bigrams_a.jaccard(&bigrams_b))
}

/// FNV-1a, 32 bits.
pub(super) fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn sentences(text: &str) -> usize {
    text.bytes().take(4 * SAMPLE).filter(|byte| matches!(byte, b'?' | b'!' | b'.' | b'\n')).count()
}
