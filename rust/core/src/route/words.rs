//! Keywords found in one pass over a text, whatever their number.

use std::borrow::Cow;
use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};
use unicode_normalization::UnicodeNormalization;

use crate::{Error, Result};

/// Keywords of several owners in one automaton (Aho and Corasick, 1975): linear in the text, and no text makes it slow.
///
/// Case does not count, composed and decomposed letters are the same.
#[derive(Debug)]
pub(super) struct Words {
    automaton: AhoCorasick,
    keywords: Vec<Keyword>,
    owners: usize,
}

#[derive(Debug)]
struct Keyword {
    whole: bool,
    owners: Vec<usize>,
}

/// What an owner's keywords came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    /// How many different ones there are in the text.
    pub(super) different: usize,
    /// Where the first one was found, in bytes of the folded text.
    first: Option<(usize, usize)>,
}

impl Words {
    /// Puts the keywords together: one (keywords, whole words only) for each owner; no keyword may be blank.
    pub(super) fn new(owners: &[(&[String], bool)]) -> Result<Self> {
        let mut places: HashMap<(String, bool), usize> = HashMap::new();
        let (mut patterns, mut keywords) = (Vec::new(), Vec::<Keyword>::new());
        for (owner, (words, whole)) in owners.iter().enumerate() {
            for word in *words {
                let folded = fold(word.trim()).to_ascii_lowercase();
                let place = *places.entry((folded.clone(), *whole)).or_insert(keywords.len());
                if place == keywords.len() {
                    patterns.push(folded);
                    keywords.push(Keyword { whole: *whole, owners: Vec::new() });
                }
                if !keywords[place].owners.contains(&owner) {
                    keywords[place].owners.push(owner);
                }
            }
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(&patterns)
            .map_err(|error| Error::InvalidOption {
                name: "keywords",
                value: format!("{} of them", patterns.len()),
                expected: format!("fewer or shorter ones: {error}"),
            })?;
        Ok(Self { automaton, keywords, owners: owners.len() })
    }

    /// Different keywords of an owner.
    pub(super) fn count(&self, owner: usize) -> usize {
        self.keywords.iter().filter(|keyword| keyword.owners.contains(&owner)).count()
    }

    /// Counts each owner's keywords in a folded text; stops where all have as many as they `need`.
    pub(super) fn find(&self, folded: &str, need: &[usize]) -> Vec<Found> {
        let mut found = vec![Found::default(); self.owners];
        let mut seen = vec![false; self.keywords.len()];
        let mut open = self.owners;
        for hit in self.automaton.find_overlapping_iter(folded) {
            let place = hit.pattern().as_usize();
            let keyword = &self.keywords[place];
            if seen[place] || (keyword.whole && !stands_alone(folded, hit.start(), hit.end())) {
                continue;
            }
            seen[place] = true;
            for &owner in &keyword.owners {
                let owned = &mut found[owner];
                owned.different += 1;
                owned.first.get_or_insert((hit.start(), hit.end()));
                open -= usize::from(owned.different == need[owner]);
            }
            if open == 0 {
                break;
            }
        }
        found
    }
}

impl Found {
    /// The first keyword as the text has it.
    pub(super) fn written<'a>(&self, folded: &'a str) -> &'a str {
        self.first.and_then(|(start, end)| folded.get(start..end)).unwrap_or_default()
    }
}

/// A text in the form in which keywords are compared; ASCII is left to the automaton, which ignores its case.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let lower = text.nfc().flat_map(char::to_lowercase);
    Cow::Owned(lower.map(|c| if c == 'ς' { 'σ' } else { c }).collect())
}

/// Whether no letter or digit continues a match on either side.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let (before, inside, after) = (&text[..start], &text[start..end], &text[end..]);
    let joined = |left: Option<char>, right: Option<char>| match (left, right) {
        (Some(left), Some(right)) => continues(left) && continues(right),
        _ => false,
    };
    !joined(before.chars().next_back(), inside.chars().next())
        && !joined(inside.chars().next_back(), after.chars().next())
}

/// Whether a character is part of a word that its neighbours belong to; scripts without spaces have no such words, and
/// Korean hangs its particles on them.
fn continues(c: char) -> bool {
    let spaceless = matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{20000}'..='\u{3ffff}');
    (c.is_alphanumeric() || c == '_') && !spaceless
}

#[cfg(test)]
mod tests {
    use super::{Words, fold};

    fn found(words: &[&str], whole: bool, text: &str) -> usize {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let all = Words::new(&[(&words, whole)]).unwrap();
        all.find(&fold(text), &[usize::MAX])[0].different
    }

    #[test]
    fn case_composition_and_final_sigma_do_not_count() {
        assert_eq!(found(&["refund"], true, "A REFUND, please"), 1);
        assert_eq!(found(&["café"], true, "the CAFE\u{301} there"), 1);
        assert_eq!(found(&["ΟΔΟΣ"], true, "η οδός και η οδος"), 1);
        assert_eq!(found(&["straße"], true, "Die STRAßE"), 1);
    }

    #[test]
    fn whole_words_only_where_asked() {
        assert_eq!(found(&["art"], true, "start"), 0);
        assert_eq!(found(&["art"], false, "start"), 1);
        assert_eq!(found(&["c++"], true, "in C++, not c"), 1);
        assert_eq!(found(&["add"], true, "add_one"), 0);
        assert_eq!(found(&["退款"], true, "我要退款。"), 1, "no spaces between words");
        assert_eq!(found(&["환불"], true, "환불을 원해요"), 1, "particles hang on");
    }

    #[test]
    fn keywords_within_keywords_and_repeats_are_counted_once_each() {
        assert_eq!(found(&["new york", "york", "new"], true, "New York, new york"), 3);
        assert_eq!(found(&["a", "A"], true, "a A a"), 1);
        let (one, two) = (vec!["tax".to_owned()], vec!["tax".to_owned(), "vat".to_owned()]);
        let shared = Words::new(&[(&one, true), (&two, true)]).unwrap();
        let all = shared.find("tax and vat", &[1, 2]);
        assert_eq!((all[0].different, all[1].different), (1, 2));
        assert_eq!((shared.count(0), shared.count(1)), (1, 2));
        assert_eq!(all[1].written("tax and vat"), "tax");
    }
}
