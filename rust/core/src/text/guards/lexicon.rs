//! Word tables, parsed once from the text files beside this one.

use super::stem::stem_into;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// One side of one group of opposites.
pub(crate) type Side = (u16, bool);

/// What the tables know of a word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// A function word, or small change of questions: no content.
    pub(crate) stop: bool,
    /// Turns an English statement round.
    pub(crate) negator: bool,
    /// Closed class it belongs to, counted from 1; 0 for none.
    pub(crate) class: u8,
    /// The class member as it may be written: a stem alone would take "moving" for the format "mov".
    pub(crate) aliases: Vec<Box<str>>,
    /// The one name of the class member, if this is another.
    pub(crate) canonical: Option<Box<str>>,
    /// The groups of opposites it stands in.
    pub(crate) sides: Vec<Side>,
}

/// A closed class, such as the months.
#[derive(Debug)]
pub(super) struct Class {
    /// A member on one side only already asks something else.
    pub(super) one_sided: bool,
}

/// A unit: what it measures, and how many of the dimension's base it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Unit {
    pub(crate) dimension: &'static str,
    pub(crate) factor: f64,
}

/// FNV-1a: the tables are fixed, so nobody can choose the keys that are in them.
#[derive(Default)]
pub(super) struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        let mut hash = if self.0 == 0 { 0xcbf2_9ce4_8422_2325 } else { self.0 };
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Table<V> = HashMap<Box<str>, V, BuildHasherDefault<Fnv>>;

/// All tables.
pub(super) struct Lexicon {
    words: Table<Entry>,
    /// Class members that count only as written ("May", "US").
    as_written: Table<(u8, Box<str>)>,
    classes: Vec<Class>,
    units: Table<Unit>,
    languages: Vec<&'static str>,
    /// Word -> bit set of the languages it is frequent in.
    frequent: Table<u16>,
    /// Word -> bit set of the languages it negates in, English left out.
    negators: Table<u16>,
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(Lexicon::parse);

/// The tables.
pub(super) fn lexicon() -> &'static Lexicon {
    &LEXICON
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn stemmed(word: &str) -> Box<str> {
    let mut key = String::new();
    stem_into(&mut key, word);
    key.into_boxed_str()
}

impl Lexicon {
    fn parse() -> Self {
        let mut lexicon = Self {
            words: Table::default(),
            as_written: Table::default(),
            classes: Vec::new(),
            units: Table::default(),
            languages: Vec::new(),
            frequent: Table::default(),
            negators: Table::default(),
        };
        for word in lines(include_str!("lexicon/stopwords.txt")).flat_map(str::split_whitespace) {
            lexicon.words.entry(stemmed(word)).or_default().stop = true;
        }
        for line in lines(include_str!("lexicon/synonyms.txt")) {
            let canonical = line.split_whitespace().next().map(stemmed);
            for word in line.split_whitespace().skip(1) {
                lexicon.words.entry(stemmed(word)).or_default().canonical.clone_from(&canonical);
            }
        }
        lexicon.parse_languages();
        lexicon.parse_classes();
        for (group, line) in lines(include_str!("lexicon/antonyms.txt")).enumerate() {
            for (side, words) in line.split('|').enumerate() {
                for word in words.split_whitespace() {
                    let sides = &mut lexicon.words.entry(stemmed(word)).or_default().sides;
                    if !sides.contains(&(group as u16, side == 1)) {
                        sides.push((group as u16, side == 1));
                    }
                }
            }
        }
        for line in lines(include_str!("lexicon/units.txt")) {
            let mut fields = line.split_whitespace();
            let dimension = fields.next().unwrap_or_default();
            let factor = fields.next().and_then(|field| field.parse().ok()).unwrap_or(1.0);
            for name in fields {
                lexicon.units.insert(name.into(), Unit { dimension, factor });
            }
        }
        lexicon
    }

    fn parse_languages(&mut self) {
        for line in lines(include_str!("lexicon/languages.txt")) {
            let Some((language, words)) = line.split_once(':') else { continue };
            let bit = 1 << self.languages.len();
            self.languages.push(language);
            for word in words.split_whitespace() {
                *self.frequent.entry(word.into()).or_default() |= bit;
            }
        }
        for line in lines(include_str!("lexicon/negators.txt")) {
            let Some((language, words)) = line.split_once(':') else { continue };
            let Some(place) = self.languages.iter().position(|name| *name == language) else { continue };
            for word in words.split_whitespace() {
                if language == "en" {
                    self.words.entry(stemmed(word)).or_default().negator = true;
                } else {
                    *self.negators.entry(word.into()).or_default() |= 1 << place;
                }
            }
        }
    }

    fn parse_classes(&mut self) {
        for line in lines(include_str!("lexicon/classes.txt")) {
            let Some((name, members)) = line.split_once(':') else { continue };
            self.classes.push(Class { one_sided: name.ends_with('!') });
            let class = self.classes.len() as u8;
            for member in members.split_whitespace() {
                let canonical = member.split('=').next().map(|first| stemmed(first.trim_end_matches('_')));
                for alias in member.split('=') {
                    if let Some(written) = alias.strip_suffix('_') {
                        let canonical = canonical.clone().unwrap_or_default();
                        self.as_written.insert(written.into(), (class, canonical));
                        continue;
                    }
                    let key = stemmed(alias);
                    let entry = self.words.entry(key.clone()).or_default();
                    if entry.class != class {
                        entry.aliases.clear();
                    }
                    entry.aliases.push(alias.into());
                    entry.class = class;
                    entry.stop = false;
                    entry.canonical = canonical.clone().filter(|name| *name != key);
                }
            }
        }
    }

    /// What is known of a stemmed word.
    pub(super) fn word(&self, key: &str) -> Option<&Entry> {
        self.words.get(key)
    }

    /// Class and canonical name of a word that counts only as written.
    pub(super) fn as_written(&self, word: &str) -> Option<(u8, &str)> {
        self.as_written.get(word).map(|(class, name)| (*class, &**name))
    }

    /// A class by its number.
    pub(super) fn class(&self, number: u8) -> Option<&Class> {
        self.classes.get(usize::from(number).checked_sub(1)?)
    }

    /// A unit by its name in lower case.
    pub(super) fn unit(&self, name: &str) -> Option<Unit> {
        self.units.get(name).copied()
    }

    /// The languages a word in lower case is frequent in, as bits.
    pub(super) fn frequent_in(&self, word: &str) -> u16 {
        self.frequent.get(word).copied().unwrap_or(0)
    }

    /// The languages other than English that a word in lower case negates in, as bits.
    pub(super) fn negates_in(&self, word: &str) -> u16 {
        self.negators.get(word).copied().unwrap_or(0)
    }

    /// The code of a language by its bit's place.
    pub(super) fn language(&self, place: usize) -> Option<&'static str> {
        self.languages.get(place).copied()
    }

    /// How many languages are told apart.
    pub(super) fn language_count(&self) -> usize {
        self.languages.len()
    }
}

impl Entry {
    /// Whether a word with this entry's stem is the member of its class, in singular or plural.
    pub(super) fn names_member(&self, written: &str) -> bool {
        let written = written.as_bytes();
        self.class > 0
            && self.aliases.iter().map(|alias| alias.as_bytes()).any(|alias| {
                written.len() >= alias.len()
                    && written[..alias.len()].eq_ignore_ascii_case(alias)
                    && matches!(&written[alias.len()..], b"" | b"s" | b"S" | b"es" | b"'s")
            })
    }
}

/// Whether two words stand on different sides of one group of opposites.
pub(super) fn opposite(a: &[Side], b: &[Side]) -> bool {
    a.iter().any(|(group, side)| b.contains(&(*group, !side)))
}
