//! Whole bodies of the three OpenAI calls, told apart by the field that carries the prompt.

use super::{NOISE, Request, ScopeId, messages};
use crate::text::json::Value;
use crate::{Error, Result};

pub(super) fn read(body: &Value, base: ScopeId) -> Result<Request<'_>> {
    let Value::Object(pairs) = body else {
        return Err(Error::Request { reason: format!("a body must be an object, got {}", body.kind()) });
    };
    let mut found =
        ["messages", "prompt", "input"].into_iter().filter_map(|name| body.get(name).map(|value| (name, value)));
    let (Some((name, prompt)), None) = (found.next(), found.next()) else {
        return Err(Error::Request { reason: "a body needs exactly one of messages, prompt and input".into() });
    };
    let rest: Vec<(String, Value)> =
        pairs.iter().filter(|(key, _)| key != name && !NOISE.contains(&key.as_str())).cloned().collect();
    match (name, prompt) {
        ("messages" | "input", Value::Array(turns)) => {
            let base = if name == "messages" { base } else { marked(base, name)? };
            messages::read(turns, &rest, base)
        }
        ("prompt" | "input", Value::String(text)) => messages::read_text(text, &rest, marked(base, name)?),
        ("prompt", Value::Array(prompts)) => match prompts.as_slice() {
            [Value::String(text)] => messages::read_text(text, &rest, marked(base, name)?),
            [] => Err(Error::EmptyPrompt),
            // Several prompts, or token ids: nothing here is one text.
            _ => {
                let scope = messages::scope_of(marked(base, name)?, &rest, std::slice::from_ref(prompt), None)?;
                Ok(Request::exact_only(scope, messages::temperature(&rest)))
            }
        },
        (name, other) => {
            Err(Error::Request { reason: format!("{name} is {}, expected {}", other.kind(), expected(name)) })
        }
    }
}

fn expected(name: &str) -> &'static str {
    if name == "messages" { "a list of messages" } else { "a string or a list" }
}

/// Answers of different calls have different shapes, so they never share a scope.
fn marked(base: ScopeId, call: &str) -> Result<ScopeId> {
    base.narrowed(&Value::from(call))
}
