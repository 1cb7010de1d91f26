//! Word classes that mark what a prompt asks for, in one hashed table.

use std::sync::LazyLock;

/// What a word says about the prompt it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum WordClass {
    /// Asks for a fact: "who", "when".
    Factual,
    /// Asks for an explanation: "why", "explain".
    Explain,
    /// Asks for something new: "write", "design".
    Create,
    /// Needs a chain of thought: "prove", "therefore".
    Reason,
    /// Limits the answer: "must", "exactly".
    Constrain,
    /// Orders steps: "first", "then".
    Sequence,
    /// Small talk: "hello", "thanks".
    Greet,
    /// Word-problem quantities: "each", "twice", "percent".
    Quantity,
    /// Mathematics.
    Maths,
    /// Physics, chemistry, engineering.
    Science,
    /// Law and government.
    Law,
    /// Medicine and biology.
    Medicine,
    /// Money and business.
    Finance,
    /// Programming.
    Code,
    /// Negations and exceptions: "not", "except".
    Negate,
    /// Comparisons: "best", "more", "difference".
    Compare,
    /// Moral judgement.
    Moral,
    /// Simple transformations: "translate", "summarise".
    Transform,
    /// Words that only agree or go on: "yes", "continue".
    Continue,
    /// Amounts spelt out: "three", "half", "dozen".
    Amount,
}

/// How many classes there are.
pub(super) const WORD_CLASSES: usize = 20;

use WordClass as C;

const LEXICON: &[(WordClass, &str)] = &[
    (C::Factual, "who when where which what whose whom define name list capital date year called author"),
    (C::Explain, "why how explain describe discuss elaborate understand meaning reason cause causes because interpret"),
    (
        C::Create,
        "write create design develop generate compose draft build invent imagine story poem essay plan propose \
         implement outline brainstorm produce script email article letter",
    ),
    (
        C::Reason,
        "prove proof derive deduce infer therefore thus hence suppose assume assuming conclude analyse analyze \
         evaluate argue justify critique logic logical step steps reasoning optimal optimise optimize determine \
         strategy tradeoff tradeoffs diagnose debug puzzle clue clues contradiction consistent implies",
    ),
    (
        C::Constrain,
        "must should only exactly without least most within avoid ensure require requires required format json table \
         bullet words sentences limit maximum minimum never always include exclude following",
    ),
    (
        C::Sequence,
        "first second third then next finally afterwards before after last lastly followed step subsequently",
    ),
    (C::Greet, "hi hello hey thanks thank please bye morning welcome okay ok cheers sorry"),
    (
        C::Quantity,
        "each per total many much twice half percent percentage times every remaining left dozen average altogether \
         spends cost costs pays paid price sells sold buys bought hours minutes days weeks miles pounds cups rate",
    ),
    (
        C::Maths,
        "integer integers equation function polynomial matrix theorem probability triangle circle angle sum product \
         divisor prime fraction ratio square root derivative integral graph vector group ring field subset modulo \
         factor solve calculate compute simplify mean median variance set sets algebra geometry exponent",
    ),
    (
        C::Science,
        "energy force mass velocity acceleration atom atoms electron electrons molecule reaction acid temperature \
         pressure gas circuit voltage current wave wavelength light planet star orbit chemical element ion heat \
         magnetic field quantum particle gravity solution compound",
    ),
    (
        C::Law,
        "court law legal contract plaintiff defendant statute constitution constitutional liability jurisdiction \
         tort evidence crime criminal jury attorney amendment treaty rights property negligence congress rule \
         government federal state policy",
    ),
    (
        C::Medicine,
        "patient patients disease diagnosis treatment symptoms blood cell cells gene genes protein infection virus \
         clinical drug therapy cancer brain muscle muscles nerve hormone syndrome chronic physician tissue dose \
         organism species enzyme",
    ),
    (
        C::Finance,
        "interest income tax profit loss market demand supply price cost inflation investment asset assets stock \
         bond audit auditor revenue capital cash budget monetary fiscal firm loan accounting bank",
    ),
    (
        C::Code,
        "python javascript java rust sql code def class import return array string list dict loop algorithm api \
         compile runtime regex html css function recursion database query bug exception async thread print int \
         const var struct pointer",
    ),
    (C::Negate, "not no never neither nor none without except cannot can't don't doesn't isn't won't false least"),
    (
        C::Compare,
        "best better worse worst more less than most compare contrast difference differences similar versus vs \
         greater larger smaller likely unlike",
    ),
    (C::Moral, "wrong moral morally ethical ethics ordinary standards virtue duty justice fair blame harm guilt"),
    (
        C::Transform,
        "translate summarise summarize rewrite paraphrase correct classify extract convert sort reformat shorten \
         spell spelling synonym rephrase label tag",
    ),
    (
        C::Continue,
        "yes yeah yep yup sure ok okay continue proceed go ahead on please no nope more do it that thanks right \
         correct again and so keep going fine sounds good agreed next done great perfect finish you can lets let's",
    ),
    (
        C::Amount,
        "two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million \
         half twice double triple third thirds quarter quarters fourth fifth dozen thrice",
    ),
];

const SLOTS: usize = 2048; // four times the words, so that probes stay short

struct Table {
    keys: Vec<u64>,
    masks: Vec<u32>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { keys: vec![0; SLOTS], masks: vec![0; SLOTS] };
    for (class, words) in LEXICON {
        for word in words.split_ascii_whitespace() {
            let key = word.bytes().fold(WordHash::new(), WordHash::push).finish();
            let mut slot = key as usize % SLOTS;
            while table.keys[slot] != 0 && table.keys[slot] != key {
                slot = (slot + 1) % SLOTS;
            }
            table.keys[slot] = key;
            table.masks[slot] |= 1 << *class as u8;
        }
    }
    table
});

/// FNV-1a over a word's lower-case bytes: cheap enough to run while scanning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WordHash(u64);

impl WordHash {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) const fn push(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x0100_0000_01b3))
    }

    /// The hash with its high bits folded in; never 0, which marks an empty slot.
    pub(crate) const fn finish(self) -> u64 {
        (self.0 ^ (self.0 >> 29)) | 1
    }
}

/// The lexicon, borrowed once per text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexicon {
    keys: &'static [u64],
    masks: &'static [u32],
}

impl Lexicon {
    pub(crate) fn get() -> Self {
        let table = &*TABLE;
        Self { keys: &table.keys, masks: &table.masks }
    }

    /// Bit `class as u8` is set for each class of the word with this hash.
    pub(crate) fn classes(self, key: u64) -> u32 {
        let mut slot = key as usize % SLOTS;
        loop {
            match self.keys[slot] {
                0 => return 0,
                found if found == key => return self.masks[slot],
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LEXICON, Lexicon, WORD_CLASSES, WordClass, WordHash};

    fn classes(word: &str) -> u32 {
        Lexicon::get().classes(word.bytes().fold(WordHash::new(), WordHash::push).finish())
    }

    #[test]
    fn every_word_is_found_with_its_class() {
        assert_eq!(LEXICON.len(), WORD_CLASSES);
        for (class, words) in LEXICON {
            for word in words.split_ascii_whitespace() {
                assert_ne!(classes(word) & (1 << *class as u8), 0, "{word}");
            }
        }
    }

    #[test]
    fn a_word_may_have_several_classes_and_most_have_none() {
        assert_ne!(classes("step") & (1 << WordClass::Reason as u8), 0);
        assert_ne!(classes("step") & (1 << WordClass::Sequence as u8), 0);
        assert_eq!(classes("zebra"), 0);
    }
}
