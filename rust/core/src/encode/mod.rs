//! Embedding text on the CPU: `WordPiece` tokens through a BERT encoder in 8-bit integers.
//!
//! `tokenise` turns text into ids, `forward` ids into hidden states over the kernels of [`crate::simd`],
//! `encoder` owns both, and `file` keeps the packed weights between runs.

mod config;
mod embed;
mod encoder;
mod file;
mod forward;
#[cfg(test)]
pub(crate) mod tests;
mod tokenise;
mod turns;
mod weights;

pub use config::{Config, Pooling};
pub use embed::{Embed, Embedded};
pub use encoder::{Encoded, Encoder, Spent};
pub use file::FORMAT_VERSION;
pub use tokenise::{Tokeniser, TokeniserConfig};
pub use weights::Tensors;
