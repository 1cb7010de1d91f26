//! The query's side of the bound.

use super::basis::MAX_SLABS;
use super::encode::{ERROR_UNIT, RESIDUAL_UNIT};
use super::{Basis, float_error};
use crate::simd::{
    Cut, DeepPart, DeepQuery, FRACTION_BITS, HEAD, HeadCut, Kernels, SLAB, ScanQuery, SieveQuery, SlabPart, Words,
};
use std::cell::OnceCell;

/// Smallest value of one integer unit of the scan, so that its 16-bit weights hold any query's norms.
const MIN_UNIT: f64 = 1.25 * ERROR_UNIT / 32_000.0;

/// What one slab's part of a bound may lose in single precision. Its largest term, the sum over levels that count from 0,
/// is at most 15 steps of 0.1 times the 1-norm of a unit vector in 64 dimensions, which is 8: 12 in all. It and
/// the offset are off by two and one units of 2^-24 of themselves, and so is each of three sums.
const SINGLE: f64 = 1e-5;

/// A unit query prepared for one basis.
#[derive(Debug)]
pub(crate) struct QueryBound<'a> {
    basis: &'a Basis,
    kernels: &'a Kernels,
    query: &'a [f32],
    first: SlabQuery,
    scan: ScanQuery,
    /// Made when they are first asked for.
    later: [OnceCell<SlabQuery>; MAX_SLABS - 1],
    float_error: f64,
}

/// The query in one slab: integer weights, and what they leave out.
#[derive(Debug)]
pub(crate) struct SlabQuery {
    weights: [i8; SLAB],
    words: Words,
    /// Value of one unit of the fixed-point sum.
    unit: f64,
    /// The head alone.
    head: Part,
    /// The whole slab.
    whole: Part,
}

/// What an integer sum over some dimensions does not say.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// What the sum misses because levels count from 0: to be added.
    offset: f64,
    /// Factor of a vector's coding error.
    error: f64,
    /// Factor of a vector's residual norm.
    residual: f64,
    /// Squared norm outside these dimensions and those before them, rounded up.
    outside: f64,
    /// Rounding of the weights, for a vector of norm 1.
    slack: f64,
}

impl SlabQuery {
    fn new(basis: &Basis, kernels: &Kernels, slab: usize, query: &[f32], outside: f64) -> Self {
        let rounding = basis.projection_error();
        let y = basis.project(kernels, slab, query);
        let (head, rest) = y.split_at(HEAD);
        let steps = basis.slabs()[slab].steps;
        let square = |part: &[f32]| part.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        let left = |square: f64| (outside - (square.sqrt() - rounding).max(0.0).powi(2)).max(0.0);
        let largest = [head, rest]
            .into_iter()
            .zip(steps)
            .map(|(part, step)| f64::from(part.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()))) * step);
        let fixed = f64::from(1_u32 << FRACTION_BITS);
        // A weight is a coordinate times its step, so that the sums of both parts are in one unit.
        let mut scale = (127.0 / largest.fold(1e-12, f64::max)).min(1.0 / (fixed * MIN_UNIT));
        if slab == 0 {
            scale = head_scale(scale, square(head).sqrt() + 2.0 * rounding, residual_factor(left(square(head))));
        }
        let mut weights = [0; SLAB];
        let mut parts = [Part::default(); 2];
        let (mut inside, mut missed, mut total) = (0.0, 0.0, 0_i32);
        let (head_weights, rest_weights) = weights.split_at_mut(HEAD);
        let both = [(head, head_weights), (rest, rest_weights)].into_iter().zip(steps);
        for (part, ((y, weights), step)) in parts.iter_mut().zip(both) {
            let (forth, back) = (step * scale, (step * scale).recip());
            for (value, weight) in y.iter().zip(weights) {
                let value = f64::from(*value);
                // Half away from zero, without a call: what rounding leaves is measured below.
                *weight = (value * forth + 0.5_f64.copysign(value)) as i8;
                missed += (value - f64::from(*weight) * back).powi(2);
                total += i32::from(*weight);
            }
            inside += square(y);
            let missed = missed.sqrt() + rounding;
            let outside = left(inside);
            *part = Part {
                offset: -7.5 / scale * f64::from(total),
                error: inside.sqrt() + rounding + missed,
                residual: residual_factor(outside),
                outside,
                slack: missed * (1.0 + 1e-3),
            };
        }
        let [head, whole] = parts;
        Self { weights, words: Words::new(&weights), unit: 1.0 / (scale * fixed), head, whole }
    }

    pub(crate) fn weights(&self) -> &[i8; SLAB] {
        &self.weights
    }

    /// What this slab adds to the bound, from its dot product and the vector's coding error in it.
    pub(crate) fn part(&self, dot: i32, error: u8) -> f64 {
        self.unit * f64::from(dot << FRACTION_BITS)
            + self.whole.error * ERROR_UNIT * f64::from(error)
            + self.whole.offset
            + self.whole.slack
    }

    /// What all later slabs and the rest can add at most.
    pub(crate) fn rest(&self, residual: u8) -> f64 {
        self.whole.residual * RESIDUAL_UNIT * f64::from(residual)
    }

    /// What one unit of the inner product is worth, and what one of the coding error, in single precision.
    fn single(&self) -> [f32; 2] {
        [self.unit * f64::from(1_u32 << FRACTION_BITS), self.whole.error * ERROR_UNIT].map(|value| value as f32)
    }

    fn deep_part(&self) -> DeepPart {
        let [unit, error] = self.single();
        DeepPart { words: self.words, unit, error }
    }

    /// This slab as a sieve that keeps whatever may reach `threshold`.
    pub(crate) fn sieve(&self, threshold: f32) -> SieveQuery {
        let [unit, error] = self.single();
        SieveQuery {
            part: SlabPart { weights: self.weights, unit, error },
            residual: (self.whole.residual * RESIDUAL_UNIT) as f32,
            offset: (self.whole.offset + self.whole.slack + SINGLE) as f32,
            floor: threshold,
        }
    }

    /// The slab as a scan that leaves everything.
    fn scan(&self) -> ScanQuery {
        let whole = |factor: f64| (factor / self.unit).ceil() as i16;
        // What is a whole number by `head_scale` stays one: the units that `limit` takes away make up for that.
        let head = |factor: f64| {
            let weight = (factor / self.head_unit() - 1e-6).ceil();
            debug_assert!((0.0..=127.0).contains(&weight), "a weight that does not fit a byte: {weight}");
            weight as i8
        };
        let (Part { residual, error, .. }, of_head) = (self.whole, self.head);
        ScanQuery {
            words: self.words,
            head: HeadCut {
                residual: head(of_head.residual * RESIDUAL_UNIT),
                error: head(of_head.error * ERROR_UNIT),
                limit: i32::MIN,
            },
            whole: Cut { residual: whole(residual * RESIDUAL_UNIT), error: whole(error * ERROR_UNIT), limit: i32::MIN },
        }
    }

    /// Value of one unit of the sum over the head.
    fn head_unit(&self) -> f64 {
        self.unit * f64::from(1_u32 << FRACTION_BITS)
    }
}

impl Part {
    /// What a sum in `unit` is at least where the similarity may reach `threshold`, less a unit at least.
    fn limit(&self, threshold: f64, unit: f64) -> i32 {
        // Two less than the next whole number towards zero, as fast as a call to `floor` is not.
        ((threshold - self.slack - self.offset) / unit) as i32 - 2
    }
}

/// Factor of a vector's residual norm, from the squared norm of the query outside what is coded.
fn residual_factor(outside: f64) -> f64 {
    outside.sqrt() + 1e-6
}

/// The largest scale up to `scale` at which the norms' weights in the test of a head fit a byte and that of the residual norm,
/// `residual` before it is scaled, is a whole number, so that nothing is lost by rounding it; `norm` is the head's with twice
/// its rounding.
fn head_scale(scale: f64, norm: f64, residual: f64) -> f64 {
    // The coding error's factor has on top what weights miss, at most half of one for each of 36: less than 13 in all, for
    // steps are no less than 0.001.
    let scale = scale.min(112.0 / (norm * ERROR_UNIT)).min(127.0 / (residual * RESIDUAL_UNIT));
    let weight = residual * RESIDUAL_UNIT * scale;
    if weight < 1.0 { scale } else { scale * weight.floor() / weight }
}

impl<'a> QueryBound<'a> {
    /// Prepares a unit vector.
    pub(crate) fn new(basis: &'a Basis, kernels: &'a Kernels, query: &'a [f32]) -> Self {
        let float_error = float_error(basis.dim());
        let outside = (1.0 + float_error) * (1.0 + basis.stretch());
        let first = SlabQuery::new(basis, kernels, 0, query, outside);
        let scan = first.scan();
        Self { basis, kernels, query, first, scan, later: Default::default(), float_error }
    }

    /// The first slab as a scan that keeps whatever may reach `threshold`.
    pub(crate) fn scan(&self, threshold: f32) -> ScanQuery {
        let (slab, threshold) = (&self.first, f64::from(threshold) - self.float_error);
        let mut scan = self.scan.clone();
        scan.head.limit = slab.head.limit(threshold, slab.head_unit());
        scan.whole.limit = slab.whole.limit(threshold, slab.unit);
        scan
    }

    /// The first two slabs, which the basis has, as a scan that keeps whatever may reach `threshold`.
    pub(crate) fn scan_deep(&self, threshold: f32) -> DeepQuery {
        let (first, second) = (&self.first, self.later(1));
        let offsets = [&first.whole, &second.whole].map(|part| part.offset + part.slack + SINGLE);
        DeepQuery {
            parts: [first.deep_part(), second.deep_part()],
            residual: (second.whole.residual * RESIDUAL_UNIT) as f32,
            offset: (offsets.iter().sum::<f64>() + self.float_error) as f32,
            floor: threshold,
        }
    }

    /// What the scan of the first slab left, as a similarity: an upper bound but for the residual.
    pub(crate) fn start(&self) -> impl Fn(i32) -> f32 + use<> {
        let whole = &self.first.whole;
        let unit = self.first.unit as f32;
        let offset = (whole.offset + whole.slack + self.float_error + SINGLE) as f32;
        // Less than 2^24, so that it is exact in single precision.
        move |partial| unit * partial as f32 + offset
    }

    /// The query in slab 1 or a later one, which the basis has.
    pub(crate) fn later(&self, slab: usize) -> &SlabQuery {
        self.later[slab - 1].get_or_init(|| {
            let before = if slab == 1 { &self.first } else { self.later(slab - 1) };
            SlabQuery::new(self.basis, self.kernels, slab, self.query, before.whole.outside)
        })
    }

    /// The first slab's weights.
    #[cfg(test)]
    pub(crate) fn weights(&self) -> &[i8; SLAB] {
        self.first.weights()
    }

    /// Value of one unit of the sum over its head.
    #[cfg(test)]
    pub(crate) fn head_unit(&self) -> f64 {
        self.first.head_unit()
    }

    /// Upper bounds after the head of the first slab, and after all of it, from its code: the reference for tests.
    #[cfg(test)]
    pub(crate) fn first_reach(&self, code: &super::encode::SlabCode) -> [f64; 2] {
        let slab = &self.first;
        let products: Vec<i32> =
            slab.weights.iter().zip(code.levels).map(|(w, c)| i32::from(*w) * i32::from(c)).collect();
        [(&products[..HEAD], &slab.head, code.head), (&products[..], &slab.whole, code.whole)].map(
            |(products, part, norms)| {
                slab.unit * f64::from(products.iter().sum::<i32>() << FRACTION_BITS)
                    + part.error * ERROR_UNIT * f64::from(norms.error)
                    + part.residual * RESIDUAL_UNIT * f64::from(norms.residual)
                    + part.offset
                    + part.slack
                    + self.float_error
            },
        )
    }
}
