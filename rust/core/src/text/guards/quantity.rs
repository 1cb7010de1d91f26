//! The number guard: both texts must speak of the same quantities.

use super::align::Alignment;
use super::numbers::{Number, Value};
use super::tokens::Analysis;
use super::{Guard, Reason, reason};

/// Up to this many numbers a side, units are converted; beyond it values are compared as they are.
const FEW: usize = 32;

/// Numbers of `a` and `b` that find no equal on the other side.
pub(crate) fn unmatched(a: &Analysis<'_>, b: &Analysis<'_>) -> (Vec<usize>, Vec<usize>) {
    if a.numbers.len() <= FEW && b.numbers.len() <= FEW {
        let mut rest: Vec<usize> = (0..b.numbers.len()).collect();
        let mut alone = Vec::new();
        for (i, number) in a.numbers.iter().enumerate() {
            match rest.iter().position(|&j| equal(number, &b.numbers[j])) {
                Some(place) => {
                    rest.remove(place);
                }
                None => alone.push(i),
            }
        }
        return (alone, rest);
    }
    let sorted = |numbers: &[Number]| {
        let mut keys: Vec<(String, usize)> =
            numbers.iter().enumerate().map(|(place, number)| (format!("{:?}", number.value), place)).collect();
        keys.sort_unstable();
        keys
    };
    let (left, right) = (sorted(&a.numbers), sorted(&b.numbers));
    let (mut i, mut j, mut alone, mut rest) = (0, 0, Vec::new(), Vec::new());
    while i < left.len() || j < right.len() {
        match (left.get(i), right.get(j)) {
            (Some((x, _)), Some((y, _))) if x == y => (i, j) = (i + 1, j + 1),
            (Some((x, place)), other) if other.is_none_or(|(y, _)| x < y) => {
                alone.push(*place);
                i += 1;
            }
            (_, Some((_, place))) => {
                rest.push(*place);
                j += 1;
            }
            (Some(_) | None, None) => break,
        }
    }
    (alone, rest)
}

fn equal(a: &Number, b: &Number) -> bool {
    match (&a.value, &b.value) {
        (Value::Real(x), Value::Real(y)) => match (a.unit, b.unit) {
            (Some(u), Some(v)) => u.dimension == v.dimension && close(x * u.factor, y * v.factor),
            _ => close(*x, *y),
        },
        (Value::Text(x), Value::Text(y)) => x == y,
        (Value::Time(x), Value::Time(y)) => x == y,
        (Value::Text(text), Value::Real(number)) | (Value::Real(number), Value::Text(text)) => {
            text.parse().is_ok_and(|value: f64| close(value, *number)) && !text.ends_with('0')
        }
        _ => false,
    }
}

fn close(x: f64, y: f64) -> bool {
    (x - y).abs() <= 1e-9 * x.abs().max(y.abs())
}

/// "1" before a unit is what "a" says as well.
fn weak(number: &Number) -> bool {
    number.weak || number.unit.is_some() && number.value == Value::Real(1.0)
}

pub(super) fn judge(pair: &Alignment<'_, '_, '_>) -> Option<Reason> {
    if pair.a.numbers.is_empty() && pair.b.numbers.is_empty() {
        return None;
    }
    let (a, b) = unmatched(pair.a, pair.b);
    let strong =
        |analysis: &Analysis<'_>, places: &[usize]| places.iter().any(|&place| !weak(&analysis.numbers[place]));
    let differ = !a.is_empty() && !b.is_empty() || strong(pair.a, &a) || strong(pair.b, &b);
    let piece = |analysis: &Analysis<'_>, places: &[usize]| {
        let place = places.iter().copied().find(|&place| !weak(&analysis.numbers[place])).or(places.first().copied());
        place.map_or(String::new(), |place| {
            let token = analysis.numbers[place].token;
            let end = analysis.tokens.get(token + 1).filter(|_| analysis.numbers[place].unit.is_some());
            let start = analysis.tokens[token].span.start;
            let own = analysis.tokens[token].span.end;
            let end = end.map_or(own, |next| if next.span.end - own <= 16 { next.span.end } else { own });
            analysis.text[start..end].to_owned()
        })
    };
    differ.then(|| reason(Guard::Number, &piece(pair.a, &a), &piece(pair.b, &b)))
}
