//! Negation and opposites, weighed together: "not natural" is "unnatural", and neither is "natural".

use super::align::Alignment;
use super::language::Language;
use super::lexicon::{lexicon, opposite};
use super::tokens::{Analysis, Kind, Token};
use super::{Guard, Reason, reason};

/// Prefixes that turn a word round.
const PREFIXES: [&str; 9] = ["un", "in", "im", "il", "ir", "dis", "non", "mis", "de"];
/// Beyond this many unmatched words on a side opposites are not looked for.
const MANY: usize = 48;
/// Ideographs that negate, in Chinese and Korean.
const NEGATING: [char; 12] = ['不', '没', '沒', '无', '無', '别', '勿', '未', '非', '안', '못', '않'];
const PRONOUNS: [&str; 14] =
    ["i", "you", "we", "they", "he", "she", "it", "there", "this", "that", "the", "my", "your", "these"];

/// How often a text is negated, and the first word that does it.
pub(crate) fn negations(analysis: &Analysis<'_>, language: Option<Language>) -> (usize, Option<usize>) {
    let mut found = (0, None);
    let foreign = language.and_then(Language::latin_bit).filter(|bit| *bit != 1);
    for (place, token) in analysis.tokens.iter().enumerate() {
        let negates = match (token.kind, foreign) {
            (Kind::Word, Some(bits)) => lexicon().negates_in(&analysis.written(token).to_lowercase()) & bits != 0,
            (Kind::Word, None) => english(analysis, place, token),
            (Kind::Ideograph, _) => {
                analysis.written(token).chars().all(|c| NEGATING.contains(&c)) || japanese(analysis, place)
            }
            _ => false,
        };
        if negates {
            found = (found.0 + 1, found.1.or(Some(place)));
        }
    }
    found
}

fn english(analysis: &Analysis<'_>, place: usize, token: &Token) -> bool {
    let written = analysis.written(token);
    if prevents(analysis, place, token) {
        return true;
    }
    let contracted = written.len() > 3 && (written.ends_with("n't") || written.ends_with("n\u{2019}t"));
    if !contracted && !token.entry.is_some_and(|entry| entry.negator) {
        return false;
    }
    let neighbour =
        |place: Option<usize>| place.and_then(|p| analysis.tokens.get(p)).map_or("", |t| analysis.written(t));
    let before = neighbour(place.checked_sub(1)).to_ascii_lowercase();
    let after = neighbour(Some(place + 1)).to_ascii_lowercase();
    let word = written.to_ascii_lowercase();
    let is = |words: &[&str], word: &str| words.contains(&word);
    match word.as_str() {
        "not" => !(is(&["or", "why", "whether"], &before) || is(&["only", "just", "to"], &after) && after != "to"),
        "no" => {
            let interjection = token.initial && analysis.text[token.span.end..].starts_with([',', '.', '!']);
            !(interjection || is(&["matter", "problem", "doubt", "wonder"], &after) || is(&["or"], &before))
        }
        "nothing" => after != "but",
        // "Isn't it...?" asks what "Is it...?" asks; "Don't cancel" does not.
        _ if contracted && token.initial && analysis.asks => !is(&PRONOUNS, &after),
        _ => true,
    }
}

/// "stop it from being cancelled": the verb turns what follows round.
fn prevents(analysis: &Analysis<'_>, place: usize, token: &Token) -> bool {
    if !["stop", "prevent", "kep", "keep"].contains(&analysis.key(token)) {
        return false;
    }
    let word = |place: usize| analysis.tokens.get(place).map_or("", |token| analysis.written(token));
    (place + 1..place + 7).any(|other| {
        word(other).eq_ignore_ascii_case("from") && (other + 1..other + 3).any(|next| word(next).ends_with("ing"))
    })
}

/// "nai" and "masen" in kana.
fn japanese(analysis: &Analysis<'_>, place: usize) -> bool {
    let text = &analysis.text[analysis.tokens[place].span.start..];
    text.starts_with("ない") || text.starts_with("ません")
}

pub(super) fn judge(pair: &Alignment<'_, '_, '_>, mine: Option<Language>, theirs: Option<Language>) -> Option<Reason> {
    let (a, first_a) = negations(pair.a, mine);
    let (b, first_b) = negations(pair.b, theirs);
    let english = [mine, theirs].iter().all(|language| language.is_none_or(Language::may_be_english));
    let turned = if english { a.abs_diff(b) % 2 == 1 } else { (a > 0) != (b > 0) };
    let (flips, first) = if english { opposites(pair) } else { (0, None) };
    match (turned, flips) {
        (false, 0) | (true, 1) => None,
        (true, 0) => {
            let word = |analysis: &Analysis<'_>, place: Option<usize>| {
                place.map_or("", |place| &analysis.text[analysis.tokens[place].span.clone()]).to_owned()
            };
            Some(reason(Guard::Negation, &word(pair.a, first_a), &word(pair.b, first_b)))
        }
        _ => first
            .map(|(i, j)| reason(Guard::Antonym, pair.a.written(&pair.a.tokens[i]), pair.b.written(&pair.b.tokens[j]))),
    }
}

/// How many unmatched words of one text have their opposite unmatched in the other, and the first of them.
pub(crate) fn opposites(pair: &Alignment<'_, '_, '_>) -> (usize, Option<(usize, usize)>) {
    if pair.only_a.len() > MANY || pair.only_b.len() > MANY {
        return (0, None);
    }
    let mut found = (0, None);
    let words_a = pair.only_a.iter().chain(&pair.function_a);
    for &i in words_a {
        let token = &pair.a.tokens[i];
        let hit = pair.only_b.iter().chain(&pair.function_b).find(|&&j| {
            let other = &pair.b.tokens[j];
            let particles = token.stop || other.stop;
            (!particles || same_verb(pair, i, j)) && opposed(pair, token, other)
        });
        if let Some(&j) = hit {
            found = (found.0 + 1, found.1.or(Some((i, j))));
        }
    }
    found
}

/// "log in" and "log out": particles are opposites only after one and the same word.
fn same_verb(pair: &Alignment<'_, '_, '_>, i: usize, j: usize) -> bool {
    match (i.checked_sub(1), j.checked_sub(1)) {
        (Some(i), Some(j)) => pair.a.key(&pair.a.tokens[i]) == pair.b.key(&pair.b.tokens[j]),
        (None, None) => true,
        _ => false,
    }
}

fn opposed(pair: &Alignment<'_, '_, '_>, a: &Token, b: &Token) -> bool {
    if let (Some(x), Some(y)) = (a.entry, b.entry)
        && opposite(&x.sides, &y.sides)
    {
        return true;
    }
    if a.kind != Kind::Word || b.kind != Kind::Word {
        return false;
    }
    let (x, y) = (pair.a.key(a), pair.b.key(b));
    turned_by_prefix(x, y) || turned_by_prefix(y, x) || turned_by_suffix(x, y) || turned_by_suffix(y, x)
}

/// "unlock" and "lock"; the rest must be long enough to be a word.
fn turned_by_prefix(longer: &str, shorter: &str) -> bool {
    shorter.len() >= 4
        && PREFIXES
            .iter()
            .any(|prefix| longer.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('-') == shorter))
}

/// "useless" and "useful".
fn turned_by_suffix(less: &str, full: &str) -> bool {
    match (less.strip_suffix("les"), full.strip_suffix("ful")) {
        (Some(x), Some(y)) => x == y && x.len() >= 3,
        _ => false,
    }
}
