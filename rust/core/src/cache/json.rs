//! JSON text of a value: how structured responses and callers' scopes are kept.

use crate::text::json::Value;
use crate::{Error, Result};
use std::fmt::Write;

/// `value` as compact JSON. Object keys keep their order.
///
/// # Errors
/// [`Error::Request`] for NaN and the infinities, which JSON does not have.
pub fn to_json(value: &Value) -> Result<String> {
    let mut out = String::new();
    write_value(&mut out, value)?;
    Ok(out)
}

fn write_value(out: &mut String, value: &Value) -> Result<()> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => push(out, number),
        Value::BigInt(digits) => out.push_str(digits),
        // `{:?}` gives the shortest digits that read back as the same number, and always a mark of a float.
        Value::Float(number) if number.is_finite() => push(out, format_args!("{number:?}")),
        Value::Float(number) => {
            return Err(Error::Request { reason: format!("{number} is not JSON: use null or a finite number") });
        }
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_value(out, item)?;
            }
            out.push(']');
        }
        Value::Object(pairs) => {
            out.push('{');
            for (place, (key, item)) in pairs.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_value(out, item)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => push(out, format_args!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}

fn push(out: &mut String, what: impl std::fmt::Display) {
    let _ = write!(out, "{what}"); // writing to a `String` cannot fail
}

#[cfg(test)]
mod tests {
    use super::{Value, to_json};

    #[test]
    fn writes_what_json_reads_back() {
        let value = Value::object([
            ("text", "a\"b\\c\n\u{1}é😀".into()),
            ("list", Value::Array(vec![Value::Int(-1), Value::Float(1e300), Value::Float(2.0), Value::Bool(true)])),
            ("big", Value::BigInt("123456789012345678901234567890".into())),
            ("none", Value::Null),
        ]);
        assert_eq!(
            to_json(&value).unwrap(),
            r#"{"text":"a\"b\\c\n\u0001é😀","list":[-1,1e300,2.0,true],"big":123456789012345678901234567890,"none":null}"#
        );
    }

    #[test]
    fn refuses_what_json_does_not_have() {
        assert!(to_json(&Value::Array(vec![Value::Float(f64::NAN)])).is_err());
    }
}
