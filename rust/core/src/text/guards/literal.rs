//! Code, identifiers, URLs, paths and quotations are compared as written.

use super::align::Alignment;
use super::tokens::{Analysis, Kind};
use super::{Guard, Reason, reason};

pub(super) fn judge(pair: &Alignment<'_, '_, '_>) -> Option<Reason> {
    let literal = |analysis: &Analysis<'_>, places: &[usize]| {
        let place = places.iter().copied().find(|&place| analysis.tokens[place].kind == Kind::Literal)?;
        Some(analysis.text[analysis.tokens[place].span.clone()].to_owned())
    };
    match (literal(pair.a, &pair.only_a), literal(pair.b, &pair.only_b)) {
        (None, None) => {}
        (Some(dash), None) | (None, Some(dash)) if is_dash(&dash) => {} // "1 - 10" is "1 to 10"
        (mine, theirs) => {
            return Some(reason(Guard::Literal, &mine.unwrap_or_default(), &theirs.unwrap_or_default()));
        }
    }
    let mine = quotation(pair.a, &pair.only_a);
    let theirs = quotation(pair.b, &pair.only_b);
    (mine.is_some() || theirs.is_some())
        .then(|| reason(Guard::Literal, mine.unwrap_or_default(), theirs.unwrap_or_default()))
}

fn is_dash(literal: &str) -> bool {
    matches!(literal, "-" | "\u{2212}")
}

/// The first quotation of a text that holds a word the other text lacks.
fn quotation<'a>(analysis: &Analysis<'a>, only: &[usize]) -> Option<&'a str> {
    if analysis.quotes.is_empty() {
        return None;
    }
    only.iter().find_map(|&place| {
        let span = &analysis.tokens[place].span;
        let next = analysis.quotes.partition_point(|quote| quote.end < span.end);
        let quote = analysis.quotes.get(next).filter(|quote| quote.start <= span.start)?;
        Some(&analysis.text[quote.clone()])
    })
}
