//! Text without a model: what a request *is* ([`canonical`]), what two prompts must share before a
//! similarity may be believed ([`guards`]), and what a prompt's shape tells the router ([`features`]).

pub mod canonical;
<<<<<<< HEAD
pub mod features;
=======
pub mod guards;
>>>>>>> fc10d79 (Lexical guards, and the judge that near hits pass through)
pub mod json;
mod lexicon;
