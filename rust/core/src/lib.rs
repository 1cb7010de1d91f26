//! The engine of `nearhit`: vector search, the cache, guards and routing, with no Python in it.
//!
//! Each module is one room of the design: [`simd`] holds the kernels and the choice of instruction
//! set, [`index`] the exact threshold search over them, [`cache`] the entries and their exact map,
//! [`text`] canonical requests and lexical guards, [`route`] the choice of a model tier.

pub mod cache;
pub mod codec;
pub mod encode;
mod error;
pub mod index;
pub mod persist;
pub mod route;
pub mod simd;
pub mod text;
mod values;
pub mod verify;

pub use error::{Error, Result};
