//! Checks and normalises what comes in.

use crate::{Error, Result};

/// Relative error of a sum of `dim` products in single precision, for vectors of norm 1.
pub(crate) fn float_error(dim: usize) -> f64 {
    (dim + 8) as f64 * f64::from(f32::EPSILON)
}

/// The vector divided by its norm.
pub(crate) fn unit(vector: &[f32], dim: usize) -> Result<Vec<f32>> {
    let scale = unit_scale(vector, dim)?;
    Ok(scaled(vector, scale).collect())
}

/// The vector's values times what [`unit_scale`] gave for it.
pub(crate) fn scaled(vector: &[f32], scale: f64) -> impl ExactSizeIterator<Item = f32> + Clone {
    vector.iter().map(move |value| (f64::from(*value) * scale) as f32)
}

/// One by the vector's norm, which is taken in double precision so that neither huge nor tiny values overflow.
pub(crate) fn unit_scale(vector: &[f32], dim: usize) -> Result<f64> {
    if vector.len() != dim {
        return Err(Error::Dimension { expected: dim, got: vector.len() });
    }
    let square = square(vector);
    if !square.is_finite() {
        let position = vector.iter().position(|value| !value.is_finite()).unwrap_or(0);
        return Err(Error::NotFinite { position, value: vector[position] });
    }
    if square == 0.0 {
        return Err(Error::ZeroVector);
    }
    Ok(square.sqrt().recip())
}

/// The squared norm, in sums that do not wait for each other.
fn square(vector: &[f32]) -> f64 {
    let (full, tail) = vector.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for part in full {
        for (sum, value) in sums.iter_mut().zip(part) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum::<f64>() + tail.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>()
}
