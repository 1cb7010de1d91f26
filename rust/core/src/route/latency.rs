//! Online latency estimates in atomics: peak-EWMA by prompt length, and quantiles.

use crate::route::atomic::{AtomicU32, AtomicU64, Relaxed};
use crate::route::clock::{millis, since};
use crate::route::lengths::Lengths;
use crate::route::load::ByLoad;

/// Seconds in which a peak loses 63 % of its height, and a tier not called is believed to recover (Finagle's default
/// is of this order).
const TAU: f64 = 15.0;

/// Share of the way that the remembered good latency moves up with each slower observation.
const GOOD_RISE: f32 = 0.05;

/// A peak-EWMA in one word: the estimate and when it was made.
///
/// An observation above the estimate replaces it at once; one below pulls it down by the time that has passed
/// (Finagle's peak EWMA, <https://github.com/tower-rs/tower/blob/master/tower/src/load/peak_ewma.rs>). Unlike there,
/// an idle estimate decays to the good latency once seen, not to zero: an idle tier is not instant.
#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    estimate: AtomicU64, // f32 bits of the value, then milliseconds; 0 = nothing seen
    good: AtomicU32,     // f32 bits
}

const fn pack(value: f32, millis: u32) -> u64 {
    (value.to_bits() as u64) << 32 | millis as u64
}

const fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

fn decay(from: u32, to: u32) -> f32 {
    let elapsed = since(from, to);
    (-elapsed / TAU).exp() as f32
}

impl PeakEwma {
    pub(super) fn observe(&self, value: f64, now: f64) {
        let (value, now) = (value as f32, millis(now));
        let good = f32::from_bits(self.good.load(Relaxed));
        let good = if good == 0.0 || value < good { value } else { good + GOOD_RISE * (value - good) };
        self.good.store(good.max(f32::MIN_POSITIVE).to_bits(), Relaxed);
        let _ = self.estimate.fetch_update(Relaxed, Relaxed, |word| {
            let (old, then) = unpack(word);
            let new = if word == 0 || value > old {
                value
            } else {
                // Observations in quick succession must still bring a peak down.
                let keep = decay(then, now).min(0.9);
                old * keep + value * (1.0 - keep)
            };
            Some(pack(new.max(f32::MIN_POSITIVE), now))
        });
    }

    pub(super) fn read(&self, now: f64) -> Option<f64> {
        let word = self.estimate.load(Relaxed);
        if word == 0 {
            return None;
        }
        let (value, then) = unpack(word);
        let good = f32::from_bits(self.good.load(Relaxed)).min(value);
        Some(f64::from(good + (value - good) * decay(then, millis(now))))
    }

    fn good(&self) -> Option<f64> {
        let good = f32::from_bits(self.good.load(Relaxed));
        (good > 0.0).then_some(f64::from(good))
    }
}

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
    ttft: [PeakEwma; LENGTHS],
    tpot: PeakEwma,
    output: AtomicU64, // f32 bits of the mean answer length, then its observations
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
            self.ttft[length_class(tokens)].observe(seconds, now);
            self.quantiles[length_class(tokens)].observe(seconds, now);
        }
    }

    /// Adds a finished answer of `tokens` that took `seconds` after its first token.
    pub fn observe_decode(&self, seconds: f64, tokens: u32, now: f64) {
        let _ = self.output.fetch_update(Relaxed, Relaxed, |word| {
            let (mean, seen) = unpack(word);
            let seen = (seen + 1).min(64); // beyond that, a mean over the last 64 or so
            Some(pack(mean + (tokens as f32 - mean) / seen as f32, seen))
        });
        if tokens >= 2 && seconds.is_finite() && seconds >= 0.0 {
            self.tpot.observe(seconds / f64::from(tokens - 1), now);
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

    /// Predicted seconds to the first token; from the nearest length seen where this one was not.
    pub fn ttft(&self, tokens: f64, now: f64) -> Option<f64> {
        self.nearest(tokens, |cell| cell.read(now))
    }

    /// The least that was seen of late, for prompts of about this length.
    pub fn best_ttft(&self, tokens: f64) -> Option<f64> {
        self.nearest(tokens, PeakEwma::good)
    }

    fn nearest(&self, tokens: f64, read: impl Fn(&PeakEwma) -> Option<f64>) -> Option<f64> {
        let class = length_class(tokens);
        (0..LENGTHS).find_map(|step| {
            let below = class.checked_sub(step).and_then(|at| read(&self.ttft[at]));
            below.or_else(|| self.ttft.get(class + step).and_then(&read))
        })
    }

    /// Predicted seconds per output token after the first.
    pub fn tpot(&self, now: f64) -> Option<f64> {
        self.tpot.read(now)
    }

    /// Mean length of the answers so far, in tokens.
    pub fn output_tokens(&self) -> Option<f64> {
        let (mean, seen) = unpack(self.output.load(Relaxed));
        (seen > 0).then_some(f64::from(mean))
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
    use super::{LatencyModel, PeakEwma};

    #[test]
    fn a_peak_counts_at_once_and_fades_to_the_good_latency() {
        let cell = PeakEwma::default();
        assert_eq!(cell.read(0.0), None);
        cell.observe(0.1, 1.0);
        cell.observe(2.0, 2.0);
        assert!((cell.read(2.0).unwrap() - 2.0).abs() < 1e-6);
        let later = cell.read(32.0).unwrap();
        assert!(later < 0.6 && later > 0.1, "{later}");
        assert!(cell.read(1e5).unwrap() < 0.2);
    }

    #[test]
    fn many_quick_observations_bring_a_peak_down() {
        let cell = PeakEwma::default();
        cell.observe(5.0, 0.0);
        for step in 0..50 {
            cell.observe(0.1, f64::from(step) * 1e-3);
        }
        assert!(cell.read(0.05).unwrap() < 0.2);
    }

    #[test]
    fn lengths_are_kept_apart_and_borrowed_from_the_nearest() {
        let model = LatencyModel::default();
        model.observe_ttft(0.1, 30.0, 0.0);
        model.observe_ttft(3.0, 8_000.0, 0.0);
        assert!(model.ttft(20.0, 0.0).unwrap() < 0.2);
        assert!(model.ttft(7_000.0, 0.0).unwrap() > 2.0);
        assert!(model.ttft(1.0, 0.0).unwrap() < 0.2);
        assert!(model.ttft(1e9, 0.0).unwrap() > 2.0);
    }

    #[test]
    fn decode_gives_tpot_and_answer_length() {
        let model = LatencyModel::default();
        assert_eq!(model.tpot(0.0), None);
        model.observe_decode(1.0, 101, 0.0);
        model.observe_decode(0.0, 1, 0.0);
        assert!((model.tpot(0.0).unwrap() - 0.01).abs() < 1e-6);
        assert!((model.output_tokens().unwrap() - 51.0).abs() < 1e-3);
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
        assert_eq!(model.ttft(10.0, 0.0), None);
    }
}
