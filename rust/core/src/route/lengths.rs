//! How long the answers are: a distribution by the prompt's length, learned from what was answered.

use crate::route::atomic::{AtomicU32, Relaxed};

/// Classes of prompts: half an octave each, from 16 tokens to 32,768 and beyond; one more row is for all of them.
const CLASSES: usize = 24;
/// Classes of answers: half an octave each, from 1 token to 2,900 and beyond.
const BINS: usize = 24;
/// What one answer weighs, so that a part of one can be counted.
const ONE: u32 = 64;
/// Answers after which older ones fade: all counts are halved.
const FADE: u32 = 512 * ONE;
/// Answers to prompts of all lengths count as so many of this prompt's class.
const SHARED: f64 = 16.0;

/// Answer lengths as counts.
///
/// An answer that was given up is known to be longer than what came of it. Its weight goes to the longer classes in
/// proportion to what is known of them (as Kaplan and Meier redistribute to the right): else a tier that has time for
/// short answers alone would seem to give no others. Threads that meet may lose a few counts, never the state.
#[derive(Debug)]
pub(super) struct Lengths {
    counts: [[AtomicU32; BINS]; CLASSES + 1],
}

impl Default for Lengths {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU32::new(0))) }
    }
}

fn class_of(prompt: f64) -> usize {
    (2.0 * (prompt.max(1.0) / 16.0).log2()).round().clamp(0.0, (CLASSES - 1) as f64) as usize
}

fn bin_of(tokens: u32) -> usize {
    ((2.0 * f64::from(tokens.max(1)).log2()).round() as usize).min(BINS - 1)
}

/// Tokens that stand for each class of answers.
const TOKENS: [f64; BINS] = {
    let mut tokens = [0.0; BINS];
    let mut at = 0;
    while at < BINS {
        let octave = (1_u32 << (at / 2)) as f64;
        tokens[at] = if at % 2 == 0 { octave } else { octave * std::f64::consts::SQRT_2 };
        at += 1;
    }
    tokens
};

impl Lengths {
    /// Adds the length of a whole answer to a prompt of so many tokens.
    pub(super) fn observe(&self, prompt: f64, tokens: u32) {
        for row in [class_of(prompt), CLASSES] {
            self.add(row, bin_of(tokens), ONE);
        }
    }

    /// Adds an answer of which `tokens` had come when it was given up.
    pub(super) fn observe_beyond(&self, prompt: f64, tokens: u32) {
        let from = bin_of(tokens);
        for row in [class_of(prompt), CLASSES] {
            let longer: [u32; BINS] = std::array::from_fn(|at| if at < from { 0 } else { self.read(row, at) });
            let all: u32 = longer.iter().sum();
            if all == 0 {
                self.add(row, (from + 1).min(BINS - 1), ONE);
                continue;
            }
            for (at, count) in longer.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                self.add(row, at, (f64::from(ONE) * f64::from(count) / f64::from(all)).round() as u32);
            }
        }
    }

    fn read(&self, row: usize, at: usize) -> u32 {
        self.counts[row][at].load(Relaxed)
    }

    fn add(&self, row: usize, at: usize, weight: u32) {
        if weight == 0 {
            return;
        }
        self.counts[row][at].fetch_add(weight, Relaxed);
        let all: u32 = (0..BINS).map(|at| self.read(row, at)).sum();
        if all > FADE {
            for count in &self.counts[row] {
                let _ = count.fetch_update(Relaxed, Relaxed, |count| Some(count / 2));
            }
        }
    }

    /// Mean of a function of the answer's length in tokens, for a prompt of so many; `None` before any answer.
    pub(super) fn mean(&self, prompt: f64, of: impl Fn(f64) -> f64) -> Option<f64> {
        let class = class_of(prompt);
        let every: u32 = (0..BINS).map(|at| self.read(CLASSES, at)).sum();
        if every == 0 {
            return None;
        }
        let shared = SHARED * f64::from(ONE) / f64::from(every);
        let (mut sum, mut weights) = (0.0, 0.0);
        for (at, &tokens) in TOKENS.iter().enumerate() {
            let weight = f64::from(self.read(class, at)) + shared * f64::from(self.read(CLASSES, at));
            if weight > 0.0 {
                sum += weight * of(tokens);
                weights += weight;
            }
        }
        (weights > 0.0).then(|| sum / weights)
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::Lengths;

    #[test]
    fn answers_are_as_long_as_those_to_prompts_of_that_length() {
        let lengths = Lengths::default();
        assert_eq!(lengths.mean(10.0, |tokens| tokens), None);
        for _ in 0..100 {
            lengths.observe(10.0, 16);
            lengths.observe(3_000.0, 512);
        }
        let mean = |prompt| lengths.mean(prompt, |tokens| tokens).unwrap();
        assert!(mean(10.0) < 70.0 && mean(3_000.0) > 450.0, "{} {}", mean(10.0), mean(3_000.0));
        assert!((mean(200.0) - 264.0).abs() < 1.0, "nothing seen of its own: all of them");
    }

    #[test]
    fn an_answer_given_up_is_one_of_the_longer_ones() {
        let lengths = Lengths::default();
        for _ in 0..50 {
            lengths.observe(10.0, 16);
            lengths.observe(10.0, 512);
        }
        for _ in 0..100 {
            lengths.observe_beyond(10.0, 100);
        }
        let long = lengths.mean(10.0, |tokens| f64::from(tokens > 100.0)).unwrap();
        assert!((long - 0.75).abs() < 0.02, "{long}");
        let first = Lengths::default();
        first.observe_beyond(10.0, 100);
        assert!(first.mean(10.0, |tokens| tokens).is_some_and(|tokens| tokens > 100.0));
    }

    #[test]
    fn old_answers_fade() {
        let lengths = Lengths::default();
        for tokens in [16, 512] {
            for _ in 0..2_000 {
                lengths.observe(10.0, tokens);
            }
        }
        assert!(lengths.mean(10.0, |tokens| tokens).is_some_and(|tokens| tokens > 450.0));
    }
}
