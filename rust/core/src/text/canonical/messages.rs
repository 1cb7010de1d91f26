//! Conversations: every message checked, all but the last user text hashed into the scope.

use super::hash::{self, Domain};
use super::{Request, ScopeId};
use crate::text::json::Value;
use crate::{Error, Result};
use blake3::Hasher;
use std::borrow::Cow;

/// Types under which the APIs send plain text.
const TEXT_PARTS: [&str; 3] = ["text", "input_text", "output_text"];
/// Where a part says how it is to be cached upstream: no part of the question.
const PART_NOISE: &str = "cache_control";

/// Reads a conversation; `rest` is what else of the body counts (already without the messages).
pub(super) fn read<'a>(messages: &'a [Value], rest: &[(String, Value)], base: ScopeId) -> Result<Request<'a>> {
    let Some((last, earlier)) = messages.split_last() else {
        return Err(Error::Request { reason: "there are no messages: give at least one user message".into() });
    };
    for (index, message) in messages.iter().enumerate() {
        check(message, index)?;
    }
    let text = if uses_tools(messages, rest) { None } else { comparable_text(last)? };
    let Some(text) = text else {
        return Ok(Request::exact_only(scope_of(base, rest, messages, None)?, temperature(rest)));
    };
    let last = Some(last).filter(|last| !is_plain_user_message(last));
    Request::near(text, scope_of(base, rest, earlier, last)?, temperature(rest))
}

/// Reads a prompt that came as one string in a body.
pub(super) fn read_text<'a>(text: &'a str, rest: &[(String, Value)], base: ScopeId) -> Result<Request<'a>> {
    if offers_tools(rest) {
        let scope = scope_of(base, rest, &[Value::from(text)], None)?;
        return Ok(Request::exact_only(scope, temperature(rest)));
    }
    Request::near(Cow::Borrowed(text), scope_of(base, rest, &[], None)?, temperature(rest))
}

/// The sampling temperature among a body's fields.
pub(super) fn temperature(rest: &[(String, Value)]) -> Option<f64> {
    match rest.iter().find(|(key, _)| key == "temperature")?.1 {
        Value::Int(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        _ => None,
    }
}

/// The scope of a request: the body's other fields, the turns that count whole, and what the last user
/// message says besides its content. With none of these it is the caller's own scope.
pub(super) fn scope_of(
    base: ScopeId,
    rest: &[(String, Value)],
    turns: &[Value],
    last: Option<&Value>,
) -> Result<ScopeId> {
    if rest.is_empty() && turns.is_empty() && last.is_none() {
        return Ok(base);
    }
    let mut hasher = hash::hasher(Domain::Scope);
    hasher.update(&base.0);
    hash::feed_pairs(&mut hasher, rest, |_| false)?;
    hash::feed_count(&mut hasher, b'm', turns.len());
    for turn in turns {
        feed_turn(&mut hasher, turn)?;
    }
    if let Some(Value::Object(pairs)) = last {
        hash::feed_pairs(&mut hasher, pairs, |key| key == "content")?;
    }
    Ok(ScopeId(hash::finish(&hasher)))
}

/// A turn counts whole; a content that is one text part counts as the string it holds.
fn feed_turn(hasher: &mut Hasher, turn: &Value) -> Result<()> {
    let Value::Object(pairs) = turn else { return hash::feed(hasher, turn) };
    hash::feed_pairs(hasher, pairs, |key| key == "content")?;
    match turn.get("content") {
        Some(Value::Array(parts)) => match joined_text(parts) {
            Some(text) => hash::feed_str(hasher, &text),
            None => hash::feed(hasher, &Value::Array(parts.clone()))?,
        },
        Some(content) => hash::feed(hasher, content)?,
        None => hash::feed(hasher, &Value::Null)?,
    }
    Ok(())
}

/// A user message that says nothing but its text.
fn is_plain_user_message(message: &Value) -> bool {
    match message {
        Value::Object(pairs) => pairs.iter().all(|(key, value)| match key.as_str() {
            "content" => true,
            "role" => value.as_str() == Some("user"),
            "type" => value.as_str() == Some("message"),
            _ => false,
        }),
        _ => false,
    }
}

/// The text of a last user message that is text and nothing else.
fn comparable_text(last: &Value) -> Result<Option<Cow<'_, str>>> {
    if last.get("role").and_then(Value::as_str) != Some("user") {
        return Ok(None);
    }
    match last.get("content") {
        Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
        Some(Value::Array(parts)) if parts.is_empty() => Err(Error::EmptyPrompt),
        Some(Value::Array(parts)) => Ok(joined_text(parts)),
        _ => Ok(None),
    }
}

/// The texts of a list of pure text parts, joined by line ends; `None` if any part is something else.
fn joined_text(parts: &[Value]) -> Option<Cow<'_, str>> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        let Value::Object(pairs) = part else { return None };
        let known = pairs.iter().all(|(key, _)| matches!(key.as_str(), "type" | "text") || key == PART_NOISE);
        let kind = part.get("type").and_then(Value::as_str)?;
        if !known || !TEXT_PARTS.contains(&kind) {
            return None;
        }
        texts.push(part.get("text").and_then(Value::as_str)?);
    }
    match texts.as_slice() {
        [text] => Some(Cow::Borrowed(text)),
        _ => Some(Cow::Owned(texts.join("\n"))),
    }
}

/// Tools offered in a body.
fn offers_tools(rest: &[(String, Value)]) -> bool {
    rest.iter().any(|(key, value)| matches!(key.as_str(), "tools" | "functions") && !value.is_blank())
}

/// Tools offered, called or answered anywhere: the answer depends on the world, not on the words alone.
fn uses_tools(messages: &[Value], rest: &[(String, Value)]) -> bool {
    offers_tools(rest)
        || messages.iter().any(|message| {
            let role = message.get("role").and_then(Value::as_str);
            let item = message.get("type").and_then(Value::as_str);
            matches!(role, Some("tool" | "function"))
                || matches!(item, Some(kind) if kind != "message")
                || ["tool_calls", "function_call"].iter().any(|key| message.get(key).is_some_and(|v| !v.is_blank()))
        })
}

/// Refuses a message that no API would take, naming its place.
fn check(message: &Value, index: usize) -> Result<()> {
    let wrong = |what: String| Err(Error::Request { reason: format!("message {index} {what}") });
    let Value::Object(_) = message else {
        return wrong(format!("is {}, expected an object with a role and a content", message.kind()));
    };
    if message.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "message") {
        return Ok(()); // an item of the Responses API (a call, its output, a reference): counted whole
    }
    let role = match message.get("role") {
        Some(Value::String(role)) => role.as_str(),
        Some(other) => return wrong(format!("has {} as its role, expected a string", other.kind())),
        None => return wrong("has no role: expected \"system\", \"user\", \"assistant\" or \"tool\"".into()),
    };
    match message.get("content") {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) => match parts.iter().position(|part| !matches!(part, Value::Object(_))) {
            Some(place) => {
                wrong(format!("has {} as part {place} of its content, expected an object", parts[place].kind()))
            }
            None => Ok(()),
        },
        None | Some(Value::Null) if role == "assistant" => Ok(()),
        None | Some(Value::Null) => wrong(format!("({role}) has no content: expected a string or a list of parts")),
        Some(other) => wrong(format!("has {} as its content, expected a string or a list of parts", other.kind())),
    }
}
