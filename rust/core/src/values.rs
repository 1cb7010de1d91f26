//! Room for many values that goes back to the system as a whole.

use bytemuck::Pod;
use memmap2::{MmapMut, MmapOptions};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Bytes from which values get memory of the system's own. What an allocator gives for such blocks and takes back turns
/// into holes between entries that live longer: with it, a process under churn held 1.26 times what was counted.
const MAPPED_FROM: usize = 16 << 10;

/// Bytes in which the system gives memory.
const GRAIN: usize = 4096;

/// Values of fixed size, end to end.
#[derive(Debug)]
pub(crate) enum Values<T> {
    Held(Vec<T>),
    Mapped { pages: MmapMut, len: usize, kind: PhantomData<T> },
}

impl<T: Pod> Values<T> {
    /// Room for `count` values, of which there are none yet.
    pub(crate) fn with_capacity(count: usize) -> Self {
        let bytes = count * size_of::<T>();
        let mapped = (bytes >= MAPPED_FROM).then(|| MmapOptions::new().len(bytes).map_anon().ok()).flatten();
        // Where the system has no pages to give, the allocator may have.
        mapped.map_or_else(
            || Self::Held(Vec::with_capacity(count)),
            |pages| Self::Mapped { pages, len: 0, kind: PhantomData },
        )
    }

    /// Appends values; beyond the room there is, all move to a larger one.
    pub(crate) fn extend_from_slice(&mut self, more: &[T]) {
        match self {
            Self::Held(values) => values.extend_from_slice(more),
            Self::Mapped { pages, len, .. } => {
                let end = *len + more.len();
                if let Some(place) = bytemuck::cast_slice_mut::<u8, T>(pages).get_mut(*len..end) {
                    place.copy_from_slice(more);
                    *len = end;
                } else {
                    let mut larger = Self::with_capacity(end.next_power_of_two());
                    larger.extend_from_slice(self);
                    larger.extend_from_slice(more);
                    *self = larger;
                }
            }
        }
    }

    /// Puts these in the place of all values.
    pub(crate) fn refill(&mut self, values: impl Iterator<Item = T>) {
        match self {
            Self::Held(held) => {
                held.clear();
                held.extend(values);
            }
            Self::Mapped { len, .. } => {
                *len = 0;
                for value in values {
                    self.extend_from_slice(&[value]);
                }
            }
        }
    }

    /// Makes it so many values longer, all of them `value`.
    pub(crate) fn extend_with(&mut self, more: usize, value: T) {
        match self {
            Self::Held(values) => values.resize(values.len() + more, value),
            Self::Mapped { pages, len, .. } => {
                let end = *len + more;
                if let Some(place) = bytemuck::cast_slice_mut::<u8, T>(pages).get_mut(*len..end) {
                    place.fill(value);
                    *len = end;
                } else {
                    let mut larger = Self::with_capacity(end.next_power_of_two());
                    larger.extend_from_slice(self);
                    larger.extend_with(more, value);
                    *self = larger;
                }
            }
        }
    }

    /// Bytes of the room.
    pub(crate) fn nbytes(&self) -> usize {
        match self {
            Self::Held(values) => values.capacity() * size_of::<T>(),
            Self::Mapped { pages, .. } => pages.len().next_multiple_of(GRAIN),
        }
    }
}

impl<T: Pod> Deref for Values<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Self::Held(values) => values,
            Self::Mapped { pages, len, .. } => &bytemuck::cast_slice(pages)[..*len],
        }
    }
}

impl<T: Pod> DerefMut for Values<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Held(values) => values,
            Self::Mapped { pages, len, .. } => &mut bytemuck::cast_slice_mut(pages)[..*len],
        }
    }
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self::Held(Vec::new())
    }
}

impl<T> FromIterator<T> for Values<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::Held(values.into_iter().collect())
    }
}

impl<T> From<Vec<T>> for Values<T> {
    fn from(values: Vec<T>) -> Self {
        Self::Held(values)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::{GRAIN, MAPPED_FROM, Values};

    #[test]
    fn values_are_those_that_were_appended_wherever_they_are() {
        for room in [0, 1, 100, MAPPED_FROM / 4 - 1, MAPPED_FROM / 4, MAPPED_FROM / 4 + 1, MAPPED_FROM] {
            let mut values = Values::<f32>::with_capacity(room);
            assert_eq!(matches!(values, Values::Mapped { .. }), 4 * room >= MAPPED_FROM);
            let mut expected = Vec::new();
            for number in 0..3 {
                let more: Vec<f32> = (0..room.div_ceil(3)).map(|value| (value * 7 + number) as f32).collect();
                values.extend_from_slice(&more);
                expected.extend_from_slice(&more);
                assert_eq!(*values, *expected);
            }
            let surplus = vec![0.5; 5000]; // more than there is room for
            values.extend_from_slice(&surplus);
            expected.extend_from_slice(&surplus);
            assert_eq!(*values, *expected);
            values.extend_with(300, 2.5);
            expected.resize(expected.len() + 300, 2.5);
            values[1] = -1.0;
            expected[1] = -1.0;
            assert_eq!(*values, *expected);
            values.refill([3.0, 4.0].into_iter());
            assert_eq!(*values, [3.0, 4.0]);
            assert!(values.nbytes() >= 4 * values.len());
            assert!(matches!(values, Values::Held(_)) || values.nbytes().is_multiple_of(GRAIN));
        }
    }
}
