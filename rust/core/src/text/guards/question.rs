//! The question guard: why, when, where, who, how many and how are different questions.

use super::align::Alignment;
use super::tokens::Analysis;
use super::{Guard, Reason, reason};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Reason,
    Time,
    Place,
    Person,
    Quantity,
    Manner,
    Truth,
}

const AUXILIARIES: [&str; 18] = [
    "is", "are", "was", "were", "do", "does", "did", "can", "could", "will", "would", "should", "has", "have", "had",
    "may", "am", "must",
];

/// What the first question of a text asks for, and the word that says so.
pub(crate) fn asked(analysis: &Analysis<'_>) -> Option<(Asked, usize)> {
    let word = |place: usize| {
        let token = analysis.tokens.get(place)?;
        let written = analysis.written(token);
        (written.len() <= 10).then(|| written.to_ascii_lowercase())
    };
    for (place, token) in analysis.tokens.iter().enumerate() {
        if !token.initial && place > 0 {
            continue;
        }
        let Some(first) = word(place) else { continue };
        let second = word(place + 1).unwrap_or_default();
        let rest: Vec<String> = (place + 1..place + 6).filter_map(word).collect();
        let follows = |words: &[&str]| rest.iter().any(|word| words.contains(&word.as_str()));
        let found = match first.as_str() {
            "why" => Some(Asked::Reason),
            "when" => analysis.asks.then_some(Asked::Time),
            "where" => Some(Asked::Place),
            "who" | "whom" | "whose" => Some(Asked::Person),
            "how" => match second.as_str() {
                "many" | "much" | "long" | "far" | "old" | "often" | "tall" | "big" | "high" | "deep" | "fast"
                | "heavy" => Some(Asked::Quantity),
                "come" => Some(Asked::Reason),
                "do" | "can" | "to" | "should" | "could" | "would" | "does" | "did" => Some(Asked::Manner),
                _ => None,
            },
            "what" | "which" => match second.as_str() {
                "time" | "year" | "date" | "day" | "month" => Some(Asked::Time),
                "city" | "place" => Some(Asked::Place),
                _ if follows(&["reason", "reasons", "causes", "cause"]) => Some(Asked::Reason),
                _ if follows(&["way", "ways", "steps", "procedure", "process", "method"]) => Some(Asked::Manner),
                _ => None,
            },
            auxiliary if analysis.asks && AUXILIARIES.contains(&auxiliary) => Some(Asked::Truth),
            _ => None,
        };
        if let Some(asked) = found {
            return Some((asked, place));
        }
        if matches!(first.as_str(), "what" | "which" | "how") {
            return None;
        }
    }
    None
}

pub(super) fn judge(pair: &Alignment<'_, '_, '_>) -> Option<Reason> {
    let ((mine, i), (theirs, j)) = (asked(pair.a)?, asked(pair.b)?);
    let loose = matches!((mine, theirs), (Asked::Truth, Asked::Manner) | (Asked::Manner, Asked::Truth));
    let piece = |analysis: &Analysis<'_>, place: usize| {
        let end = analysis.tokens.get(place + 1).map_or(analysis.tokens[place].span.end, |next| next.span.end);
        analysis.text[analysis.tokens[place].span.start..end].to_owned()
    };
    (mine != theirs && !loose).then(|| reason(Guard::Question, &piece(pair.a, i), &piece(pair.b, j)))
}
