//! Code, identifiers, URLs, paths and quotations are compared as written.

use super::align::Alignment;
use super::tokens::{Analysis, Kind};
use super::{Guard, Reason, reason};

/// Quotations looked at in each text.
const MAX_QUOTES: usize = 8;

pub(super) fn judge(pair: &Alignment<'_, '_, '_>) -> Option<Reason> {
    let literal = |analysis: &Analysis<'_>, places: &[usize]| {
        let place = places.iter().copied().find(|&place| analysis.tokens[place].kind == Kind::Literal)?;
        Some(analysis.text[analysis.tokens[place].span.clone()].to_owned())
    };
    let (mine, theirs) = (literal(pair.a, &pair.only_a), literal(pair.b, &pair.only_b));
    if mine.is_some() || theirs.is_some() {
        return Some(reason(Guard::Literal, &mine.unwrap_or_default(), &theirs.unwrap_or_default()));
    }
    quotations(pair)
}

fn quotations(pair: &Alignment<'_, '_, '_>) -> Option<Reason> {
    let missing = |one: &Analysis<'_>, other: &Analysis<'_>| {
        if one.quotes.is_empty() {
            return None;
        }
        let whole = words(other.text);
        let quote =
            one.quotes.iter().take(MAX_QUOTES).find(|quote| !whole.contains(&words(&one.text[(*quote).clone()])))?;
        Some(one.text[quote.clone()].to_owned())
    };
    match (missing(pair.a, pair.b), missing(pair.b, pair.a)) {
        (None, None) => None,
        (mine, theirs) => Some(reason(Guard::Literal, &mine.unwrap_or_default(), &theirs.unwrap_or_default())),
    }
}

/// The letters and digits of a text in lower case, one space between words and at both ends.
fn words(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 2);
    plain.push(' ');
    for c in text.chars() {
        if c.is_alphanumeric() {
            plain.extend(c.to_lowercase());
        } else if !plain.ends_with(' ') {
            plain.push(' ');
        }
    }
    if !plain.ends_with(' ') {
        plain.push(' ');
    }
    plain
}
