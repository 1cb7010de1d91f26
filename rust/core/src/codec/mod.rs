//! From vectors to short codes, with bounds that never lose a neighbour.
//!
//! A [`Basis`] maps a unit vector to a few slabs of 64 dimensions that carry most of its energy; each
//! slab is coded in 4 bits a dimension. For a query `q` and a stored vector `x` with slab coordinates
//! `y`, their code `c` and the rest `r` outside the slabs,
//!
//! `q·x = q_P·c + q_P·(y - c) + q_R·r <= q_P·c + |q_P| |y - c| + |q_R| |r|`
//!
//! (Cauchy-Schwarz twice). The norms `|y - c|` and `|r|` are stored with the code, rounded up, so the
//! right-hand side is known without the vector; every rounding on the way is added to it. A vector whose
//! bound is below the threshold is no neighbour, for certain. The same holds for the head of the first slab
//! alone, with norms of its own: it is what a scan looks at first.

mod basis;
mod bound;
mod eigen;
mod encode;
pub(crate) mod half;
mod lesson;
mod shared;
mod unit;

pub use basis::Basis;
pub(crate) use basis::MAX_SLABS;
pub(crate) use bound::QueryBound;
pub(crate) use encode::{SlabCode, encode};
pub(crate) use lesson::Lesson;
pub use shared::SharedBasis;
pub(crate) use unit::{float_error, scaled, unit, unit_scale};

#[cfg(test)]
mod tests;
