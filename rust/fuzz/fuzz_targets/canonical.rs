//! Any JSON is read as a request or refused, and neither the order of keys nor noise changes what it is.

#![no_main]

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use nearhit_core::text::canonical::{NOISE, Request, ScopeId};
use nearhit_core::text::json::Value;

const KEYS: [&str; 12] = [
    "messages",
    "role",
    "content",
    "type",
    "text",
    "model",
    "input",
    "prompt",
    "tools",
    "temperature",
    "user",
    "instructions",
];
const WORDS: [&str; 6] = ["user", "system", "assistant", "tool", "text", "input_text"];

#[derive(Debug)]
struct Json(Value);

impl<'a> Arbitrary<'a> for Json {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        value(u, 0).map(Self)
    }
}

fn value(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    Ok(match u.int_in_range(0..=if depth > 6 { 5 } else { 8 })? {
        0 => Value::Null,
        1 => Value::Bool(u.arbitrary()?),
        2 => Value::Int(u.arbitrary()?),
        3 => Value::Float(u.arbitrary()?),
        4 => Value::String(u.choose(&WORDS)?.to_string()),
        5 => Value::String(u.arbitrary()?),
        6 => Value::Array((0..u.int_in_range(0..=4)?).map(|_| value(u, depth + 1)).collect::<Result<_>>()?),
        _ => Value::Object(
            (0..u.int_in_range(0..=5)?).map(|_| Ok((key(u)?, value(u, depth + 1)?))).collect::<Result<_>>()?,
        ),
    })
}

fn key(u: &mut Unstructured<'_>) -> Result<String> {
    if u.ratio(1, 8)? { u.arbitrary() } else { Ok(u.choose(&KEYS)?.to_string()) }
}

/// The value with every object's keys the other way round.
fn turned(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(turned).collect()),
        Value::Object(pairs) => {
            Value::Object(pairs.iter().rev().map(|(key, value)| (key.clone(), turned(value))).collect())
        }
        other => other.clone(),
    }
}

fn unique(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(unique),
        Value::Object(pairs) => {
            let mut keys: Vec<&String> = pairs.iter().map(|(key, _)| key).collect();
            keys.sort();
            keys.windows(2).all(|pair| pair[0] != pair[1]) && pairs.iter().all(|(_, value)| unique(value))
        }
        _ => true,
    }
}

fuzz_target!(|json: Json| {
    let read = Request::from_value(&json.0, ScopeId::default());
    if !unique(&json.0) {
        return;
    }
    let other = turned(&json.0);
    let again = Request::from_value(&other, ScopeId::default());
    assert_eq!(read.is_ok(), again.is_ok());
    let (Ok(read), Ok(again)) = (read, again) else { return };
    assert_eq!((read.fingerprint, read.scope), (again.fingerprint, again.scope));
    if let Value::Object(mut pairs) = json.0.clone() {
        pairs.retain(|(key, _)| key != NOISE[8]);
        pairs.push((NOISE[8].into(), "somebody".into()));
        let noisy = Value::Object(pairs);
        let noisy = Request::from_value(&noisy, ScopeId::default()).expect("noise does not break a request");
        assert_eq!(noisy.fingerprint, read.fingerprint);
    }
});
