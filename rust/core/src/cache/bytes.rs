//! What a piece of memory really costs.

/// Bytes the system allocator takes for a request of `size` bytes: an 8-byte header, steps of 16 and
/// 32 at the least (glibc's `malloc`; the other allocators in use differ by a few per cent).
pub(crate) const fn allocated(size: usize) -> usize {
    if size == 0 {
        return 0;
    }
    let stepped = (size + 8).next_multiple_of(16);
    if stepped < 32 { 32 } else { stepped }
}

/// Bytes that blocks of many sizes take among others as they come and go: one twelfth more than the blocks
/// themselves, for the holes between them that fit no next one (3.5 to 7 MB beside 29 to 33 in use, over a million
/// stores under 64 MiB).
pub(crate) const fn scattered(blocks: usize) -> usize {
    blocks + blocks / 12
}

/// Bytes a map takes per record: the boxed pair behind each slot, and the table's pointer and control
/// byte per slot at the average filling of a table that doubles at 7/8... measured, see `benches/rust`.
pub(crate) const fn record_bytes(pair: usize) -> usize {
    allocated(pair) + 16
}

#[cfg(test)]
mod tests {
    use super::allocated;

    #[test]
    fn rounds_as_the_allocator_does() {
        assert_eq!([0, 1, 24, 25, 40, 41].map(allocated), [0, 32, 32, 48, 48, 64]);
    }
}
