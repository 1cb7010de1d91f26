//! Numbers in digits and words: their values, with units, so that "1,000" is "1000" and "two" is "2".

use super::lexicon::{Unit, lexicon};
use super::tokens::{Analysis, Kind};

/// A number's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A quantity.
    Real(f64),
    /// Versions, dates, fractions, addresses: compared as written, without outer zeros being dropped.
    Text(Box<str>),
    /// Minutes after midnight.
    Time(u32),
}

/// A number of a text.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    /// Its token.
    pub(crate) token: usize,
    pub(crate) value: Value,
    pub(crate) unit: Option<Unit>,
    /// "one", "a week", "first": says nothing alone, but differs from another number.
    pub(crate) weak: bool,
}

/// A number as read from its digits.
pub(super) struct Read {
    pub(super) number: Number,
    /// Where the digits with what belongs to them end.
    pub(super) digits_end: usize,
}

/// Units that may stand before their number: "Rs. 500", "USD 20".
const CURRENCIES: [&str; 5] = ["usd", "eur", "gbp", "inr", "jpy"];

/// Longest run of digits and separators that is read as one number.
const MAX_DIGITS: usize = 64;

/// Zeros of the decimal digits that are read besides ASCII: Arabic, Persian, Devanagari, Bengali, full width.
const ZEROS: [u32; 5] = [0x660, 0x6f0, 0x966, 0x9e6, 0xff10];

fn digit(c: char) -> Option<u8> {
    if c.is_ascii() {
        return c.is_ascii_digit().then(|| c as u8 - b'0');
    }
    ZEROS.iter().find_map(|zero| (u32::from(c)).checked_sub(*zero).filter(|value| *value < 10)).map(|value| value as u8)
}

/// Whether a number starts at `position`: a digit, or a sign or point before one that no operand precedes.
pub(super) fn starts(text: &str, position: usize) -> bool {
    let mut chars = text[position..].chars();
    match chars.next() {
        Some('-' | '.' | '+' | '\u{2212}') => {
            let before = text[..position].chars().next_back();
            let free = before.is_none_or(|c| matches!(c, '(' | '[' | '=' | ',' | ':') || c.is_whitespace());
            let operand = text[..position].trim_end().chars().next_back().is_some_and(|c| c.is_numeric() || c == ')');
            free && !operand && chars.next().and_then(digit).is_some()
        }
        Some(c) => digit(c).is_some(),
        None => false,
    }
}

/// Reads the number at `start`; no value when it is part of an identifier such as "6s".
pub(super) fn read(text: &str, start: usize) -> (usize, Option<Read>) {
    let rest = &text[start..];
    let negative = rest.starts_with(['-', '\u{2212}']);
    let sign = rest.chars().next().filter(|c| matches!(c, '-' | '+' | '\u{2212}')).map_or(0, char::len_utf8);
    let mut digits = String::new();
    let mut end = sign;
    let mut chars = rest[sign..].chars().peekable();
    while let Some(c) = chars.next().filter(|_| digits.len() < MAX_DIGITS) {
        let next = chars.peek().copied().and_then(digit);
        if let Some(value) = digit(c) {
            digits.push((b'0' + value) as char);
        } else if matches!(c, '.' | ',' | ':' | '/' | '-' | '\'' | '_') && next.is_some() {
            digits.push(c);
        } else {
            break;
        }
        end += c.len_utf8();
    }
    let (digits, end) = first_of_list(&digits, end);
    let Some(value) = value_of(digits, negative) else { return (start + end, None) };
    suffixed(text, start + end, value)
}

/// "10-20" and "1,2,3" are several numbers: keeps the first.
fn first_of_list(digits: &str, end: usize) -> (&str, usize) {
    let cut = |place: usize| (&digits[..place], end - (digits.len() - place));
    if let Some(place) = digits.find('-').filter(|_| !is_iso_date(digits)) {
        return cut(place);
    }
    if digits.contains(',')
        && !grouped(digits, ',')
        && !decimal_comma(digits)
        && let Some(place) = digits.find(',')
    {
        return cut(place);
    }
    (digits, end)
}

fn is_iso_date(digits: &str) -> bool {
    let parts: Vec<usize> = digits.split('-').map(str::len).collect();
    matches!(parts[..], [4, 1..=2, 1..=2] | [1..=2, 1..=2, 4])
}

/// Groups of three after the first: "1,000,000".
fn grouped(digits: &str, separator: char) -> bool {
    let whole = digits.split(if separator == ',' { '.' } else { ',' }).next().unwrap_or(digits);
    let mut groups = whole.split(separator);
    groups.next().is_some_and(|first| (1..=3).contains(&first.len()))
        && whole.contains(separator)
        && groups.all(|group| (2..=3).contains(&group.len())) // 2: lakhs and crores
        && whole.rsplit(separator).next().is_some_and(|last| last.len() == 3)
}

fn decimal_comma(digits: &str) -> bool {
    digits.matches(',').count() == 1
        && !digits.contains('.')
        && digits.rsplit(',').next().is_some_and(|tail| tail.len() <= 2)
}

fn value_of(digits: &str, negative: bool) -> Option<Value> {
    let real = |text: &str| text.parse::<f64>().ok().map(|value| Value::Real(if negative { -value } else { value }));
    if let Some((hours, minutes)) = digits.split_once(':') {
        return match (hours.parse::<u32>(), minutes.parse::<u32>()) {
            (Ok(hours), Ok(minutes)) if hours < 24 && minutes < 60 && minutes.to_string().len() <= 2 => {
                Some(Value::Time(hours * 60 + minutes))
            }
            _ => Some(Value::Text(digits.into())),
        };
    }
    if digits.contains(['/', '-']) {
        let parts: Vec<&str> = digits.split(['/', '-']).map(|part| part.trim_start_matches('0')).collect();
        return Some(Value::Text(parts.join("/").into()));
    }
    let plain: String = digits.chars().filter(|c| !matches!(c, '\'' | '_')).collect();
    if plain.contains(',') {
        return if decimal_comma(&plain) { real(&plain.replace(',', ".")) } else { real(&plain.replace(',', "")) };
    }
    if plain.matches('.').count() >= 2 {
        return if grouped(&plain, '.') && plain.split('.').skip(1).all(|group| group.len() == 3) && plain.len() > 7 {
            real(&plain.replace('.', ""))
        } else {
            Some(Value::Text(plain.into()))
        };
    }
    real(&plain)
}

/// What letters stuck to a number make of it: "5km", "10k", "3rd", "1990s", "3pm"; otherwise an identifier.
fn suffixed(text: &str, end: usize, value: Value) -> (usize, Option<Read>) {
    let rest = &text[end..];
    let letters = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
    let suffix = &rest[..letters];
    let done = |value: Value, unit, length: usize, weak| {
        let number = Number { token: 0, value, unit, weak };
        (end + length, Some(Read { number, digits_end: end + length }))
    };
    if suffix.is_empty() {
        let sign = rest.chars().next().filter(|c| matches!(c, '%' | '\u{20ac}' | '\u{a3}' | '\u{20b9}' | '\u{a5}'));
        let unit = sign.and_then(|c| lexicon().unit(c.encode_utf8(&mut [0; 4])));
        return done(value, unit, sign.filter(|_| unit.is_some()).map_or(0, char::len_utf8), false);
    }
    if suffix.len() > 12 {
        return if suffix.is_ascii() { (end + letters, None) } else { done(value, None, 0, false) };
    }
    let lower = suffix.to_lowercase();
    let scale = match lower.as_str() {
        "k" => 1e3,
        "m" | "mn" | "mio" => 1e6,
        "b" | "bn" => 1e9,
        _ => 0.0,
    };
    match (&value, lower.as_str()) {
        (_, "s" | "th" | "st" | "nd" | "rd") => {
            let plural_year =
                matches!(&value, Value::Real(year) if lower == "s" && (*year % 10.0 != 0.0 || *year < 10.0));
            if plural_year { (end + letters, None) } else { done(value, None, letters, false) }
        }
        (_, "am" | "pm") => done(on_clock(value, lower == "pm"), None, letters, false),
        (Value::Real(number), _) if scale > 0.0 => done(Value::Real(number * scale), None, letters, false),
        _ => match lexicon().unit(&lower) {
            Some(unit) => done(value, Some(unit), letters, false),
            None if suffix.is_ascii() => (end + letters, None),
            None => done(value, None, 0, false), // a script that puts its words next to digits
        },
    }
}

fn on_clock(value: Value, afternoon: bool) -> Value {
    let shift = |minutes: u32| minutes % 720 + if afternoon { 720 } else { 0 };
    match value {
        Value::Real(hours) if (1.0..=12.0).contains(&hours) && hours.fract() == 0.0 => {
            Value::Time(shift(hours as u32 * 60))
        }
        Value::Time(minutes) => Value::Time(shift(minutes)),
        other => other,
    }
}

/// The second pass: units and signs around numbers, numbers in words, versions.
pub(super) fn finish(analysis: &mut Analysis<'_>) {
    let mut numbers = std::mem::take(&mut analysis.numbers);
    for number in &mut numbers {
        complete(analysis, number);
    }
    let digits = numbers.len();
    in_words(analysis, &mut numbers);
    if numbers.len() > digits {
        numbers.sort_by_key(|number| number.token);
    }
    analysis.numbers = numbers;
}

fn complete(analysis: &mut Analysis<'_>, number: &mut Number) {
    let span = analysis.tokens[number.token].span.clone();
    let before = analysis.text[..span.start].trim_end().chars().next_back();
    if let Some(sign @ ('$' | '\u{20ac}' | '\u{a3}' | '\u{20b9}' | '\u{a5}')) = before {
        number.unit = lexicon().unit(sign.encode_utf8(&mut [0; 4]));
    }
    if let Some(place) = number.token.checked_sub(1).filter(|_| number.unit.is_none())
        && let Some(unit) = unit_at(analysis, place).filter(|unit| CURRENCIES.contains(&unit.dimension))
    {
        number.unit = Some(unit);
        analysis.tokens[place].stop = true;
    }
    let next = number.token + 1;
    if let Some(scale) =
        analysis.tokens.get(next).filter(|t| t.kind == Kind::Word).and_then(|t| scale(analysis.written(t)))
        && let Value::Real(value) = &mut number.value
    {
        *value *= scale;
        analysis.tokens[next].stop = true;
    }
    let place = if analysis.tokens.get(next).is_some_and(|token| token.stop) { next + 1 } else { next };
    for place in [next, place] {
        if number.unit.is_none() {
            number.unit = unit_at(analysis, place);
            if number.unit.is_some() {
                analysis.tokens[place].stop = true; // it belongs to the number now
            }
        }
    }
    let clock = analysis.tokens.get(next).map(|token| analysis.written(token).to_ascii_lowercase());
    if let Some("am" | "pm") = clock.as_deref() {
        number.value = on_clock(number.value.clone(), clock.as_deref() == Some("pm"));
        analysis.tokens[next].stop = true;
    }
    // "Python 3.10" is not "Python 3.1": after a name or the word "version" a decimal is a version.
    let previous = number.token.checked_sub(1).map(|place| &analysis.tokens[place]);
    let after_name = previous.is_some_and(|token| {
        let word = analysis.written(token);
        token.kind == Kind::Word
            && (token.capital && !token.initial
                || token.class > 0
                || ["version", "v", "release"].iter().any(|w| word.eq_ignore_ascii_case(w)))
    });
    let written = &analysis.text[span];
    if number.unit.is_none()
        && after_name
        && written.contains('.')
        && let Value::Real(_) = number.value
    {
        number.value = Value::Text(written.into());
    }
}

fn unit_at(analysis: &Analysis<'_>, place: usize) -> Option<Unit> {
    let token = analysis.tokens.get(place).filter(|token| token.kind == Kind::Word)?;
    let written = analysis.written(token);
    if written.len() > 16 || written == "a" {
        return None;
    }
    lexicon().unit(&written.to_lowercase())
}

fn scale(word: &str) -> Option<f64> {
    Some(match word.to_ascii_lowercase().as_str() {
        "hundred" => 1e2,
        "thousand" => 1e3,
        "lakh" | "lakhs" | "lac" => 1e5,
        "million" | "millions" | "mn" => 1e6,
        "crore" | "crores" => 1e7,
        "billion" | "billions" | "bn" => 1e9,
        "trillion" => 1e12,
        "dozen" => 12.0,
        _ => return None,
    })
}

/// Value of a number word, and whether it is an ordinal.
fn cardinal(word: &str) -> Option<(f64, bool)> {
    const UNITS: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    const ORDINALS: [&str; 10] =
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];
    if !(3..=9).contains(&word.len()) || !word.is_ascii() {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let find = |table: &[&str]| table.iter().position(|name| *name == word).map(|place| place as f64);
    find(&UNITS)
        .map(|value| (value, false))
        .or_else(|| find(&TENS).map(|value| (20.0 + 10.0 * value, false)))
        .or_else(|| find(&ORDINALS).map(|value| (value + 1.0, true)))
}

fn in_words(analysis: &mut Analysis<'_>, numbers: &mut Vec<Number>) {
    let mut place = 0;
    while place < analysis.tokens.len() {
        let first = place;
        place += 1;
        if analysis.tokens[first].kind != Kind::Word {
            continue;
        }
        let word = analysis.written(&analysis.tokens[first]);
        let Some((mut total, ordinal)) = cardinal(word) else { continue };
        let mut plain_one = total <= 1.0;
        while let Some(token) = analysis.tokens.get(place).filter(|token| token.kind == Kind::Word) {
            let next = analysis.written(token);
            if let Some(factor) = scale(next) {
                total *= factor;
            } else if let Some((units, false)) = cardinal(next).filter(|(u, _)| total >= 20.0 && *u < 10.0 && *u > 0.0)
            {
                total += units;
            } else {
                break;
            }
            plain_one = false;
            analysis.tokens[place].stop = true;
            place += 1;
        }
        let unit = unit_at(analysis, place);
        analysis.tokens[first].stop = true;
        let weak = ordinal || plain_one;
        numbers.push(Number { token: first, value: Value::Real(total), unit, weak });
    }
}
