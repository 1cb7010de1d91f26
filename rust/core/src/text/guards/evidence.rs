//! What the guards saw, as counts: input of the verifier.

use super::align::Alignment;
use super::lexicon::lexicon;
use super::tokens::Analysis;
use super::{entities, language, polarity, quantity, question, relations};

/// Differences of a pair, found but not yet judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence {
    /// Numbers without an equal, on each side.
    pub(crate) numbers_only: (usize, usize),
    /// Negations on each side.
    pub(crate) negations: (usize, usize),
    /// Words with their opposite on the other side.
    pub(crate) opposites: usize,
    /// Two members of one class.
    pub(crate) class_conflict: bool,
    /// A class member on one side only.
    pub(crate) class_one_sided: bool,
    /// A name on one side only.
    pub(crate) name_one_sided: bool,
    /// Whether both ask for the same; `None` if one of them cannot be told.
    pub(crate) question: Option<bool>,
    /// What each asks for, 0 where it cannot be told.
    pub(crate) asked: (u8, u8),
    /// Share of pairs of common words that stand the other way round.
    pub(crate) inversions: f32,
    /// Longest run of common words in reverse.
    pub(crate) reversal: usize,
}

/// Words compared pairwise for inversions.
const MAX_WORDS: usize = 64;

/// Looks at a pair with every guard's eyes.
pub(crate) fn evidence(pair: &Alignment<'_, '_, '_>) -> Evidence {
    let numbers = quantity::unmatched(pair.a, pair.b);
    let classes = |analysis: &Analysis<'_>, places: &[usize]| -> Vec<u8> {
        places.iter().map(|&place| analysis.tokens[place].class).filter(|class| *class > 0).collect()
    };
    let (classes_a, classes_b) = (classes(pair.a, &pair.only_a), classes(pair.b, &pair.only_b));
    let class_conflict = classes_a.iter().any(|class| classes_b.contains(class));
    let strong = |class: &u8| lexicon().class(*class).is_some_and(|class| class.one_sided);
    let names = (entities::unmatched_name(pair.a, &pair.only_a), entities::unmatched_name(pair.b, &pair.only_b));
    let asked = (question::asked(pair.a), question::asked(pair.b));
    let mut order = relations::permutation(pair);
    order.truncate(MAX_WORDS);
    let pairs = order.len() * order.len().saturating_sub(1) / 2;
    let inverted =
        order.iter().enumerate().map(|(k, x)| order[k + 1..].iter().filter(|y| y.1 < x.1).count()).sum::<usize>();
    Evidence {
        numbers_only: (numbers.0.len(), numbers.1.len()),
        negations: (
            polarity::negations(pair.a, language::detect(pair.a)).0,
            polarity::negations(pair.b, language::detect(pair.b)).0,
        ),
        opposites: polarity::opposites(pair).0,
        class_conflict,
        class_one_sided: !class_conflict && (classes_a.iter().any(strong) || classes_b.iter().any(strong)),
        name_one_sided: names.0.is_some() != names.1.is_some(),
        question: asked.0.zip(asked.1).map(|(mine, theirs)| mine.0 == theirs.0),
        asked: (asked.0.map_or(0, |(kind, _)| kind as u8 + 1), asked.1.map_or(0, |(kind, _)| kind as u8 + 1)),
        inversions: if pairs > 0 { inverted as f32 / pairs as f32 } else { 0.0 },
        reversal: relations::longest_reversal(&order).len(),
    }
}
