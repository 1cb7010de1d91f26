//! The character side of BERT's tokenising: cleaning, Chinese characters, accents, case, and what splits words.

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

use super::{Character, TokeniserConfig};

/// The normaliser's switches, and their effect on each ASCII character.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the four independent switches of BERT's normaliser")]
pub(super) struct Normaliser {
    clean_text: bool,
    split_cjk: bool,
    strip_accents: bool,
    lowercase: bool,
    ascii: [Character; 128],
}

impl Normaliser {
    pub(super) fn new(config: &TokeniserConfig) -> Self {
        let TokeniserConfig { clean_text, split_cjk, strip_accents, lowercase, .. } = *config;
        let mut normaliser = Self { clean_text, split_cjk, strip_accents, lowercase, ascii: [Character::Dropped; 128] };
        for byte in 0..128_u8 {
            let character = char::from(byte);
            let kept = normaliser.cleaned(character);
            normaliser.ascii[byte as usize] =
                kept.map_or(Character::Dropped, |c| classify(if lowercase { c.to_ascii_lowercase() } else { c }));
        }
        normaliser
    }

    /// What an ASCII byte becomes.
    #[inline]
    pub(super) fn ascii(&self, byte: u8) -> Character {
        self.ascii[usize::from(byte & 127)]
    }

    /// What a run of other characters becomes, in the order in which BERT's normaliser works.
    pub(super) fn other<'a>(&'a self, run: &'a str) -> impl Iterator<Item = Character> + 'a {
        let spaced = run.chars().filter_map(|c| self.cleaned(c)).flat_map(|c| {
            let alone = self.split_cjk && is_cjk(c);
            [alone.then_some(' '), Some(c), alone.then_some(' ')].into_iter().flatten()
        });
        let (kept, decomposed) = if self.strip_accents { (None, Some(spaced.nfd())) } else { (Some(spaced), None) };
        let stripped = decomposed.into_iter().flatten().filter(|c| !c.is_mark_nonspacing());
        let characters = kept.into_iter().flatten().chain(stripped);
        characters.flat_map(|c| {
            let (lower, same) = if self.lowercase { (Some(c.to_lowercase()), None) } else { (None, Some(c)) };
            lower.into_iter().flatten().chain(same).map(classify)
        })
    }

    /// Drops control characters and makes white space alike.
    fn cleaned(&self, character: char) -> Option<char> {
        if !self.clean_text {
            return Some(character);
        }
        if matches!(character, '\t' | '\n' | '\r') {
            return Some(' ');
        }
        if matches!(character, '\0' | '\u{fffd}') || character.is_other() {
            return None;
        }
        Some(if character.is_whitespace() { ' ' } else { character })
    }
}

fn classify(character: char) -> Character {
    if character.is_whitespace() {
        Character::Space
    } else if character.is_ascii_punctuation() || character.is_punctuation() {
        Character::Punctuation(character)
    } else {
        Character::Letter(character)
    }
}

/// The blocks that BERT calls Chinese; Hangul, Hiragana and Katakana are written in words and are not among them.
fn is_cjk(character: char) -> bool {
    matches!(u32::from(character),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x2_0000..=0x2_A6DF | 0x2_A700..=0x2_B73F | 0x2_B740..=0x2_B81F
        | 0x2_B920..=0x2_CEAF | 0xF900..=0xFAFF | 0x2_F800..=0x2_FA1F)
}
