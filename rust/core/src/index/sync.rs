//! What the index synchronises with: the real thing, or stand-ins whose every interleaving `loom` tries.
//!
//! `cargo test -p nearhit-core --features loom --lib index::model` runs the models.

#[cfg(not(feature = "loom"))]
mod real {
    pub(crate) use std::sync::Arc as Handle;
    pub(crate) use std::sync::OnceLock as Once;
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub(crate) use std::sync::{Mutex, MutexGuard};

    /// The latest of something that is replaced as a whole.
    pub(crate) type Latest<T> = arc_swap::ArcSwap<T>;

    /// What was written once, seen through [`Once`].
    pub(crate) type Written<'a, T> = &'a T;
}

#[cfg(feature = "loom")]
mod modelled {
    pub(crate) use loom::sync::Arc as Handle;
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    use std::marker::PhantomData;
    use std::ops::Deref;

    /// `arc_swap::ArcSwap`, by what it promises: a load sees the latest swap.
    #[derive(Debug)]
    pub(crate) struct Latest<T>(Mutex<Handle<T>>);

    impl<T> Latest<T> {
        pub(crate) fn new(value: Handle<T>) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn load(&self) -> Handle<T> {
            self.0.lock().expect("nobody panics inside").clone()
        }

        pub(crate) fn swap(&self, value: Handle<T>) -> Handle<T> {
            std::mem::replace(&mut *self.0.lock().expect("nobody panics inside"), value)
        }
    }

    /// `OnceLock`, by what it promises: who sees that it was set sees the value; who does not may see nothing, however
    /// long ago that was.
    #[derive(Debug)]
    pub(crate) struct Once<T> {
        set: AtomicUsize,
        value: Mutex<Option<T>>,
    }

    impl<T: Clone> Once<T> {
        pub(crate) fn new() -> Self {
            Self { set: AtomicUsize::new(0), value: Mutex::new(None) }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            let mut place = self.value.lock().expect("nobody panics inside");
            if place.is_some() {
                return Err(value);
            }
            *place = Some(value);
            self.set.store(1, Ordering::Release);
            Ok(())
        }

        pub(crate) fn into_inner(self) -> Option<T> {
            self.value.into_inner().expect("nobody panics inside")
        }

        pub(crate) fn get(&self) -> Option<Written<'_, T>> {
            let seen = self.set.load(Ordering::Acquire) == 1;
            let value = seen.then(|| self.value.lock().expect("nobody panics inside").clone()).flatten()?;
            Some(Written(value, PhantomData))
        }
    }

    impl<T: Clone> Clone for Once<T> {
        fn clone(&self) -> Self {
            let copy = Self::new();
            if let Some(value) = self.get() {
                copy.set(value.0).ok();
            }
            copy
        }
    }

    /// A copy, for there is nothing to borrow from.
    #[derive(Debug)]
    pub(crate) struct Written<'a, T>(T, PhantomData<&'a T>);

    impl<T> Deref for Written<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }
}

#[cfg(feature = "loom")]
pub(crate) use modelled::*;
#[cfg(not(feature = "loom"))]
pub(crate) use real::*;
