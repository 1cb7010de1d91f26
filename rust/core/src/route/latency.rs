//! Online latency estimates in atomics: by prompt length, by load, and quantiles.

use crate::route::atomic::{AtomicU32, Relaxed};
use crate::route::good::Good;
use crate::route::lengths::Lengths;
use crate::route::load::ByLoad;

/// Share of the way that the remembered good latency moves up with each slower observation.
const GOOD_RISE: f32 = 0.05;

/// A wait counts as so many times what was expected at most.
const LONGEST_WAIT: f64 = 4.0;

const LENGTHS: usize = 12; // prompts of up to 16, 32, 64 ... 32,768 tokens and beyond

fn length_class(tokens: f64) -> usize {
    let doublings = (tokens.max(1.0) / 16.0).log2().ceil().max(0.0);
    (doublings as usize).min(LENGTHS - 1)
}

/// What a call that had a first token shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Tokens of its prompt.
    pub(super) prompt: f64,
    /// Seconds to the first token.
    pub(super) ttft: Option<f64>,
    /// Seconds from then on.
    pub(super) decode: f64,
    /// Tokens that came.
    pub(super) output: u32,
    /// False where it was given up, and so would have been longer.
    pub(super) whole: bool,
}

/// Time to first token by prompt length, time per output token, and answer length of one tier.
#[derive(Debug, Default)]
pub struct LatencyModel {
    ttft: [Good; LENGTHS],
    quantiles: [Quantiles; LENGTHS],
    lengths: Lengths,
    wait: ByLoad, // seconds to the first token beyond the good ones for prompts of that length
    pace: ByLoad, // seconds per token
    held: ByLoad, // seconds of a whole call, however it ended
}

impl LatencyModel {
    /// Adds a measured time to first token of a prompt of `tokens`.
    pub fn observe_ttft(&self, seconds: f64, tokens: f64, now: f64) {
        if seconds.is_finite() && seconds >= 0.0 {
            self.ttft[length_class(tokens)].observe(seconds, GOOD_RISE);
            self.quantiles[length_class(tokens)].observe(seconds, now);
        }
    }

    /// Learns how the tier is at a load: an answer, or the part of one that had come when it was given up.
    pub(super) fn observe_load(&self, seen: &Seen, load: f64, now: f64) {
        let sound = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        if let Some(ttft) = seen.ttft {
            self.observe_wait(ttft, seen.prompt, load, now);
        }
        if sound(seen.decode) {
            self.held.observe(seen.ttft.unwrap_or(0.0) + seen.decode, load, now);
        }
        if seen.output >= 2 && sound(seen.decode) {
            self.pace.observe(seen.decode / f64::from(seen.output - 1), load, now);
        }
        if seen.whole {
            self.lengths.observe(seen.prompt, seen.output);
        } else if seen.ttft.is_some() {
            self.lengths.observe_beyond(seen.prompt, seen.output);
        }
    }

    /// Learns how long a prompt of so many tokens waits for its first token at a load.
    pub(super) fn observe_wait(&self, ttft: f64, prompt: f64, load: f64, now: f64) {
        if ttft.is_finite() && ttft >= 0.0 {
            let good = self.best_ttft(prompt).unwrap_or(ttft);
            // A call that hangs says little of the others.
            let most = LONGEST_WAIT * (good + self.waits(load, now));
            self.wait.observe((ttft - good).clamp(0.0, most), load, now);
        }
    }

    /// Expected seconds to the first token and per token after it at a load, as far as they are known.
    pub(super) fn under(&self, load: f64, prompt: f64, now: f64) -> (Option<f64>, Option<f64>) {
        let ttft = self.best_ttft(prompt).map(|good| good + self.waits(load, now));
        (ttft, self.pace.read(load, now))
    }

    /// Seconds that a prompt waits at a load beyond what is good for its length.
    pub(super) fn waits(&self, load: f64, now: f64) -> f64 {
        self.wait.usual(load, now).unwrap_or(0.0)
    }

    /// Seconds for which a call is expected to hold a slot at a load; `None` while unknown.
    pub(super) fn holds(&self, load: f64, now: f64) -> Option<f64> {
        self.held.usual(load, now)
    }

    /// Mean of a function of the answer's length, for a prompt of so many tokens; `None` before any answer.
    pub(super) fn over_lengths(&self, prompt: f64, of: impl Fn(f64) -> f64) -> Option<f64> {
        self.lengths.mean(prompt, of)
    }

    /// About the least that was seen, for prompts of this length or of the nearest one seen.
    pub fn best_ttft(&self, tokens: f64) -> Option<f64> {
        let class = length_class(tokens);
        (0..LENGTHS).find_map(|step| {
            let below = class.checked_sub(step).and_then(|at| self.ttft[at].read());
            below.or_else(|| self.ttft.get(class + step).and_then(Good::read))
        })
    }

    /// The time to first token that a share `q` of the calls of the last minutes did not exceed; `None` where fewer than
    /// `least` calls support it.
    ///
    /// It is that of prompts of about this length, and as many neighbouring lengths on both sides as it takes to have
    /// `least` calls; without `tokens`, of all.
    pub fn ttft_quantile(&self, tokens: Option<f64>, q: f64, least: u32, now: f64) -> Option<f64> {
        let class = tokens.map(length_class);
        let mut counts = [0; STEPS];
        let mut seen = 0;
        for step in 0..LENGTHS {
            let (below, above) = match class {
                Some(class) => (class.checked_sub(step), (step > 0).then_some(class + step)),
                None => (Some(step), None),
            };
            for at in [below, above].into_iter().flatten().filter(|at| *at < LENGTHS) {
                seen += self.quantiles[at].add_to(&mut counts, now);
            }
            let all = class.is_some() || step + 1 == LENGTHS;
            if all && seen >= least.max(1) {
                return Some(quantile(&counts, seen, q));
            }
        }
        None
    }
}

const STEPS: usize = 96;
const RATIO: f64 = 1.15; // from 1 ms in steps of 15 % to 11 minutes
const WINDOW: f64 = 60.0;

/// Counts over the last one to two minutes, in two windows used in turn.
///
/// Resolution is 15 %. Threads that meet at a window's change may lose a few counts, never the state.
#[derive(Debug)]
struct Quantiles {
    windows: [[AtomicU32; STEPS]; 2],
    epoch: AtomicU32,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { windows: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU32::new(0))), epoch: AtomicU32::new(0) }
    }
}

fn epoch(now: f64) -> u32 {
    (now.max(0.0) / WINDOW) as u32 + 1
}

impl Quantiles {
    fn observe(&self, seconds: f64, now: f64) {
        let epoch = epoch(now);
        let before = self.epoch.load(Relaxed);
        if before < epoch && self.epoch.compare_exchange(before, epoch, Relaxed, Relaxed).is_ok() {
            // Two epochs or more without a call: both windows are old.
            let stale = if epoch - before > 1 { 0..2 } else { epoch as usize % 2..epoch as usize % 2 + 1 };
            for count in self.windows[stale].iter().flatten() {
                count.store(0, Relaxed);
            }
        }
        let step = (seconds.max(1e-3) / 1e-3).ln() / RATIO.ln();
        self.windows[epoch as usize % 2][(step.ceil() as usize).min(STEPS - 1)].fetch_add(1, Relaxed);
    }

    /// Adds the counts of the windows that are not old to others; returns how many calls they are.
    fn add_to(&self, counts: &mut [u32; STEPS], now: f64) -> u32 {
        let last = self.epoch.load(Relaxed);
        let fresh = match epoch(now).saturating_sub(last) {
            0 => 0..2,
            1 => last as usize % 2..last as usize % 2 + 1,
            _ => 0..0,
        };
        let mut added = 0;
        for window in &self.windows[fresh] {
            for (count, seen) in counts.iter_mut().zip(window) {
                let seen = seen.load(Relaxed);
                *count += seen;
                added += seen;
            }
        }
        added
    }
}

/// The value that a share `q` of `seen` counted calls does not exceed.
fn quantile(counts: &[u32; STEPS], seen: u32, q: f64) -> f64 {
    let target = (q.clamp(0.0, 1.0) * f64::from(seen)).ceil().max(1.0) as u32;
    let mut below = 0;
    let reached = counts.iter().position(|count| {
        below += count;
        below >= target
    });
    1e-3 * RATIO.powi(reached.unwrap_or(STEPS - 1) as i32)
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::{LatencyModel, Seen};

    #[test]
    fn lengths_are_kept_apart_and_borrowed_from_the_nearest() {
        let model = LatencyModel::default();
        model.observe_ttft(0.1, 30.0, 0.0);
        model.observe_ttft(3.0, 8_000.0, 0.0);
        assert!(model.best_ttft(20.0).unwrap() < 0.2);
        assert!(model.best_ttft(7_000.0).unwrap() > 2.0);
        assert!(model.best_ttft(1.0).unwrap() < 0.2);
        assert!(model.best_ttft(1e9).unwrap() > 2.0);
    }

    #[test]
    fn decoding_is_per_token_and_at_its_load() {
        let model = LatencyModel::default();
        assert_eq!(model.under(1.0, 10.0, 0.0), (None, None));
        let seen = Seen { prompt: 10.0, ttft: None, decode: 2.0, output: 101, whole: true };
        model.observe_load(&seen, 3.0, 0.0);
        model.observe_load(&Seen { output: 1, ..seen }, 3.0, 0.0);
        assert!((model.under(3.0, 10.0, 0.0).1.unwrap() - 0.02).abs() < 1e-3, "one token has no pace");
        assert!(model.over_lengths(10.0, |tokens| tokens).is_some_and(|tokens| (tokens - 51.0).abs() < 10.0));
    }

    #[test]
    fn quantiles_follow_the_last_minutes() {
        let model = LatencyModel::default();
        for step in 0..100 {
            model.observe_ttft(if step < 95 { 0.1 } else { 4.0 }, 10.0, 1.0);
        }
        let quantile = |q, now| model.ttft_quantile(None, q, 1, now);
        let (p50, p99) = (quantile(0.5, 1.0).unwrap(), quantile(0.99, 1.0).unwrap());
        assert!((p50 / 0.1 - 1.0).abs() < 0.16 && (p99 / 4.0 - 1.0).abs() < 0.16, "{p50} {p99}");
        assert!(quantile(0.5, 70.0).is_some() && quantile(0.5, 130.0).is_none(), "old calls do not count");
        model.observe_ttft(1.0, 10.0, 1_000.0);
        assert!(model.ttft_quantile(None, 0.5, 2, 1_000.0).is_none());
        assert!((quantile(0.0, 1_000.0).unwrap() / 1.0 - 1.0).abs() < 0.16);
    }

    #[test]
    fn quantiles_are_those_of_the_prompts_length() {
        let model = LatencyModel::default();
        for _ in 0..20 {
            model.observe_ttft(0.1, 30.0, 1.0);
            model.observe_ttft(5.0, 8_000.0, 1.0);
        }
        let p95 = |tokens, least| model.ttft_quantile(Some(tokens), 0.95, least, 1.0).unwrap();
        assert!(p95(25.0, 20) < 0.12 && p95(7_000.0, 20) > 4.0);
        assert!(p95(1_000.0, 20) > 4.0, "nearer to the long prompts");
        assert!(p95(25.0, 30) > 4.0, "too few of its own length: all of them count");
        assert!(model.ttft_quantile(Some(25.0), 0.95, 41, 1.0).is_none());
    }

    #[test]
    fn nonsense_is_not_learned() {
        let model = LatencyModel::default();
        model.observe_ttft(f64::NAN, 10.0, 0.0);
        model.observe_ttft(-1.0, 10.0, 0.0);
        assert_eq!(model.best_ttft(10.0), None);
    }
}
