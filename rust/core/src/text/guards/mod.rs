//! Lexical guards: what a cosine does not see, and an answer depends on.
//!
//! Two prompts with a high similarity may still differ in a number, a negation, a name, a direction or
//! the kind of question; each guard looks for one such difference and refuses the pair if it finds it,
//! with the two pieces that differ. A guard that is not sure (another language, no evidence) says
//! nothing. Time is O(n log n) in the length of the texts, microseconds for a question.

mod align;
mod entities;
mod evidence;
mod language;
mod lexicon;
mod literal;
mod numbers;
mod polarity;
mod quantity;
mod question;
mod relations;
mod stem;
mod tokens;

use std::fmt;

pub use align::Alignment;
pub(crate) use evidence::evidence;
pub(crate) use language::{known_names, named};
pub use tokens::Analysis;

/// The guards, by what they look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guard {
    /// Natural language, and script.
    Language,
    /// Code, identifiers, URLs, paths, quotations.
    Literal,
    /// Numbers, units, dates, versions, currencies.
    Number,
    /// Negation.
    Negation,
    /// Opposites: enable and disable, before and after, legal and illegal.
    Antonym,
    /// Members of closed classes: countries, months, systems, products, organs...
    Class,
    /// Names: words with a capital letter inside a sentence.
    Name,
    /// A content word put in the place of another, in an otherwise equal text.
    Substitution,
    /// What stands on which side: from A to B, A over B, A does B.
    Order,
    /// The kind of question: why, when, who, how many...
    Question,
}

impl Guard {
    /// All guards, in the order they are asked.
    pub const ALL: [Self; 10] = [
        Self::Language,
        Self::Literal,
        Self::Number,
        Self::Negation,
        Self::Antonym,
        Self::Class,
        Self::Name,
        Self::Substitution,
        Self::Order,
        Self::Question,
    ];

    /// Its name in explanations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Literal => "literal",
            Self::Number => "number",
            Self::Negation => "negation",
            Self::Antonym => "antonym",
            Self::Class => "class",
            Self::Name => "name",
            Self::Substitution => "substitution",
            Self::Order => "order",
            Self::Question => "question",
        }
    }
}

/// Why a guard refused: the piece of each text; empty where that text has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Who refused.
    pub guard: Guard,
    /// The piece of the query.
    pub query: String,
    /// The piece of the candidate.
    pub candidate: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |piece: &str| if piece.is_empty() { "nothing".to_owned() } else { format!("{piece:?}") };
        write!(f, "{}: {} against {}", self.guard.name(), side(&self.query), side(&self.candidate))
    }
}

/// What the guards say of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// No guard found a difference.
    pub accepted: bool,
    /// The differences found, one a guard at most.
    pub reasons: Vec<Reason>,
}

/// Longest piece quoted in a reason, in characters.
const MAX_PIECE: usize = 60;

/// A reason with its pieces cut to a readable length.
fn reason(guard: Guard, query: &str, candidate: &str) -> Reason {
    let cut = |text: &str| match text.char_indices().nth(MAX_PIECE) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    };
    Reason { guard, query: cut(query), candidate: cut(candidate) }
}

/// Asks every guard about two texts.
///
/// ```
/// use nearhit_core::text::guards::judge;
/// assert!(judge("How do I cancel my order?", "How can I cancel my order?").accepted);
/// let verdict = judge("Convert 5 km to miles", "Convert 5 miles to km");
/// assert!(!verdict.accepted);
/// assert_eq!(verdict.reasons[0].to_string(), "number: \"5 km\" against \"5 miles\"");
/// ```
pub fn judge(query: &str, candidate: &str) -> Verdict {
    compare(&Analysis::new(query), &Analysis::new(candidate))
}

/// [`judge`] for texts already taken apart.
pub fn compare(query: &Analysis<'_>, candidate: &Analysis<'_>) -> Verdict {
    compare_aligned(&Alignment::new(query, candidate))
}

/// [`judge`] for texts already aligned.
pub fn compare_aligned(pair: &Alignment<'_, '_, '_>) -> Verdict {
    let (mine, theirs) = (language::detect(pair.a), language::detect(pair.b));
    let polarity = polarity::judge(pair, mine, theirs);
    let found = [
        language::judge(pair, mine, theirs),
        literal::judge(pair),
        quantity::judge(pair),
        polarity,
        entities::classes(pair),
        entities::names(pair),
        entities::substitution(pair),
        relations::judge(pair),
        question::judge(pair),
    ];
    let reasons: Vec<Reason> = found.into_iter().flatten().collect();
    Verdict { accepted: reasons.is_empty(), reasons }
}

#[cfg(test)]
mod tests;
