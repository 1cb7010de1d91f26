//! A text taken apart once: words with their stems, numbers, code and other literals, quotations.
//!
//! One pass over the characters, then one over the tokens; every look-ahead is bounded, so time is
//! linear in the length of the text.

use super::lexicon::{Entry, lexicon};
use super::numbers::{self, Number};
use super::stem::stem_into;
use std::ops::Range;

/// Longest quotation that is looked at, in bytes; what is longer is running text.
const MAX_QUOTE: usize = 200;
/// Verbs that with "on" and "off" mean enable and disable.
const SWITCHES: [&str; 4] = ["turn", "switch", "toggl", "power"];
/// Longest chunk that is looked at as a URL, path or identifier; a longer one is cut there.
const MAX_LITERAL: usize = 256;
/// Endings that make "name.ending" a file, a module or a domain rather than two sentences.
const EXTENSIONS: [&str; 60] = [
    "py", "js", "ts", "jsx", "tsx", "rs", "go", "java", "c", "cpp", "h", "hpp", "cs", "rb", "php", "html", "css",
    "json", "xml", "yaml", "yml", "toml", "md", "txt", "csv", "pdf", "doc", "docx", "xls", "xlsx", "png", "jpg", "gif",
    "svg", "exe", "dll", "so", "sh", "bat", "sql", "log", "ini", "cfg", "conf", "zip", "tar", "gz", "env", "lock",
    "com", "org", "net", "io", "ai", "dev", "app", "gov", "edu", "ipynb", "apk",
];

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    /// A number in digits; its value stands in [`Analysis::numbers`].
    Number,
    /// Code, an identifier, a URL, an address, a path, an operator between operands: compared as written.
    Literal,
    /// One ideograph or kana: scripts without spaces are compared by characters.
    Ideograph,
}

/// One token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    /// Where it stands in the text, in bytes.
    pub(crate) span: Range<usize>,
    key: Range<usize>,
    pub(crate) kind: Kind,
    /// Starts with a capital letter.
    pub(crate) capital: bool,
    /// First of a sentence, where a capital says nothing.
    pub(crate) initial: bool,
    /// A function word.
    pub(crate) stop: bool,
    /// Number of its closed class, 0 for none.
    pub(crate) class: u8,
    /// Its entry in the word tables.
    pub(crate) entry: Option<&'static Entry>,
}

/// A text taken apart.
#[derive(Debug, Clone)]
pub struct Analysis<'a> {
    pub(crate) text: &'a str,
    keys: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) numbers: Vec<Number>,
    /// Quotations without their marks.
    pub(crate) quotes: Vec<Range<usize>>,
    /// The sentence ends with a question mark.
    pub(crate) asks: bool,
}

impl<'a> Analysis<'a> {
    /// Takes `text` apart.
    pub fn new(text: &'a str) -> Self {
        let mut analysis = Self {
            text,
            keys: String::with_capacity(text.len() + 8),
            tokens: Vec::with_capacity(text.len() / 5 + 2),
            numbers: Vec::new(),
            quotes: Vec::new(),
            asks: text.trim_end().ends_with(['?', '\u{ff1f}', '\u{61f}']),
        };
        Scanner { analysis: &mut analysis, text, position: 0, initial: true, unclosed_tick: false }.run();
        numbers::finish(&mut analysis);
        analysis.join_particles();
        analysis
    }

    /// What two tokens must have in common to be the same word.
    pub(crate) fn key(&self, token: &Token) -> &str {
        &self.keys[token.key.clone()]
    }

    /// What `bucket` says of each content word, each once.
    pub fn buckets(&self, bucket: impl Fn(&str) -> usize) -> Vec<usize> {
        let mut found: Vec<usize> =
            self.tokens.iter().filter(|token| !token.stop).map(|token| bucket(self.key(token))).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The token as written.
    pub(crate) fn written(&self, token: &Token) -> &'a str {
        &self.text[token.span.clone()]
    }

    fn push(&mut self, span: Range<usize>, kind: Kind, initial: bool) {
        let code = kind == Kind::Literal && self.text[..span.start].ends_with('`');
        let written = &self.text[span.clone()];
        let start = self.keys.len();
        let first = written.chars().next();
        let capital = first.is_some_and(char::is_uppercase);
        let mut token =
            Token { span: span.clone(), key: start..start, kind, capital, initial, stop: false, class: 0, entry: None };
        if kind == Kind::Word {
            let as_written = if capital { lexicon().as_written(written) } else { None };
            if let Some((class, name)) = as_written {
                self.keys.push_str(name);
                token.class = class;
            } else {
                stem_into(
                    &mut self.keys,
                    written.strip_suffix("'s").or(written.strip_suffix("\u{2019}s")).unwrap_or(written),
                );
                if let Some(entry) = lexicon().word(&self.keys[start..]) {
                    let member = entry.names_member(written);
                    if let Some(canonical) = entry.canonical.as_ref().filter(|_| member || entry.class == 0) {
                        self.keys.truncate(start);
                        self.keys.push_str(canonical);
                    }
                    token.stop = entry.stop;
                    token.class = if member { entry.class } else { 0 };
                    token.entry = Some(entry);
                }
            }
        } else if kind == Kind::Literal && code {
            self.keys.push_str(written);
        } else {
            self.keys.extend(written.trim_end_matches('/').chars().map(|c| c.to_ascii_lowercase()));
        }
        token.key = start..self.keys.len();
        self.tokens.push(token);
    }
}

struct Scanner<'t, 'a> {
    analysis: &'t mut Analysis<'a>,
    text: &'a str,
    position: usize,
    initial: bool,
    /// A back tick was seen that nothing closes: do not search again.
    unclosed_tick: bool,
}

impl Scanner<'_, '_> {
    fn run(&mut self) {
        while let Some(c) = self.peek() {
            let start = self.position;
            if c.is_whitespace() {
                self.position += c.len_utf8();
                self.initial |= c == '\n';
            } else if c == '`' && self.code_span() || self.chunk_literal() {
                self.initial = false;
            } else if numbers::starts(self.text, start) {
                self.number(start);
                self.initial = false;
            } else if is_ideograph(c) {
                self.position += c.len_utf8();
                self.analysis.push(start..self.position, Kind::Ideograph, false);
                self.initial = false;
            } else if c.is_alphanumeric() {
                self.word(start);
                self.initial = false;
            } else {
                self.quote(c, start);
                self.operator(c, start);
                self.position += c.len_utf8();
                self.initial |= matches!(c, '.' | '?' | '!' | ':' | ';' | '\u{3002}');
            }
        }
    }

    /// At most `length` bytes from `start`, so that no look-ahead depends on the length of the text.
    fn window(&self, start: usize, length: usize) -> &str {
        let mut end = self.text.len().min(start + length);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        &self.text[start..end]
    }

    fn peek(&self) -> Option<char> {
        self.text[self.position..].chars().next()
    }

    /// "`...`" is code.
    fn code_span(&mut self) -> bool {
        if self.unclosed_tick {
            return false;
        }
        let rest = &self.text[self.position..];
        let ticks = rest.len() - rest.trim_start_matches('`').len();
        let fence = &rest[..ticks];
        let Some(length) = rest[ticks..].find(fence) else {
            self.unclosed_tick = true;
            return false;
        };
        let start = self.position + ticks;
        self.position = start + length + ticks;
        if length > 0 {
            self.analysis.push(start..start + length, Kind::Literal, false);
        }
        true
    }

    /// A run without white space that is to be compared as written: URL, address, path, identifier.
    fn chunk_literal(&mut self) -> bool {
        let start = self.position;
        let before = self.text[..start].chars().next_back();
        if before
            .is_some_and(|c| !c.is_whitespace() && !matches!(c, '(' | '[' | '{' | '"' | '\'' | '<' | '\u{201c}' | ','))
        {
            return false; // only at the start of a chunk, so that each is looked at once
        }
        let rest = self.window(start, MAX_LITERAL);
        if !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '~' | '-' | '_')) {
            return false;
        }
        let chunk = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
        let chunk = chunk.trim_end_matches(['.', ',', ';', ':', '?', '!', ')', ']', '}', '"', '\'', '>', '\u{201d}']);
        if !is_literal(chunk) {
            return false;
        }
        self.position = start + chunk.len();
        self.analysis.push(start..self.position, Kind::Literal, false);
        true
    }

    fn number(&mut self, start: usize) {
        let (end, value) = numbers::read(self.text, start);
        self.position = end;
        let Some(value) = value else {
            self.analysis.push(start..end, Kind::Literal, false); // "6s", "4x4": an identifier
            return;
        };
        let token = self.analysis.tokens.len();
        self.analysis.push(start..value.digits_end, Kind::Number, false);
        self.analysis.numbers.push(Number { token, ..value.number });
    }

    fn word(&mut self, start: usize) {
        let rest = &self.text[start..];
        let mut end = rest.len();
        let mut previous = ' ';
        for (place, c) in rest.char_indices() {
            let apostrophe = matches!(c, '\'' | '\u{2019}')
                && rest[place + c.len_utf8()..].chars().next().is_some_and(char::is_alphabetic);
            let digit_after_letters = c.is_ascii_digit() && place >= 3 && previous.is_alphabetic();
            if !(c.is_alphanumeric() || apostrophe || is_mark(c)) || is_ideograph(c) || digit_after_letters {
                end = place;
                break;
            }
            previous = c;
        }
        let word = &rest[..end];
        let tail = &rest[end..];
        let (name, extra) = match word {
            "C" | "c" if tail.starts_with("++") => (Some("cpp"), 2),
            "C" | "c" if tail.starts_with('#') => (Some("csharp"), 1),
            "F" | "f" if tail.starts_with('#') => (Some("fsharp"), 1),
            "U" if tail.starts_with(".S") => (Some("US"), 2 + 2 * usize::from(tail.starts_with(".S.A"))),
            _ => (None, 0),
        };
        let kind = if word.bytes().any(|byte| byte.is_ascii_digit()) { Kind::Literal } else { Kind::Word };
        self.position = start + end + extra;
        self.analysis.push(start..start + end, kind, self.initial);
        if let Some(name) = name {
            self.analysis.rename(start..self.position, name);
        }
    }

    /// Remembers a quotation that starts here.
    fn quote(&mut self, c: char, start: usize) {
        let close = match c {
            '"' => '"',
            '\u{201c}' => '\u{201d}',
            '\u{ab}' => '\u{bb}',
            '\'' | '\u{2018}' => {
                let before = self.text[..start].chars().next_back();
                if before.is_some_and(|b| !b.is_whitespace()) {
                    return;
                }
                if c == '\'' { '\'' } else { '\u{2019}' }
            }
            _ => return,
        };
        if self.analysis.quotes.last().is_some_and(|last| start <= last.end) {
            return; // this mark closes the one before
        }
        let inside = start + c.len_utf8();
        let window = self.window(inside, MAX_QUOTE);
        let end = window.char_indices().find(|(place, found)| {
            *found == close && (close != '\'' || !window[place + 1..].chars().next().is_some_and(char::is_alphanumeric))
        });
        if let Some((length, _)) = end
            && !window[..length].trim().is_empty()
        {
            self.analysis.quotes.push(inside..inside + length);
        }
    }

    /// An arithmetic or comparison operator between operands: "5 - 3", "a <= b".
    fn operator(&mut self, c: char, start: usize) {
        if !matches!(c, '+' | '-' | '*' | '/' | '=' | '<' | '>' | '^' | '%' | '\u{d7}' | '\u{f7}' | '\u{2212}') {
            return;
        }
        let operand = |token: &Token| token.kind == Kind::Number || token.span.len() == 1;
        let after = self.text[start + c.len_utf8()..].chars().take(3).find(|next| !matches!(next, ' ' | '='));
        let binary = matches!(c, '=' | '<' | '>' | '^')
            || after.is_some_and(|next| next.is_ascii_digit() || next == '(')
                && self.analysis.tokens.last().is_some_and(operand);
        if binary && !(c == '-' && self.text[start..].starts_with("->")) {
            self.analysis.push(start..start + c.len_utf8(), Kind::Literal, false);
        }
    }
}

impl Analysis<'_> {
    /// "turn it off" is "disable it", so that it meets "disable", and its opposite.
    fn join_particles(&mut self) {
        for place in 0..self.tokens.len() {
            if self.tokens[place].kind != Kind::Word || !SWITCHES.contains(&self.key(&self.tokens[place])) {
                continue;
            }
            let reach = (place + 1)..self.tokens.len().min(place + 5);
            let found = reach.into_iter().find_map(|other| match self.key(&self.tokens[other]) {
                "on" => Some((other, "enabl")),
                "off" => Some((other, "disabl")),
                _ => None,
            });
            let Some((particle, meaning)) = found else { continue };
            let start = self.keys.len();
            self.keys.push_str(meaning);
            let token = &mut self.tokens[place];
            token.key = start..start + meaning.len();
            token.entry = lexicon().word(meaning);
            let particle = &mut self.tokens[particle];
            particle.stop = true;
            particle.entry = None;
        }
    }

    /// Gives the last token another span and key.
    fn rename(&mut self, span: Range<usize>, name: &str) {
        let Some(token) = self.tokens.last_mut() else { return };
        self.keys.truncate(token.key.start);
        if let Some((class, canonical)) = lexicon().as_written(name) {
            token.class = class;
            self.keys.push_str(canonical);
        } else {
            stem_into(&mut self.keys, name);
            token.entry = lexicon().word(&self.keys[token.key.start..]);
            token.class = token.entry.map_or(0, |entry| entry.class);
        }
        token.kind = Kind::Word;
        token.stop = false;
        token.span = span;
        token.key.end = self.keys.len();
    }
}

/// Han, kana and hangul syllables are compared one by one.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Combining marks belong to the letter before them.
fn is_mark(c: char) -> bool {
    !c.is_ascii() && unicode_normalization::char::is_combining_mark(c)
}

/// Whether a chunk is to be compared as written.
fn is_literal(chunk: &str) -> bool {
    let bytes = chunk.as_bytes();
    if bytes.len() < 2 {
        return false;
    }
    let has = |needle: &str| chunk.contains(needle);
    if has("://") || chunk.starts_with("www.") || has("::") || has("()") || has("->") && bytes.len() > 2 {
        return true;
    }
    if has("@") && chunk.rsplit('@').next().is_some_and(|domain| domain.contains('.')) {
        return true;
    }
    if chunk.starts_with("--") && bytes.get(2).is_some_and(u8::is_ascii_alphanumeric) {
        return true;
    }
    let path =
        chunk.starts_with('/') || chunk.starts_with("./") || chunk.starts_with("~/") || chunk.matches('/').count() >= 3;
    if (path || has("\\")) && bytes.iter().any(u8::is_ascii_alphabetic) {
        return true;
    }
    let inner = |separator: u8| {
        bytes.windows(3).any(|w| w[1] == separator && w[0].is_ascii_alphanumeric() && w[2].is_ascii_alphanumeric())
    };
    if inner(b'_') || chunk.starts_with('_') && bytes.iter().any(u8::is_ascii_alphabetic) {
        return true;
    }
    is_file_name(chunk) || is_camel(chunk)
}

/// "main.py", "np.array": a name, a dot and an ending that programs use.
fn is_file_name(chunk: &str) -> bool {
    let Some((stem, extension)) = chunk.rsplit_once('.') else { return false };
    stem.len() >= 2
        && !stem.contains('.')
        && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && stem.bytes().any(|b| b.is_ascii_alphabetic())
        && EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// "getUserName": a lower-case start and a capital inside, but not a brand such as "iPhone" or "eBay".
fn is_camel(chunk: &str) -> bool {
    let bytes = chunk.as_bytes();
    bytes.len() > 6
        && bytes.iter().all(u8::is_ascii_alphanumeric)
        && bytes[..2].iter().all(u8::is_ascii_lowercase)
        && bytes.iter().skip(2).any(u8::is_ascii_uppercase)
        && bytes.windows(2).any(|w| w[0].is_ascii_uppercase() && w[1].is_ascii_lowercase())
}
