//! Prompt features: what can be told about a prompt's difficulty by reading it once.
//!
//! One pass over the characters counts shapes (digits, symbols, scripts, lines) and word classes.
//! Very long prompts are read at their head and tail, where instructions stand, so that the time is bounded.

use super::lexicon::{Lexicon, WORD_CLASSES, WordClass, WordHash};

/// Features that describe the text's shape; the word classes follow them.
const SHAPE_NAMES: [&str; 25] = [
    "log_chars",
    "log_words",
    "log_lines",
    "word_length",
    "sentence_words",
    "digit_share",
    "upper_share",
    "punctuation_share",
    "cjk_share",
    "other_script_share",
    "log_numbers",
    "log_maths_symbols",
    "log_code_symbols",
    "log_latex",
    "log_questions",
    "log_options",
    "option_words",
    "log_bullets",
    "blanks",
    "quotes",
    "ends_with_question",
    "asks_choice",
    "shots",
    "distinct_words",
    "log_amounts",
];

const CLASS_NAMES: [&str; WORD_CLASSES] = [
    "factual",
    "explain",
    "create",
    "reason",
    "constrain",
    "sequence",
    "greet",
    "quantity",
    "maths",
    "science",
    "law",
    "medicine",
    "finance",
    "code",
    "negate",
    "compare",
    "moral",
    "transform",
    "continue",
    "amount",
];

const SHAPES: usize = SHAPE_NAMES.len();

/// Number of features.
pub const FEATURES: usize = SHAPES + WORD_CLASSES;

/// What stands before an answer, at the start of a line or behind a space: in a few-shot prompt once an example, and
/// once more at the end.
const ANSWER_MARKS: [&str; 4] = ["Answer:", "A:", "Solution:", "Output:"];
/// What stands before a question whose answer such a mark asks for.
const QUESTION_MARKS: [&str; 4] = ["Question:", "Q:", "Problem:", "Input:"];
const HEAD_BYTES: usize = 3072;
const TAIL_BYTES: usize = 1024;
const CHARS_PER_TOKEN: f32 = 4.0;
const LONGEST_CONTINUATION: u32 = 6;
const GO_ON_CJK: [&str; 10] = ["是", "是的", "好", "好的", "可以", "继续", "请继续", "はい", "続けて", "네"];
const SEEN_BITS: usize = 1024; // a Bloom bit per word: enough to tell repetitive from varied text

/// A prompt's features, in the order of [`PromptFeatures::names`].
#[derive(Debug, Clone, PartialEq)]
pub struct PromptFeatures {
    values: [f32; FEATURES],
    continues: bool,
    tokens: f32,
}

impl PromptFeatures {
    /// Reads a prompt.
    ///
    /// Few-shot examples in front of the last question only count as `shots`: the question decides. "Question:" before
    /// and "Answer:" behind it are no part of it.
    ///
    /// ```
    /// use nearhit_core::text::features::PromptFeatures;
    ///
    /// let easy = PromptFeatures::of("What is the capital of France?");
    /// let hard = PromptFeatures::of("Prove that there are infinitely many primes p with p mod 4 = 3.");
    /// assert!(hard.get("reason") > easy.get("reason"));
    /// ```
    pub fn of(text: &str) -> Self {
        let (shots, focus) = split_shots(text);
        let (question, framed) = unframed(focus);
        let (head, tail) = window(question);
        let mut scan = Scan::new();
        scan.read(head);
        if !tail.is_empty() {
            scan.break_line();
            scan.read(tail);
        }
        scan.finish(text, question, framed, shots)
    }

    /// The values, in the order of [`PromptFeatures::names`].
    pub fn values(&self) -> &[f32; FEATURES] {
        &self.values
    }

    /// Names of the features.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHAPE_NAMES.into_iter().chain(CLASS_NAMES)
    }

    /// One value by name.
    pub fn get(&self, name: &str) -> Option<f32> {
        Self::names().position(|known| known == name).map(|at| self.values[at])
    }

    /// True for a turn that only agrees or goes on ("yes, please", "continue"), so that its difficulty is that of
    /// the turn before.
    pub fn is_continuation(&self) -> bool {
        self.continues
    }

    /// Tokens the prompt will take, roughly: four Latin characters or one CJK character each.
    pub fn estimated_tokens(&self) -> f32 {
        self.tokens
    }
}

/// The last question of a few-shot prompt, without the examples before it; any other text as a whole.
pub fn focus(text: &str) -> &str {
    split_shots(text).1
}

/// Example answers before the last question, and the last question.
fn split_shots(text: &str) -> (usize, &str) {
    ANSWER_MARKS.iter().find_map(|mark| after_examples(text, mark)).unwrap_or((0, text))
}

/// The examples and what follows them, where the text ends with a mark that asks for an answer and an example before
/// has its answer behind the same mark. A text that does not end so may be a transcript whose first lines say what to
/// do with it.
fn after_examples<'a>(text: &'a str, mark: &str) -> Option<(usize, &'a str)> {
    if !text.trim_end().ends_with(mark) {
        return None;
    }
    let mut marks = text.rmatch_indices(mark).map(|(at, _)| at).filter(|&at| text[..at].ends_with([' ', '\n']));
    let (asked, answered) = (marks.next()?, marks.next()?);
    // The last example's answer ends at the first blank line after its mark.
    let end = answered + text[answered..asked].find("\n\n")?;
    Some((1 + marks.count(), &text[end + 2..]))
}

/// The question without the marks around it, and whether one at its end asks for the answer.
fn unframed(focus: &str) -> (&str, bool) {
    let visible = focus.trim_end();
    let before = |mark: &&str| visible.strip_suffix(*mark).filter(|rest| rest.ends_with([' ', '\n']));
    match ANSWER_MARKS.iter().find_map(before).map(str::trim).filter(|question| !question.is_empty()) {
        Some(question) => {
            let bare = QUESTION_MARKS.iter().find_map(|mark| question.strip_prefix(mark));
            (bare.map_or(question, str::trim_start), true)
        }
        None => (focus, false),
    }
}

/// The head and the tail to read; the tail is empty where the head is everything.
fn window(text: &str) -> (&str, &str) {
    if text.len() <= HEAD_BYTES + TAIL_BYTES {
        return (text, "");
    }
    let boundary = |near: usize| (near..near + 4).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    (&text[..boundary(HEAD_BYTES)], &text[boundary(text.len() - TAIL_BYTES)..])
}

/// Counts of one reading.
#[derive(Default)]
struct Counts {
    classes: [u16; WORD_CLASSES],
    chars: u32,
    words: u32,
    distinct: u32,
    contentful: u32,
    letters: u32,
    lines: u32,
    sentences: u32,
    digits: u32,
    numbers: u32,
    upper: u32,
    punctuation: u32,
    cjk: u32,
    other_script: u32,
    maths: u32,
    code: u32,
    latex: u32,
    questions: u32,
    options: u32,
    option_words: u32,
    bullets: u32,
    blanks: u32,
    quotes: u32,
}

struct Scan {
    counts: Counts,
    lexicon: Lexicon,
    seen: [u64; SEEN_BITS / 64],
    bytes: usize,
    word: WordHash,
    word_chars: u32,
    line_start: bool,
    label: bool,
    in_option: bool,
    previous: char,
    last_visible: char,
}

impl Scan {
    fn new() -> Self {
        Self {
            counts: Counts { lines: 1, ..Counts::default() },
            lexicon: Lexicon::get(),
            seen: [0; SEEN_BITS / 64],
            bytes: 0,
            word: WordHash::new(),
            word_chars: 0,
            line_start: true,
            label: false,
            in_option: false,
            previous: '\n',
            last_visible: ' ',
        }
    }

    fn read(&mut self, text: &str) {
        self.bytes += text.len();
        for character in text.chars() {
            self.push(character);
        }
        self.end_word();
    }

    fn push(&mut self, c: char) {
        self.counts.chars += 1;
        match c {
            'a'..='z' => self.letter(c as u8),
            'A'..='Z' => {
                self.counts.upper += 1;
                self.letter(c.to_ascii_lowercase() as u8);
            }
            '\'' | '\u{2019}' if self.word_chars > 0 => self.word = self.word.push(b'\''),
            '\n' => self.break_line(),
            ' ' | '\t' | '\r' => self.end_word(),
            '0'..='9' => {
                if !self.previous.is_ascii_digit() {
                    self.end_word();
                    self.counts.numbers += 1;
                }
                self.counts.digits += 1;
            }
            _ if c.is_ascii() => self.symbol(c),
            _ => self.foreign(c),
        }
        if !c.is_ascii_whitespace() {
            self.line_start &= c == '('; // "(A)" is a label like "A)"
            self.last_visible = c;
        }
        self.previous = c;
    }

    fn letter(&mut self, lower: u8) {
        if self.word_chars == 0 {
            self.label = self.line_start;
        }
        self.counts.letters += 1;
        self.word_chars += 1;
        self.word = self.word.push(lower);
    }

    fn end_word(&mut self) {
        if self.word_chars == 0 {
            return;
        }
        let key = self.word.finish();
        let mut classes = self.lexicon.classes(key);
        let counts = &mut self.counts;
        counts.contentful += u32::from(classes & (1 << WordClass::Continue as u8) == 0);
        while classes != 0 {
            let class = classes.trailing_zeros() as usize;
            counts.classes[class] = counts.classes[class].saturating_add(1);
            classes &= classes - 1;
        }
        let bit = (key >> 7) as usize % SEEN_BITS;
        counts.distinct += u32::from(self.seen[bit / 64] & (1 << (bit % 64)) == 0);
        self.seen[bit / 64] |= 1 << (bit % 64);
        counts.option_words += u32::from(self.in_option);
        counts.words += 1;
        self.word = WordHash::new();
        self.word_chars = 0;
    }

    fn break_line(&mut self) {
        self.end_word();
        self.counts.lines += u32::from(self.previous != '\n');
        self.line_start = true;
        self.in_option = false;
    }

    fn symbol(&mut self, c: char) {
        if self.label && self.word_chars == 1 && matches!(c, '.' | ')') {
            self.counts.options += 1; // "A." or "(B)" at the start of a line
            self.in_option = true;
        }
        self.end_word();
        let counts = &mut self.counts;
        counts.punctuation += 1;
        match c {
            '?' => {
                counts.questions += 1;
                counts.sentences += 1;
            }
            '!' => counts.sentences += 1,
            '.' if !self.previous.is_ascii_digit() => counts.sentences += 1,
            '+' | '=' | '^' | '<' | '>' | '%' => counts.maths += 1,
            '-' | '*' | '#' if self.line_start => counts.bullets += 1,
            '*' | '/' | '-' if self.previous.is_ascii_digit() || self.previous == ' ' => counts.maths += 1,
            '_' if self.previous == '_' => counts.blanks += 1,
            '{' | '}' | ';' | '`' | '[' | ']' | '#' | '&' | '|' | '~' | '@' | '_' => counts.code += 1,
            '\\' | '$' => counts.latex += 1,
            '"' => counts.quotes += 1,
            _ => {}
        }
    }

    fn foreign(&mut self, c: char) {
        match c as u32 {
            0x3040..=0x30ff | 0x3400..=0x9fff | 0xac00..=0xd7af | 0xf900..=0xfaff | 0x2_0000..=0x3_134f => {
                self.end_word();
                self.counts.cjk += 1;
                self.counts.words += 1;
                self.counts.contentful += 1;
            }
            0x2200..=0x22ff | 0xb0..=0xb3 | 0xd7 | 0xf7 => {
                self.end_word();
                self.counts.maths += 1;
            }
            _ if c.is_alphabetic() => {
                self.counts.other_script += u32::from(c as u32 > 0x24f); // beyond accented Latin
                self.letter(c as u32 as u8);
            }
            _ => {
                self.end_word();
                self.counts.punctuation += 1;
            }
        }
    }

    fn finish(self, text: &str, question: &str, framed: bool, shots: usize) -> PromptFeatures {
        let counts = &self.counts;
        let log = |count: u32| (count as f32).ln_1p();
        let share = |part: u32, whole: u32| part as f32 / whole.max(1) as f32;
        let asks_choice = counts.options >= 3 || (framed && counts.options == 2) || self.last_visible == ':';
        let shapes: [f32; SHAPES] = [
            (question.len() as f32).ln_1p(),
            log(counts.words),
            log(counts.lines),
            share(counts.letters, counts.words),
            share(counts.words, counts.sentences).ln_1p(),
            share(counts.digits, counts.chars),
            share(counts.upper, counts.letters),
            share(counts.punctuation, counts.chars),
            share(counts.cjk, counts.chars),
            share(counts.other_script, counts.chars),
            log(counts.numbers),
            log(counts.maths),
            log(counts.code),
            log(counts.latex),
            log(counts.questions),
            log(counts.options),
            share(counts.option_words, counts.options).ln_1p(),
            log(counts.bullets),
            f32::from(u8::from(counts.blanks > 0)),
            log(counts.quotes),
            f32::from(u8::from(self.last_visible == '?')),
            f32::from(u8::from(asks_choice)),
            (shots as f32).ln_1p(),
            share(counts.distinct, counts.words),
            log(counts.numbers + u32::from(counts.classes[WordClass::Amount as usize])),
        ];
        let mut values = [0.0; FEATURES];
        values[..SHAPES].copy_from_slice(&shapes);
        for (value, &count) in values[SHAPES..].iter_mut().zip(&counts.classes) {
            *value = f32::from(count).ln_1p();
        }
        let nothing_new = counts.contentful == 0 && counts.numbers == 0 && counts.code == 0;
        let latin = counts.chars - counts.cjk;
        let tokens_read = latin as f32 / CHARS_PER_TOKEN + counts.cjk as f32;
        PromptFeatures {
            values,
            continues: (nothing_new && counts.words <= LONGEST_CONTINUATION)
                || GO_ON_CJK.contains(&text.trim_matches(|c: char| !c.is_alphanumeric())),
            tokens: tokens_read * text.len() as f32 / self.bytes.max(1) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ANSWER_MARKS, FEATURES, PromptFeatures, focus, split_shots, unframed};

    #[test]
    fn names_and_values_line_up() {
        assert_eq!(PromptFeatures::names().count(), FEATURES);
        let read = PromptFeatures::of("Explain why 2 + 2 = 4?");
        assert_eq!(read.get("log_questions"), Some(2.0_f32.ln()));
        assert_eq!(read.get("explain"), Some(3.0_f32.ln())); // "explain" and "why"
        assert_eq!(read.get("log_numbers"), Some(4.0_f32.ln()));
        assert_eq!(read.get("no such feature"), None);
        let spelt = PromptFeatures::of("Half of the 12 eggs, and three more.");
        assert_eq!(spelt.get("log_amounts"), Some(4.0_f32.ln()));
    }

    #[test]
    fn bare_agreement_continues_and_a_request_does_not() {
        for text in ["yes", "Yes, please!", "continue", "ok", "go ahead", "好的", "...", "👍", "Sure, do it."] {
            assert!(PromptFeatures::of(text).is_continuation(), "{text}");
        }
        for text in ["yes, but in French", "prove it", "42", "为什么？", "x = {}", "delete everything"] {
            assert!(!PromptFeatures::of(text).is_continuation(), "{text}");
        }
    }

    #[test]
    fn options_are_counted_at_line_starts_only() {
        let choice = PromptFeatures::of("Pick one.\nA. red\n(B) green\nC) blue\nAnswer:");
        assert_eq!(choice.get("log_options"), Some(4.0_f32.ln()));
        assert_eq!(choice.get("asks_choice"), Some(1.0));
        let prose = PromptFeatures::of("Plan B. failed (see A) today.");
        assert_eq!(prose.get("log_options"), Some(0.0));
    }

    #[test]
    fn examples_in_front_only_count_as_shots() {
        let question = "Why is the sky blue?\nAnswer:";
        let shot = "Prove Fermat's last theorem.\nAnswer:\nNo.\n\n".repeat(3) + question;
        let (alone, led) = (PromptFeatures::of(question), PromptFeatures::of(&shot));
        assert_eq!(led.get("shots"), Some(4.0_f32.ln()));
        assert_eq!(led.get("reason"), alone.get("reason"));
        assert_eq!(led.get("log_chars"), alone.get("log_chars"));
        assert!(led.estimated_tokens() > alone.estimated_tokens());
    }

    #[test]
    fn examples_are_told_by_the_mark_that_the_prompt_ends_with() {
        let inline = "Pick.\n\nThe _ ran.\nA) cat\nB) box\nOnly a letter. Answer:\nA\n\n";
        let last = "The _ was full.\nA) cat\nB) box\nOnly a letter. Answer:";
        assert_eq!(focus(&(inline.repeat(4) + last)), last);
        assert_eq!(focus("Q: 2 + 2?\nA: 4\n\nQ: 3 + 3?\nA: 6\n\nQ: Why?\nA:\n"), "Q: Why?\nA:\n");
        for whole in [
            "Check these.\n\nQ: 2 + 2?\nA: 4\n\nQ: 3 + 3?\nA: 6",
            "Name a river. Answer:",
            "Question: Why?\nAnswer: so.\nQuestion: How?\nAnswer:",
            "PANDA: one\n\nPANDA:",
            "",
        ] {
            assert_eq!(focus(whole), whole);
        }
    }

    #[test]
    fn marks_around_a_question_are_no_part_of_it() {
        let framed = PromptFeatures::of("Question: Why is the sky blue?\nAnswer:");
        let bare = PromptFeatures::of("Why is the sky blue?");
        assert!(PromptFeatures::names().all(|name| framed.get(name) == bare.get(name)));
        let pick = PromptFeatures::of("The _ ran.\nA) cat\nB) box\nAnswer:");
        assert_eq!(pick.get("asks_choice"), Some(1.0));
        let alone = PromptFeatures::of("\nAnswer:");
        assert_eq!(alone.get("log_words"), Some(2.0_f32.ln()));
    }

    #[test]
    fn long_prompts_are_read_at_both_ends() {
        let mut text = "Translate the text. ".to_owned() + &"word ".repeat(20_000);
        text.push_str("Then prove the theorem.");
        let read = PromptFeatures::of(&text);
        assert!(read.get("transform") > Some(0.0) && read.get("maths") > Some(0.0));
        assert!((read.estimated_tokens() / 25_010.0 - 1.0).abs() < 0.1, "{}", read.estimated_tokens());
    }

    proptest! {
        #[test]
        fn any_text_gives_finite_features(text in "\\PC{0,300}|[\\x00-\\x7f]{0,5000}") {
            let read = PromptFeatures::of(&text);
            prop_assert!(read.values().iter().all(|value| value.is_finite()));
            prop_assert!(read.estimated_tokens().is_finite());
        }

        #[test]
        fn the_focus_is_the_end_of_the_text(parts in prop::collection::vec(
            prop_oneof![
                prop::sample::select(ANSWER_MARKS.to_vec()).prop_map(str::to_owned),
                "[ \n]{1,2}",
                "\\PC{0,8}",
            ],
            0..30,
        )) {
            let text = parts.concat();
            let (shots, focus) = split_shots(&text);
            prop_assert!(text.ends_with(focus));
            prop_assert_eq!(shots == 0, focus.len() == text.len());
            let (question, framed) = unframed(focus);
            prop_assert!(focus.contains(question));
            prop_assert!(framed || question == focus);
        }
    }
}
