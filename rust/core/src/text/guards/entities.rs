//! Members of closed classes, names, and single words put in the place of others.

use super::align::Alignment;
use super::lexicon::lexicon;
use super::tokens::{Analysis, Kind, Token};
use super::{Guard, Reason, reason};

fn piece<'a>(analysis: &Analysis<'a>, place: Option<usize>) -> &'a str {
    place.map_or("", |place| analysis.written(&analysis.tokens[place]))
}

/// "in June" against "in July"; "on Windows" against nothing.
pub(super) fn classes(pair: &Alignment<'_, '_, '_>) -> Option<Reason> {
    let members = |analysis: &Analysis<'_>, places: &[usize]| -> Vec<(u8, usize)> {
        places.iter().map(|&place| (analysis.tokens[place].class, place)).filter(|(class, _)| *class > 0).collect()
    };
    let (a, b) = (members(pair.a, &pair.only_a), members(pair.b, &pair.only_b));
    let one_sided = |class: u8| lexicon().class(class).is_some_and(|class| class.one_sided);
    for &(class, i) in &a {
        let other = b.iter().find(|(other, _)| *other == class).map(|(_, j)| *j);
        if other.is_some() || one_sided(class) {
            return Some(reason(Guard::Class, piece(pair.a, Some(i)), piece(pair.b, other)));
        }
    }
    let (_, j) = b.into_iter().find(|(class, _)| one_sided(*class))?;
    Some(reason(Guard::Class, "", piece(pair.b, Some(j))))
}

/// Whether capitals mark names here: not where most words have them, nor where none has.
pub(crate) fn marks_names(analysis: &Analysis<'_>) -> bool {
    let (mut capital, mut lower) = (0, 0);
    for token in analysis.tokens.iter().filter(|token| token.kind == Kind::Word && !token.initial) {
        if token.capital { capital += 1 } else { lower += 1 }
    }
    capital <= 2 * lower + 1
}

pub(crate) fn is_name(token: &Token) -> bool {
    token.kind == Kind::Word && token.capital && !token.initial && !token.stop
}

/// A name in the place of another. A name on one side only is weaker evidence, left to the verifier.
pub(super) fn names(pair: &Alignment<'_, '_, '_>) -> Option<Reason> {
    let (i, j) = (unmatched_name(pair.a, &pair.only_a)?, unmatched_name(pair.b, &pair.only_b)?);
    Some(reason(Guard::Name, piece(pair.a, Some(i)), piece(pair.b, Some(j))))
}

/// The first name among `places`, where capitals mark names.
pub(crate) fn unmatched_name(analysis: &Analysis<'_>, places: &[usize]) -> Option<usize> {
    if !marks_names(analysis) {
        return None;
    }
    places.iter().copied().find(|&place| is_name(&analysis.tokens[place]))
}

/// One content word replaced, and every other word the same in the same order.
pub(super) fn substitution(pair: &Alignment<'_, '_, '_>) -> Option<Reason> {
    let ([i], [j]) = (pair.only_a.as_slice(), pair.only_b.as_slice()) else { return None };
    let (a, b) = (pair.a, pair.b);
    let same_frame = a.tokens.len() == b.tokens.len()
        && i == j
        && a.tokens.iter().zip(&b.tokens).enumerate().all(|(place, (x, y))| place == *i || a.key(x) == b.key(y));
    let word = |token: &Token| token.kind == Kind::Word;
    (same_frame && word(&a.tokens[*i]) && word(&b.tokens[*j]))
        .then(|| reason(Guard::Substitution, piece(a, Some(*i)), piece(b, Some(*j))))
}
