//! Any text gives ids of the vocabulary within the window, and a cut text starts like the whole.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nearhit_core::encode::{Tokeniser, TokeniserConfig};

static TOKENISER: LazyLock<Tokeniser> = LazyLock::new(|| {
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##a", "b", "##b", "ab", "é", "e", "中", "!", "##ab"];
    Tokeniser::new(TokeniserConfig {
        clean_text: true,
        split_cjk: true,
        strip_accents: true,
        lowercase: true,
        max_word_chars: 100,
        unknown: 1,
        first: 2,
        last: 3,
        special: vec![("[SEP]".into(), 3), ("[CLS]".into(), 2)],
        tokens: tokens.map(String::from).to_vec(),
    })
    .expect("a valid configuration")
});

fuzz_target!(|text: &str| {
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    assert!(!TOKENISER.encode(text, usize::MAX, &mut whole));
    let truncated = TOKENISER.encode(text, 8, &mut cut);
    assert_eq!(truncated, whole.len() > 8);
    assert!(cut.len() <= 8 && cut.iter().all(|&id| id < 14));
    assert_eq!(cut[..cut.len() - 1], whole[..cut.len() - 1]);
});
