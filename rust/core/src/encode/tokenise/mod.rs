//! BERT's `WordPiece`: text to token ids, identical to the `tokenizers` library and linear in the text.
//!
//! That library keeps offsets into the original text through every step, which a search does not need: it takes
//! 10 to 21 µs on a short prompt and 42 ms on 116,000 characters (and 102 s to compile). Here characters stream
//! through normalisation and splitting into one word buffer, and the text is left as soon as the window is full.

mod normalise;
#[cfg(test)]
mod tests;
mod vocabulary;

use normalise::Normaliser;
use vocabulary::Vocabulary;

use crate::{Error, Result};

/// How a model wants its text cut up; the fields of `tokenizer.json` that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the four independent switches of BERT's normaliser")]
pub struct TokeniserConfig {
    /// Drop control characters and make all white space alike.
    pub clean_text: bool,
    /// Put each Chinese character into a word of its own.
    pub split_cjk: bool,
    /// Decompose and drop combining marks.
    pub strip_accents: bool,
    /// Lower case.
    pub lowercase: bool,
    /// Words of more characters become the unknown token.
    pub max_word_chars: usize,
    /// Id of the unknown token.
    pub unknown: u32,
    /// Id that starts every text (`[CLS]`).
    pub first: u32,
    /// Id that ends every text (`[SEP]`).
    pub last: u32,
    /// Tokens that are recognised in the raw text, before any normalisation.
    pub special: Vec<(String, u32)>,
    /// The vocabulary in the order of its ids; continuing pieces start with `##`.
    pub tokens: Vec<String>,
}

/// A ready tokeniser.
///
/// ```
/// use nearhit_core::encode::{Tokeniser, TokeniserConfig};
/// let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "wor", "##ld", "!"].map(String::from).to_vec();
/// let config = TokeniserConfig {
///     clean_text: true, split_cjk: true, strip_accents: true, lowercase: true, max_word_chars: 100,
///     unknown: 1, first: 2, last: 3, special: vec![("[SEP]".into(), 3)], tokens,
/// };
/// let mut ids = Vec::new();
/// let truncated = Tokeniser::new(config)?.encode("Hello wörld!", 16, &mut ids);
/// assert_eq!((ids, truncated), (vec![2, 4, 5, 6, 7, 3], false));
/// # Ok::<(), nearhit_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokeniser {
    config: TokeniserConfig,
    vocabulary: Vocabulary,
    normaliser: Normaliser,
    /// First bytes of the special tokens.
    special_starts: [bool; 256],
}

impl Tokeniser {
    /// Builds the lookup tables.
    ///
    /// Fails with [`Error::ModelFormat`] if an id lies beyond the vocabulary or a special token is empty.
    pub fn new(config: TokeniserConfig) -> Result<Self> {
        let size = config.tokens.len();
        let named = [("unknown", config.unknown), ("first", config.first), ("last", config.last)];
        let special = config.special.iter().map(|(text, id)| (text.as_str(), *id));
        if let Some((name, id)) = named.into_iter().chain(special).find(|(_, id)| *id as usize >= size) {
            return Err(Error::ModelFormat {
                reason: format!("token {name:?} has id {id}, but there are {size} tokens"),
            });
        }
        let mut special_starts = [false; 256];
        for (text, _) in &config.special {
            let Some(&first) = text.as_bytes().first() else {
                return Err(Error::ModelFormat { reason: "a special token is empty".into() });
            };
            special_starts[first as usize] = true;
        }
        let normaliser = Normaliser::new(&config);
        let vocabulary = Vocabulary::new(&config.tokens);
        Ok(Self { config, vocabulary, normaliser, special_starts })
    }

    /// The settings it was built from.
    pub fn config(&self) -> &TokeniserConfig {
        &self.config
    }

    /// Replaces `ids` by the ids of `text`, special tokens included, at most `window` of them; returns whether
    /// the text was longer than that and was cut. A window below 2 counts as 2.
    pub fn encode(&self, text: &str, window: usize, ids: &mut Vec<u32>) -> bool {
        ids.clear();
        ids.push(self.config.first);
        let mut words =
            Words { tokeniser: self, room: window.max(2) - 1, ids, word: [0; WORD_BYTES], len: 0, chars: 0 };
        let truncated = words.read(text).is_err();
        ids.push(self.config.last);
        truncated
    }
}

/// Bytes kept of a word: any word within the usual limit of 100 characters fits.
const WORD_BYTES: usize = 512;

/// The window is full and a further token was found.
struct Full;

/// Collects characters into words and words into ids.
struct Words<'a> {
    tokeniser: &'a Tokeniser,
    /// Ids that fit before the closing one.
    room: usize,
    ids: &'a mut Vec<u32>,
    word: [u8; WORD_BYTES],
    len: usize,
    /// Characters of the current word, also those beyond the buffer.
    chars: usize,
}

impl Words<'_> {
    fn read(&mut self, text: &str) -> std::result::Result<(), Full> {
        let tokeniser = self.tokeniser;
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if tokeniser.special_starts[byte as usize]
                && let Some((token, id)) = tokeniser.special_at(&text[at..])
            {
                self.end_word()?;
                self.push(id)?;
                at += token.len();
            } else if byte.is_ascii() {
                self.character(tokeniser.normaliser.ascii(byte))?;
                at += 1;
            } else {
                // ASCII characters never combine with what stands before or after them, so that a run of
                // others can be normalised on its own.
                let run = self.tokeniser.foreign_run(&text[at..]);
                for character in tokeniser.normaliser.other(run) {
                    self.character(character)?;
                }
                at += run.len();
            }
        }
        self.end_word()
    }

    /// Takes one normalised character.
    #[inline]
    fn character(&mut self, character: Character) -> std::result::Result<(), Full> {
        match character {
            Character::Dropped => Ok(()),
            Character::Space => self.end_word(),
            Character::Punctuation(c) => {
                self.end_word()?;
                self.append(c)?;
                self.end_word()
            }
            Character::Letter(c) => self.append(c),
        }
    }

    #[inline]
    fn append(&mut self, character: char) -> std::result::Result<(), Full> {
        if self.ids.len() >= self.room {
            return Err(Full);
        }
        self.chars += 1;
        let width = character.len_utf8();
        if self.len + width <= WORD_BYTES {
            character.encode_utf8(&mut self.word[self.len..]);
            self.len += width;
        } else {
            // Longer than any word that is looked up.
            self.chars = self.chars.max(WORD_BYTES + 1);
        }
        Ok(())
    }

    #[inline]
    fn end_word(&mut self) -> std::result::Result<(), Full> {
        if self.chars == 0 {
            return Ok(());
        }
        let (len, chars) = (self.len, self.chars);
        (self.len, self.chars) = (0, 0);
        let config = &self.tokeniser.config;
        if chars > config.max_word_chars || chars > WORD_BYTES {
            return self.push(config.unknown);
        }
        let before = self.ids.len();
        let word = &self.word[..len];
        let complete = self.tokeniser.vocabulary.pieces(word, |id| self.ids.push(id));
        if !complete {
            self.ids.truncate(before);
            return self.push(config.unknown);
        }
        if self.ids.len() > self.room {
            self.ids.truncate(self.room);
            return Err(Full);
        }
        Ok(())
    }

    fn push(&mut self, id: u32) -> std::result::Result<(), Full> {
        if self.ids.len() >= self.room {
            return Err(Full);
        }
        self.ids.push(id);
        Ok(())
    }
}

/// A normalised character and its part in splitting words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Character {
    Dropped,
    Space,
    Punctuation(char),
    Letter(char),
}

impl Tokeniser {
    /// The longest special token that `text` starts with.
    fn special_at(&self, text: &str) -> Option<(&str, u32)> {
        let found = self.config.special.iter().filter(|(token, _)| text.starts_with(token.as_str()));
        found.max_by_key(|(token, _)| token.len()).map(|(token, id)| (token.as_str(), *id))
    }

    /// The characters at the start of `text` that are neither ASCII nor start a special token (one at least).
    fn foreign_run<'t>(&self, text: &'t str) -> &'t str {
        let mut characters = text.char_indices().skip(1);
        let end = characters.find(|(at, c)| c.is_ascii() || self.special_starts[text.as_bytes()[*at] as usize]);
        end.map_or(text, |(at, _)| &text[..at])
    }
}
