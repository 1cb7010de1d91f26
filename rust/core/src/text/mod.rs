//! Text without a model: what a request *is* ([`canonical`]), and what two prompts must share before
//! a similarity may be believed ([`guards`]).

pub mod canonical;
pub mod json;
