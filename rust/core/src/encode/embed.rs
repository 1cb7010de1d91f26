//! What whoever needs a text's vector needs of an embedder.

use std::fmt;

use super::encoder::{Encoder, Spent};
use crate::Result;

/// What an embedder made of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// The text's unit vector.
    pub vector: Box<[f32]>,
    /// The text was longer than the embedder's window and was cut.
    pub truncated: bool,
}

/// Turns a text into a unit vector. Shared by any number of threads.
pub trait Embed: fmt::Debug + Send + Sync {
    /// Length of the vectors.
    fn dim(&self) -> usize;

    /// The text's vector, and the time it took.
    fn embed(&self, text: &str) -> Result<(Embedded, Spent)>;
}

impl Embed for Encoder {
    fn dim(&self) -> usize {
        self.config().hidden
    }

    fn embed(&self, text: &str) -> Result<(Embedded, Spent)> {
        let mut vector = vec![0.0; self.dim()].into_boxed_slice();
        let (encoded, spent) = self.encode(text, &mut vector)?;
        Ok((Embedded { vector, truncated: encoded.truncated }, spent))
    }
}
