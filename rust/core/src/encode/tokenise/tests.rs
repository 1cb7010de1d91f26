use proptest::prelude::*;

use super::{Tokeniser, TokeniserConfig};

const TOKENS: [&str; 17] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "wor", "##ld", "!", "e", "##e", "中", "a", "##a", "##b", "ab", "-",
    "ss",
];

fn tokeniser() -> Tokeniser {
    let special = vec![("[SEP]".into(), 3), ("[CLS]".into(), 2)];
    let tokens = TOKENS.map(String::from).to_vec();
    let config = TokeniserConfig {
        clean_text: true,
        split_cjk: true,
        strip_accents: true,
        lowercase: true,
        max_word_chars: 100,
        unknown: 1,
        first: 2,
        last: 3,
        special,
        tokens,
    };
    Tokeniser::new(config).expect("a valid configuration")
}

fn encode(text: &str, window: usize) -> (Vec<u32>, bool) {
    let mut ids = vec![99];
    let truncated = tokeniser().encode(text, window, &mut ids);
    (ids, truncated)
}

fn pieces(text: &str) -> Vec<&'static str> {
    let (ids, _) = encode(text, 1000);
    ids[1..ids.len() - 1].iter().map(|&id| TOKENS[id as usize]).collect()
}

#[test]
fn words_become_their_longest_pieces() {
    assert_eq!(pieces("Hello WORLD!"), ["hello", "wor", "##ld", "!"]);
    assert_eq!(pieces("aab abab"), ["a", "##a", "##b", "ab", "##a", "##b"]);
    assert_eq!(pieces("hellox a"), ["[UNK]", "a"]);
    assert_eq!(pieces(""), Vec::<&str>::new());
    assert_eq!(pieces(" \t\n\u{a0}\u{3000} "), Vec::<&str>::new());
}

#[test]
fn accents_case_and_controls_go() {
    assert_eq!(pieces("É é e\u{301}\u{327} he\u{200b}llo he\u{0}llo"), ["e", "e", "e", "hello", "hello"]);
    assert_eq!(pieces("ｈｅｌｌｏ ẞ"), ["[UNK]", "[UNK]"]);
}

#[test]
fn chinese_and_punctuation_stand_alone() {
    assert_eq!(pieces("a中a-a"), ["a", "中", "a", "-", "a"]);
    assert_eq!(pieces("a—a"), ["a", "[UNK]", "a"]);
}

#[test]
fn special_tokens_are_found_in_raw_text_only() {
    assert_eq!(pieces("a[SEP]a[CLS]"), ["a", "[SEP]", "a", "[CLS]"]);
    assert_eq!(pieces("[sep]"), ["[UNK]", "[UNK]", "[UNK]"]);
    assert_eq!(pieces("é[SEP]é"), ["e", "[SEP]", "e"]);
}

#[test]
fn truncation_is_told_exactly() {
    assert_eq!(encode("a a a", 5), (vec![2, 11, 11, 11, 3], false));
    assert_eq!(encode("a a a   ", 5), (vec![2, 11, 11, 11, 3], false));
    assert_eq!(encode("a a a\u{200b}", 5), (vec![2, 11, 11, 11, 3], false));
    assert_eq!(encode("a a a a", 5), (vec![2, 11, 11, 11, 3], true));
    assert_eq!(encode("a a ab", 4), (vec![2, 11, 11, 3], true));
    assert_eq!(encode("a aaaa", 5), (vec![2, 11, 11, 12, 3], true));
    assert_eq!(encode("a a a[SEP]", 5), (vec![2, 11, 11, 11, 3], true));
    assert_eq!(encode("a", 0), (vec![2, 3], true));
}

#[test]
fn long_words_are_unknown_and_do_not_grow() {
    assert_eq!(pieces(&"a".repeat(100)).len(), 100);
    assert_eq!(pieces(&"a".repeat(101)), ["[UNK]"]);
    assert_eq!(pieces(&"é".repeat(1_000_000)), ["[UNK]"]);
    assert_eq!(pieces(&"\u{10ffff}a\u{10fffd}".repeat(300)), ["[UNK]"]);
}

#[test]
fn ids_beyond_the_vocabulary_are_refused() {
    for change in [
        (|c: &mut TokeniserConfig| c.unknown = 17) as fn(&mut TokeniserConfig),
        |c| c.last = u32::MAX,
        |c| c.special.push(("x".into(), 40)),
        |c| c.special.push((String::new(), 4)),
    ] {
        let mut config = tokeniser().config().clone();
        change(&mut config);
        assert!(Tokeniser::new(config).is_err());
    }
}

proptest! {
    #[test]
    fn any_text_gives_ids_within_the_window(text in "\\PC{0,80}|[\\x00-\\x{10FFFF}]{0,40}|[a\\[SEP\\] é中́!-]{0,60}", window in 2_usize..20) {
        let (ids, truncated) = encode(&text, window);
        let (all, never) = encode(&text, 10_000);
        prop_assert!(!never);
        prop_assert_eq!(truncated, all.len() > window);
        prop_assert!(ids.len() <= window && ids.iter().all(|&id| id < 17));
        prop_assert_eq!(&ids[..ids.len() - 1], &all[..ids.len() - 1]);
    }
}
