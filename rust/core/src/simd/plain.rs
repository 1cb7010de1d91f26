//! What of the layout is plain bytes, so that it can be in memory of the system's own.
#![expect(unsafe_code, reason = "the traits are promises about memory layout")]

use super::{BLOCK, Candidate, Line, Reach, Rest, RowCodes, SLAB};
use bytemuck::{Pod, Zeroable};

/// One array of bytes and nothing else: what the promises below rest on.
const _: () = assert!(size_of::<Line>() == 64 && size_of::<RowCodes>() == SLAB / 2);
const _: () = assert!(size_of::<Rest>() == 16 * BLOCK && size_of::<Candidate>() == 8 && size_of::<Reach>() == 8);

// SAFETY: an array of bytes without padding (asserted above), of which any bytes, zeros too, are a value.
unsafe impl Zeroable for Line {}
// SAFETY: as above; besides, it is `Copy`, `repr(C)` and without lifetimes.
unsafe impl Pod for Line {}
// SAFETY: as for `Line`.
unsafe impl Zeroable for RowCodes {}
// SAFETY: as for `Line`.
unsafe impl Pod for RowCodes {}
// SAFETY: as for `Line`.
unsafe impl Zeroable for Rest {}
// SAFETY: as for `Line`.
unsafe impl Pod for Rest {}
// SAFETY: two words of 32 bits without padding (asserted above), of which any bits, zeros too, are a value.
unsafe impl Zeroable for Candidate {}
// SAFETY: as above; besides, it is `Copy`, `repr(C)` and without lifetimes.
unsafe impl Pod for Candidate {}
// SAFETY: as for `Candidate`.
unsafe impl Zeroable for Reach {}
// SAFETY: as for `Candidate`.
unsafe impl Pod for Reach {}
