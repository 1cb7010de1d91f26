//! The language guard: an answer in another language is another answer.

use super::align::Alignment;
use super::lexicon::lexicon;
use super::tokens::{Analysis, Kind};
use super::{Guard, Reason, reason};

/// Tokens looked at: the start of a text tells its language.
const SAMPLE: usize = 200;

/// A language, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// One of those with a list of frequent words, by its place there.
    Known(u8),
    /// Only the script is known.
    Script(&'static str),
}

impl Language {
    /// The bit of a language with tables.
    pub(crate) fn latin_bit(self) -> Option<u16> {
        match self {
            Self::Known(place) => Some(1 << place),
            Self::Script(_) => None,
        }
    }

    /// Whether the English tables may speak.
    pub(crate) fn may_be_english(self) -> bool {
        matches!(self, Self::Known(0) | Self::Script("Latin"))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Known(place) => lexicon().language(usize::from(place)).unwrap_or("Latin"),
            Self::Script(name) => name,
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Known(place) if lexicon().language(usize::from(place)) == Some("ru") => "Cyrillic",
            Self::Known(_) => "Latin",
            Self::Script(name) => name,
        }
    }
}

/// Codes of the languages and names of the scripts that [`named`] knows.
pub(crate) fn known_names() -> Vec<&'static str> {
    let lexicon = lexicon();
    let coded = (0..lexicon.language_count()).filter_map(|place| lexicon.language(place));
    let scripts = SCRIPTS.iter().flat_map(|(script, code)| [*script, *code]).filter(|name| !name.is_empty());
    let mut names: Vec<_> = coded.chain(scripts).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Scripts, with the code of the one language that most texts in them are in, where there is such a one.
const SCRIPTS: [(&str, &str); 13] = [
    ("Latin", ""),
    ("Greek", "el"),
    ("Cyrillic", ""),
    ("Hebrew", "he"),
    ("Arabic", "ar"),
    ("Devanagari", "hi"),
    ("Bengali", "bn"),
    ("Tamil", "ta"),
    ("Telugu", "te"),
    ("Thai", "th"),
    ("Japanese", "ja"),
    ("Han", "zh"),
    ("Hangul", "ko"),
];

/// The code of a text's language, or "" where it cannot be told, and the name of its script; `None` without letters.
pub(crate) fn named(text: &str) -> Option<(&'static str, &'static str)> {
    // Taking the text apart as the guards do takes 25 µs for 500 characters, this 4.
    let words = text.split(|c: char| !c.is_alphabetic() && c != '\'').flat_map(|run| run.split_inclusive(is_ideograph));
    let language = vote(words.filter(|word| !word.is_empty()).take(SAMPLE))?;
    let script = language.script();
    let code = match language {
        Language::Known(_) => language.name(),
        Language::Script(name) => SCRIPTS.iter().find(|(script, _)| *script == name).map_or("", |(_, code)| *code),
    };
    Some((code, script))
}

fn is_ideograph(c: char) -> bool {
    matches!(script_of(c), Some("Han" | "Japanese"))
}

fn script_of(c: char) -> Option<&'static str> {
    Some(match c {
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => "Latin",
        '\u{370}'..='\u{3ff}' => "Greek",
        '\u{400}'..='\u{52f}' => "Cyrillic",
        '\u{590}'..='\u{5ff}' => "Hebrew",
        '\u{600}'..='\u{77f}' => "Arabic",
        '\u{900}'..='\u{97f}' => "Devanagari",
        '\u{980}'..='\u{9ff}' => "Bengali",
        '\u{b80}'..='\u{bff}' => "Tamil",
        '\u{c00}'..='\u{c7f}' => "Telugu",
        '\u{e00}'..='\u{e7f}' => "Thai",
        '\u{3040}'..='\u{30ff}' => "Japanese",
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' => "Han",
        '\u{ac00}'..='\u{d7af}' => "Hangul",
        _ => return None,
    })
}

/// The language of a text; `None` without letters, or when it cannot be told.
pub(crate) fn detect(analysis: &Analysis<'_>) -> Option<Language> {
    let words = analysis.tokens.iter().take(SAMPLE).filter(|token| matches!(token.kind, Kind::Word | Kind::Ideograph));
    vote(words.map(|token| analysis.written(token)))
}

/// The language that most words speak for.
fn vote<'a>(words: impl Iterator<Item = &'a str>) -> Option<Language> {
    let mut scripts: [(&str, usize); 4] = [("", 0); 4];
    let mut votes = [0_usize; 16];
    for written in words {
        if let Some(script) = written.chars().next().and_then(script_of)
            && let Some(slot) = scripts.iter_mut().find(|(name, count)| *name == script || *count == 0)
        {
            *slot = (script, slot.1 + 1);
        }
        if written.len() <= 12 {
            let bits = lexicon().frequent_in(&written.to_lowercase());
            for (place, vote) in votes.iter_mut().enumerate() {
                *vote += usize::from(bits >> place & 1);
            }
        }
    }
    let kana = scripts.iter().find(|(name, count)| *name == "Japanese" && *count > 0);
    let (script, count) = kana.copied().or_else(|| scripts.iter().copied().max_by_key(|(_, count)| *count))?;
    if count == 0 {
        return None;
    }
    let languages = &votes[..lexicon().language_count()];
    let (best, most) =
        languages.iter().copied().enumerate().max_by_key(|(place, votes)| (*votes, usize::MAX - place))?;
    let second =
        languages.iter().enumerate().filter(|(place, _)| *place != best).map(|(_, votes)| *votes).max().unwrap_or(0);
    if most >= 2 && most >= second * 3 / 2 && most > second {
        return Some(Language::Known(best as u8));
    }
    Some(Language::Script(script))
}

pub(super) fn judge(_: &Alignment<'_, '_, '_>, mine: Option<Language>, theirs: Option<Language>) -> Option<Reason> {
    let (mine, theirs) = (mine?, theirs?);
    let differ = match (mine, theirs) {
        (Language::Known(a), Language::Known(b)) => a != b,
        _ => mine.script() != theirs.script() && !both_east_asian(mine.script(), theirs.script()),
    };
    differ.then(|| reason(Guard::Language, mine.name(), theirs.name()))
}

/// A short Japanese text may hold no kana.
fn both_east_asian(a: &str, b: &str) -> bool {
    matches!((a, b), ("Han", "Japanese") | ("Japanese", "Han"))
}
