//! An entry as bytes on the disk, and back. Integers are little-endian, variable parts have their length in front.

use super::clock::Millis;
use super::entry::{Entry, Meta};
use super::payload::{Form, Payload};
use super::space::Space;
use crate::text::canonical::{Fingerprint, ScopeId};

/// First byte of every record. A reader that meets another one leaves the record alone.
const FORMAT: u8 = 1;

/// What a record says of an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) fingerprint: Fingerprint,
    pub(super) scope: ScopeId,
    pub(super) caller: ScopeId,
    pub(super) label: Option<String>,
    pub(super) text: Option<String>,
    pub(super) payload: Payload,
    pub(super) meta: Meta,
    pub(super) created: Millis,
    pub(super) expires: Millis,
    pub(super) vector: Option<(Space, Vec<f32>)>,
}

/// The bytes of `entry` with its vector.
pub(super) fn encode(entry: &Entry, vector: Option<(Space, &[f32])>) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(160 + entry.payload.nbytes() + vector.map_or(0, |(_, v)| v.len() * 4)));
    out.0.push(FORMAT);
    out.0.extend_from_slice(&entry.fingerprint.0);
    out.0.extend_from_slice(&entry.scope.0);
    out.0.extend_from_slice(&entry.tenant.id.0);
    out.0.extend_from_slice(&entry.created.to_le_bytes());
    out.0.extend_from_slice(&entry.expires.to_le_bytes());
    out.optional(entry.tenant());
    out.optional(entry.text());
    out.0.push(match entry.payload.form() {
        Form::Text => 0,
        Form::Bytes => 1,
        Form::Json => 2,
    });
    out.bytes(&entry.payload.data());
    out.length(entry.meta.tags.len());
    for tag in &entry.meta.tags {
        out.bytes(tag.as_bytes());
    }
    out.0.extend_from_slice(&entry.meta.cost.unwrap_or(f64::NAN).to_le_bytes());
    out.optional(entry.meta.model.as_deref());
    let (prompt, answer) = entry.meta.tokens.unwrap_or((u32::MAX, u32::MAX));
    out.0.extend_from_slice(&prompt.to_le_bytes());
    out.0.extend_from_slice(&answer.to_le_bytes());
    if let Some((space, vector)) = vector {
        out.0.extend_from_slice(&space.to_bytes());
        for value in vector {
            out.0.extend_from_slice(&value.to_le_bytes());
        }
    }
    out.0
}

/// What `data` says, if it is a whole record of a known format.
pub(super) fn decode(data: &[u8]) -> Option<Stored> {
    let mut rest = Reader(data);
    if rest.take::<1>()? != [FORMAT] {
        return None;
    }
    let fingerprint = Fingerprint(rest.take()?);
    let (scope, caller) = (ScopeId(rest.take()?), ScopeId(rest.take()?));
    let (created, expires) = (u64::from_le_bytes(rest.take()?), u64::from_le_bytes(rest.take()?));
    let label = rest.optional()?;
    let text = rest.optional()?;
    let form = match rest.take()? {
        [0] => Form::Text,
        [1] => Form::Bytes,
        [2] => Form::Json,
        _ => return None,
    };
    let response = rest.bytes()?;
    if form != Form::Bytes {
        std::str::from_utf8(response).ok()?;
    }
    let count = rest.length()?;
    let mut tags = Vec::new();
    for _ in 0..count {
        tags.push(rest.text()?.into());
    }
    let cost = Some(f64::from_le_bytes(rest.take()?)).filter(|cost| !cost.is_nan());
    let model = rest.optional()?.map(Into::into);
    let tokens = (u32::from_le_bytes(rest.take()?), u32::from_le_bytes(rest.take()?));
    let tokens = Some(tokens).filter(|tokens| *tokens != (u32::MAX, u32::MAX));
    let vector = if rest.0.is_empty() {
        None
    } else {
        let space = Space::from_bytes(rest.take()?);
        let (values, []) = rest.0.as_chunks::<4>() else { return None };
        (values.len() == space.dim()).then_some(())?;
        Some((space, values.iter().map(|value| f32::from_le_bytes(*value)).collect()))
    };
    let payload = Payload::new(form, response);
    let meta = Meta { tags, cost, model, tokens };
    Some(Stored { fingerprint, scope, caller, label, text, payload, meta, created, expires, vector })
}

struct Writer(Vec<u8>);

impl Writer {
    fn length(&mut self, length: usize) {
        self.0.extend_from_slice(&(length as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn optional(&mut self, text: Option<&str>) {
        self.0.push(u8::from(text.is_some()));
        if let Some(text) = text {
            self.bytes(text.as_bytes());
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.take()?)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    #[expect(clippy::option_option, reason = "unreadable, absent, present")]
    fn optional(&mut self) -> Option<Option<String>> {
        match self.take()? {
            [0] => Some(None),
            [1] => self.text().map(|text| Some(text.to_owned())),
            _ => None,
        }
    }
}
