//! Text without a model: what a request *is* ([`canonical`]), what two prompts must share before a
//! similarity may be believed ([`guards`]), and what a prompt's shape tells the router ([`features`]).

pub mod canonical;
pub mod features;
pub mod guards;
pub mod json;
mod lexicon;
