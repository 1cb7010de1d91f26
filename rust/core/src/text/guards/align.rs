//! Which content words of two texts meet, and which stand on one side only.

use super::tokens::{Analysis, Kind, Token};

/// Beyond this many unmatched words on a side the costlier comparisons of words are left out.
const MANY: usize = 24;

/// Two texts side by side. Indices are into the tokens of each.
#[derive(Debug)]
pub struct Alignment<'p, 'a, 'b> {
    pub(crate) a: &'p Analysis<'a>,
    pub(crate) b: &'p Analysis<'b>,
    /// Pairs of tokens with one key, in the order of `a`.
    pub(crate) matched: Vec<(usize, usize)>,
    /// Content of `a` that `b` lacks.
    pub(crate) only_a: Vec<usize>,
    /// Content of `b` that `a` lacks.
    pub(crate) only_b: Vec<usize>,
    /// Function words with an opposite ("on", "in", "can") that the other text lacks.
    pub(crate) function_a: Vec<usize>,
    /// The same of `b`.
    pub(crate) function_b: Vec<usize>,
}

/// Words that set a direction: matched too, so that what stands on which side of them can be compared.
pub(super) const CONNECTORS: [&str; 12] =
    ["from", "to", "into", "than", "by", "vs", "in", "on", "for", "of", "with", "as"];

fn counts(token: &Token) -> bool {
    !token.stop && token.kind != Kind::Number && !token.entry.is_some_and(|entry| entry.negator)
}

fn sorted<'p>(analysis: &'p Analysis<'_>, keep: impl Fn(&Token) -> bool) -> Vec<(&'p str, usize)> {
    let mut keys: Vec<_> = analysis
        .tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| keep(token))
        .map(|(place, token)| (analysis.key(token), place))
        .collect();
    keys.sort_unstable();
    keys
}

impl<'p, 'a, 'b> Alignment<'p, 'a, 'b> {
    /// Aligns two texts by the keys of their tokens, each token used once.
    pub fn new(a: &'p Analysis<'a>, b: &'p Analysis<'b>) -> Self {
        let keep =
            |token: &Token| counts(token) || token.stop && token.entry.is_some_and(|entry| !entry.sides.is_empty());
        let (left, right) = (sorted(a, keep), sorted(b, keep));
        let mut alignment = Self {
            a,
            b,
            matched: Vec::with_capacity(left.len()),
            only_a: Vec::new(),
            only_b: Vec::new(),
            function_a: Vec::new(),
            function_b: Vec::new(),
        };
        let (mut i, mut j) = (0, 0);
        while i < left.len() || j < right.len() {
            let order = match (left.get(i), right.get(j)) {
                (Some((x, _)), Some((y, _))) => x.cmp(y),
                (Some(_), None) => std::cmp::Ordering::Less,
                _ => std::cmp::Ordering::Greater,
            };
            match order {
                std::cmp::Ordering::Equal => {
                    alignment.matched.push((left[i].1, right[j].1));
                    i += 1;
                    j += 1;
                }
                std::cmp::Ordering::Less => {
                    let place = left[i].1;
                    if a.tokens[place].stop { &mut alignment.function_a } else { &mut alignment.only_a }.push(place);
                    i += 1;
                }
                std::cmp::Ordering::Greater => {
                    let place = right[j].1;
                    if b.tokens[place].stop { &mut alignment.function_b } else { &mut alignment.only_b }.push(place);
                    j += 1;
                }
            }
        }
        alignment.matched.sort_unstable();
        alignment.only_a.sort_unstable();
        alignment.only_b.sort_unstable();
        if alignment.only_a.len() <= MANY && alignment.only_b.len() <= MANY {
            alignment.join_compounds();
            alignment.forgive_typing();
        }
        alignment
    }

    /// "sign in" is "signin", "e-mail" is "email". Both sides are looked at before either is changed, so that it does not
    /// matter which text comes first.
    fn join_compounds(&mut self) {
        let (a, b) = (self.a, self.b);
        let (mut gone_a, mut gone_b) = (Vec::new(), Vec::new());
        compounds(a, &self.only_a, b, &self.only_b, &mut gone_a, &mut gone_b);
        compounds(b, &self.only_b, a, &self.only_a, &mut gone_b, &mut gone_a);
        self.only_a.retain(|place| !gone_a.contains(place));
        self.only_b.retain(|place| !gone_b.contains(place));
    }

    /// One slip of the keyboard in a long word of no table, its first letter intact: where it is clear which word was meant.
    fn forgive_typing(&mut self) {
        let (a, b) = (self.a, self.b);
        let plain = |analysis: &Analysis<'_>, place: usize| {
            let token = &analysis.tokens[place];
            token.kind == Kind::Word && token.entry.is_none() && analysis.key(token).len() >= 6
        };
        let slip = |i: usize, j: usize| {
            plain(a, i) && plain(b, j) && one_slip(a.key(&a.tokens[i]).as_bytes(), b.key(&b.tokens[j]).as_bytes())
        };
        let clear: Vec<(usize, usize)> = self
            .only_a
            .iter()
            .filter_map(|&i| Some((i, only(self.only_b.iter().copied().filter(|&j| slip(i, j)))?)))
            .filter(|&(_, j)| only(self.only_a.iter().filter(|&&i| slip(i, j))).is_some())
            .collect();
        self.only_a.retain(|place| clear.iter().all(|(i, _)| i != place));
        self.only_b.retain(|place| clear.iter().all(|(_, j)| j != place));
        self.matched.extend(clear);
        self.matched.sort_unstable();
    }
}

/// The one item, if there is just one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

/// Finds words of `one` that are two neighbours of `other` written together, and those neighbours. A literal is compared
/// as it is written.
fn compounds(
    one: &Analysis<'_>,
    only_one: &[usize],
    other: &Analysis<'_>,
    only_other: &[usize],
    gone_one: &mut Vec<usize>,
    gone_other: &mut Vec<usize>,
) {
    for &i in only_one.iter().filter(|&&i| one.tokens[i].kind != Kind::Literal) {
        let key = one.key(&one.tokens[i]);
        let spots = only_other.iter().flat_map(|&j| [j.checked_sub(1).map(|before| (before, j)), Some((j, j + 1))]);
        let hit = spots.flatten().find(|&(first, second)| {
            other
                .tokens
                .get(second)
                .is_some_and(|second| key.strip_prefix(other.key(&other.tokens[first])) == Some(other.key(second)))
        });
        if let Some((first, second)) = hit {
            gone_one.push(i);
            gone_other.extend([first, second]);
        }
    }
}

/// Whether one insertion, deletion, substitution or swap of neighbours after the first letter turns `a` into `b`.
fn one_slip(a: &[u8], b: &[u8]) -> bool {
    if a.first() != b.first() || a.len().abs_diff(b.len()) > 1 || !a.is_ascii() || !b.is_ascii() {
        return false;
    }
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let end = a[start..].iter().rev().zip(b[start..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (left, right) = (&a[start..a.len() - end], &b[start..b.len() - end]);
    match (left, right) {
        ([] | [_], [_] | []) => true,
        ([x, y], [u, v]) => x == v && y == u,
        _ => false,
    }
}
