//! A canonical value as bytes for BLAKE3: every value that means the same gives the same bytes.

use crate::text::json::{MAX_DEPTH, Value};
use crate::{Error, Result};
use blake3::Hasher;
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// First byte of everything hashed: raise it when the encoding changes, and no old key is ever met again.
const FORMAT: u8 = 1;

/// What is being hashed, so that no value of one kind can equal a value of another.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Domain {
    Prompt = b'p',
    ExactOnly = b'x',
    Base = b'b',
    Scope = b's',
}

/// A hasher that has read the format and the domain.
pub(super) fn hasher(domain: Domain) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.update(&[FORMAT, domain as u8]);
    hasher
}

/// The first 128 bits of the digest.
pub(super) fn finish(hasher: &Hasher) -> [u8; 16] {
    let digest = *hasher.finalize().as_bytes();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

/// `text` in Unicode normal form C; borrowed when it already is.
pub(super) fn nfc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().collect())
}

/// Feeds a value: a tag, then its content, with a length wherever the content does not end itself.
pub(super) fn feed(hasher: &mut Hasher, value: &Value) -> Result<()> {
    feed_at(hasher, value, 0)
}

/// Feeds an object's pairs in the order of their normalised keys, without those that `skip` names.
pub(super) fn feed_pairs(hasher: &mut Hasher, pairs: &[(String, Value)], skip: impl Fn(&str) -> bool) -> Result<()> {
    feed_pairs_at(hasher, pairs, skip, 0)
}

/// Feeds a string with its length.
pub(super) fn feed_str(hasher: &mut Hasher, text: &str) {
    let text = nfc(text);
    hasher.update(b"s");
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// Feeds a mark and a count.
pub(super) fn feed_count(hasher: &mut Hasher, mark: u8, count: usize) {
    hasher.update(&[mark]);
    hasher.update(&(count as u64).to_le_bytes());
}

fn feed_at(hasher: &mut Hasher, value: &Value, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::Request { reason: format!("nested deeper than {MAX_DEPTH} levels: flatten it") });
    }
    match value {
        Value::Null => {
            hasher.update(b"n");
        }
        Value::Bool(flag) => {
            hasher.update(if *flag { b"t" } else { b"f" });
        }
        Value::Int(number) => feed_int(hasher, *number),
        Value::BigInt(digits) => match digits.parse() {
            Ok(number) => feed_int(hasher, number),
            Err(_) => feed_digits(hasher, digits),
        },
        Value::Float(number) => feed_float(hasher, *number)?,
        Value::String(text) => feed_str(hasher, text),
        Value::Array(items) => {
            feed_count(hasher, b'a', items.len());
            for item in items {
                feed_at(hasher, item, depth + 1)?;
            }
        }
        Value::Object(pairs) => feed_pairs_at(hasher, pairs, |_| false, depth)?,
    }
    Ok(())
}

fn feed_pairs_at(
    hasher: &mut Hasher,
    pairs: &[(String, Value)],
    skip: impl Fn(&str) -> bool,
    depth: usize,
) -> Result<()> {
    let mut sorted: Vec<(Cow<'_, str>, &Value)> =
        pairs.iter().filter(|(key, _)| !skip(key)).map(|(key, value)| (nfc(key), value)).collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    feed_count(hasher, b'o', sorted.len());
    for (key, value) in sorted {
        feed_str(hasher, &key);
        feed_at(hasher, value, depth + 1)?;
    }
    Ok(())
}

fn feed_int(hasher: &mut Hasher, number: i64) {
    hasher.update(b"i");
    hasher.update(&number.to_le_bytes());
}

fn feed_digits(hasher: &mut Hasher, digits: &str) {
    feed_count(hasher, b'I', digits.len());
    hasher.update(digits.as_bytes());
}

/// 1.0 is 1 and -0.0 is 0; integral values beyond `i64` are hashed as their digits, as integers are.
fn feed_float(hasher: &mut Hasher, number: f64) -> Result<()> {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if !number.is_finite() {
        return Err(Error::Request {
            reason: format!("{number} is not a JSON number: leave the field out or give a finite one"),
        });
    }
    if number.fract() != 0.0 {
        hasher.update(b"d");
        hasher.update(&number.to_bits().to_le_bytes());
    } else if (-TWO_63..TWO_63).contains(&number) {
        feed_int(hasher, number as i64);
    } else {
        feed_digits(hasher, &format!("{number:.0}"));
    }
    Ok(())
}
