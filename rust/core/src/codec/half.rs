//! Half precision by its bits; the machine's own conversion gives the same values.

/// Difference of the exponents' biases, as a factor: 2^112.
const REBIAS: f32 = f32::from_bits((127 + 112) << 23);

/// The nearest half-precision number, ties to even; for values of at most 65,504.
pub(crate) fn from_f32(value: f32) -> u16 {
    let scaled = (value / REBIAS).to_bits();
    let magnitude = scaled & 0x7fff_ffff;
    let rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    ((rounded >> 13) | ((scaled >> 16) & 0x8000)) as u16
}

/// The value of a half-precision number; exact.
#[inline]
pub(crate) fn to_f32(half: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * REBIAS;
    f32::from_bits(magnitude.to_bits() | u32::from(half & 0x8000) << 16)
}
