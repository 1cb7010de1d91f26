//! A light English stemmer: enough that the forms of one word meet, and no more.
//!
//! Words that are not plain ASCII letters are only put into lower case.

/// Words whose ending only looks like an inflection.
const WHOLE: [&str; 10] = ["news", "evening", "always", "does", "this", "lens", "gas", "bus", "species", "series"];

/// Appends the stem of `word` to `key`.
pub(super) fn stem_into(key: &mut String, word: &str) {
    let start = key.len();
    if word.is_ascii() {
        key.extend(word.bytes().filter(|byte| *byte != b'\'').map(|byte| byte.to_ascii_lowercase() as char));
    } else {
        key.extend(word.chars().filter(|c| !matches!(c, '\'' | '\u{2019}')).flat_map(char::to_lowercase));
    }
    let stem = &key[start..];
    if stem.len() < 4 || !stem.bytes().all(|byte| byte.is_ascii_lowercase()) || WHOLE.contains(&stem) {
        return;
    }
    plural(key, start);
    participle(key, start);
    adverb(key, start);
    tail(key, start);
}

fn plural(key: &mut String, start: usize) {
    let word = &key[start..];
    let length = key.len();
    if word.len() > 4 && word.ends_with("ies") {
        key.truncate(length - 3);
        key.push('y');
    } else if ["sses", "xes", "zes", "ches", "shes"].iter().any(|ending| word.ends_with(ending)) {
        key.truncate(length - 2);
    } else if word.ends_with('s') && !["ss", "us", "is"].iter().any(|ending| word.ends_with(ending)) {
        key.truncate(length - 1);
    }
}

fn participle(key: &mut String, start: usize) {
    let word = &key[start..];
    let cut = if word.len() >= 6 && word.ends_with("ing") {
        3
    } else if word.len() >= 5 && word.ends_with("ed") && !word.ends_with("eed") {
        2
    } else {
        return;
    };
    if word[..word.len() - cut].bytes().any(|byte| b"aeiouy".contains(&byte)) {
        key.truncate(key.len() - cut);
    }
}

fn adverb(key: &mut String, start: usize) {
    if key.len() - start > 5 && key.ends_with("ly") {
        key.truncate(key.len() - 2);
    }
}

/// Endings that spelling changes: a final e, a doubled consonant, y and i, -ize and -ise.
fn tail(key: &mut String, start: usize) {
    let bytes = key.as_bytes();
    let length = key.len();
    if length - start >= 4 && bytes[length - 1] == b'e' {
        key.truncate(length - 1);
    }
    let bytes = key.as_bytes();
    let length = key.len();
    if length - start >= 3 && bytes[length - 1] == bytes[length - 2] && !b"aeiou".contains(&bytes[length - 1]) {
        key.truncate(length - 1);
    }
    if key.len() - start >= 3 && key.ends_with('y') {
        key.truncate(key.len() - 1);
        key.push('i');
    }
    if key.len() - start >= 4 && key.ends_with("iz") {
        key.truncate(key.len() - 1);
        key.push('s');
    }
}
