//! What of the layout is plain bytes, so that it can be in memory of the system's own.
#![expect(unsafe_code, reason = "the traits are promises about memory layout")]

use super::{BLOCK, Line, RowCodes, SLAB, Terms};
use bytemuck::{Pod, Zeroable};

/// One array of bytes and nothing else: what the promises below rest on.
const _: () = assert!(size_of::<Line>() == 64 && size_of::<Terms>() == 2 * BLOCK && size_of::<RowCodes>() == SLAB / 2);

// SAFETY: an array of bytes without padding (asserted above), of which any bytes, zeros too, are a value.
unsafe impl Zeroable for Line {}
// SAFETY: as above; besides, it is `Copy`, `repr(C)` and without lifetimes.
unsafe impl Pod for Line {}
// SAFETY: as for `Line`.
unsafe impl Zeroable for Terms {}
// SAFETY: as for `Line`.
unsafe impl Pod for Terms {}
// SAFETY: as for `Line`.
unsafe impl Zeroable for RowCodes {}
// SAFETY: as for `Line`.
unsafe impl Pod for RowCodes {}
