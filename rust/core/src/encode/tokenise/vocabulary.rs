//! The vocabulary and the greedy longest-match-first search for the pieces of a word.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What marks a piece that continues a word.
const CONTINUING: &str = "##";

type Pieces = HashMap<Box<[u8]>, u32, BuildHasherDefault<Fast>>;

/// Pieces that start a word and pieces that continue one.
#[derive(Clone, Debug)]
pub(super) struct Vocabulary {
    starting: Pieces,
    continuing: Pieces,
    /// Bytes of the longest piece: no longer one is looked up.
    longest: usize,
}

impl Vocabulary {
    /// Of tokens listed twice the later counts, as in a dictionary.
    pub(super) fn new(tokens: &[String]) -> Self {
        let mut vocabulary = Self { starting: Pieces::default(), continuing: Pieces::default(), longest: 0 };
        for (id, token) in tokens.iter().enumerate() {
            let id = id as u32;
            if let Some(rest) = token.strip_prefix(CONTINUING) {
                vocabulary.continuing.insert(rest.as_bytes().into(), id);
            }
            vocabulary.starting.insert(token.as_bytes().into(), id);
            vocabulary.longest = vocabulary.longest.max(token.len());
        }
        vocabulary
    }

    /// Passes the ids of the pieces of `word` on; `false` if some part of it is in no piece.
    pub(super) fn pieces(&self, word: &[u8], mut each: impl FnMut(u32)) -> bool {
        let mut start = 0;
        while start < word.len() {
            let pieces = if start == 0 { &self.starting } else { &self.continuing };
            let mut end = word.len().min(start + self.longest);
            loop {
                // Not within a character: no token ends there.
                if word.get(end).is_none_or(|byte| byte & 0xC0 != 0x80)
                    && let Some(&id) = pieces.get(&word[start..end])
                {
                    each(id);
                    break;
                }
                end -= 1;
                if end == start {
                    return false;
                }
            }
            start = end;
        }
        true
    }
}

/// Multiply-and-rotate hashing of short byte strings. The table is fixed by the model, so nobody can fill it
/// with collisions.
#[derive(Clone, Debug, Default)]
struct Fast(u64);

impl Fast {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
    }
}

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        // The table takes its bits from both ends; only the upper ones of a product are well mixed.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(last));
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.mix(length as u64);
    }
}
