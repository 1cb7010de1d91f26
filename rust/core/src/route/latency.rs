//! Online latency estimates in atomics: peak-EWMA by prompt length, and quantiles.

use crate::route::atomic::{AtomicU32, AtomicU64, Relaxed};
use crate::route::clock::{millis, since};

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

const LENGTHS: usize = 12; // prompts of up to 16, 32, 64 ... 32,768 tokens and beyond

fn length_class(tokens: f64) -> usize {
    let doublings = (tokens.max(1.0) / 16.0).log2().ceil().max(0.0);
    (doublings as usize).min(LENGTHS - 1)
}

/// Time to first token by prompt length, time per output token, and answer length of one tier.
#[derive(Debug, Default)]
pub struct LatencyModel {
    ttft: [PeakEwma; LENGTHS],
    tpot: PeakEwma,
    output: AtomicU64, // f32 bits of the mean answer length, then its observations
    quantiles: Quantiles,
}

impl LatencyModel {
    /// Adds a measured time to first token of a prompt of `tokens`.
    pub fn observe_ttft(&self, seconds: f64, tokens: f64, now: f64) {
        if seconds.is_finite() && seconds >= 0.0 {
            self.ttft[length_class(tokens)].observe(seconds, now);
            self.quantiles.observe(seconds, now);
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

    /// Quantiles of the time to first token.
    pub fn quantiles(&self) -> &Quantiles {
        &self.quantiles
    }
}

const STEPS: usize = 96;
const RATIO: f64 = 1.15; // from 1 ms in steps of 15 % to 11 minutes
const WINDOW: f64 = 60.0;

/// Quantiles over the last one to two minutes, from two counting windows used in turn.
///
/// Resolution is 15 %. Threads that meet at a window's change may lose a few counts, never the state.
#[derive(Debug)]
pub struct Quantiles {
    windows: [[AtomicU32; STEPS]; 2],
    epoch: AtomicU32,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { windows: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU32::new(0))), epoch: AtomicU32::new(0) }
    }
}

impl Quantiles {
    fn observe(&self, seconds: f64, now: f64) {
        let epoch = (now.max(0.0) / WINDOW) as u32 + 1;
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

    /// Number of observations that the quantiles rest on.
    pub fn len(&self) -> u32 {
        self.windows.iter().flatten().map(|count| count.load(Relaxed)).sum()
    }

    /// True before the first observation.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value that a share `q` of the observations does not exceed, or `None` without any.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let target = (q.clamp(0.0, 1.0) * f64::from(self.len())).ceil().max(1.0) as u32;
        let mut below = 0;
        (0..STEPS).find_map(|step| {
            below += self.windows[0][step].load(Relaxed) + self.windows[1][step].load(Relaxed);
            (below >= target).then(|| 1e-3 * RATIO.powi(step as i32))
        })
    }
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
        let quantiles = model.quantiles();
        assert_eq!(quantiles.len(), 100);
        let (p50, p99) = (quantiles.quantile(0.5).unwrap(), quantiles.quantile(0.99).unwrap());
        assert!((p50 / 0.1 - 1.0).abs() < 0.16 && (p99 / 4.0 - 1.0).abs() < 0.16, "{p50} {p99}");
        model.observe_ttft(1.0, 10.0, 1_000.0);
        assert_eq!(quantiles.len(), 1);
    }

    #[test]
    fn nonsense_is_not_learned() {
        let model = LatencyModel::default();
        model.observe_ttft(f64::NAN, 10.0, 0.0);
        model.observe_ttft(-1.0, 10.0, 0.0);
        assert_eq!(model.ttft(10.0, 0.0), None);
    }
}
