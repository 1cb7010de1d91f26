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

/// Appends parts to a record.
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    fn length(&mut self, length: usize) {
        self.0.extend_from_slice(&(length as u64).to_le_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
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

/// Takes a record's parts from its front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
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

    pub(super) fn text(&mut self) -> Option<&'a str> {
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

#[cfg(test)]
mod tests {
    use super::super::entry::VectorAt;
    use super::super::tenant::Tenant;
    use super::{Entry, Fingerprint, Form, Meta, Payload, ScopeId, Space, decode, encode};
    use proptest::prelude::*;
    use std::sync::Arc;

    const NO_VECTOR: Option<VectorAt> = None;

    fn form() -> impl Strategy<Value = Form> {
        prop_oneof![Just(Form::Text), Just(Form::Bytes), Just(Form::Json)]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            ids in any::<[[u8; 16]; 3]>(), label in any::<Option<String>>(), text in any::<Option<String>>(),
            form in form(), answer in ".{0,40}", tags in prop::collection::vec(".{0,9}", 0..4),
            cost in prop::option::of(-1e9..1e9_f64), model in any::<Option<String>>(),
            tokens in prop::option::of((0..9_u32, 0..9_u32)), times in any::<(u64, u64)>(),
            vector in prop::option::of(prop::collection::vec(-1.0..1.0_f32, 1..9)),
        ) {
            let [fingerprint, scope, caller] = ids;
            let meta =
                Meta { tags: tags.into_iter().map(Into::into).collect(), cost, model: model.map(Into::into), tokens };
            let entry = Entry::new(
                Fingerprint(fingerprint), ScopeId(scope), Arc::new(Tenant::new(ScopeId(caller), label.as_deref())),
                text.clone().map(Into::into), Payload::new(form, answer.as_bytes()), meta.clone(), times, (0, 0), NO_VECTOR,
            );
            let space = vector.as_ref().map(|vector| Space::of("model", vector.len()));
            let data = encode(&entry, space.zip(vector.as_deref()));
            let stored = decode(&data).expect("a whole record");
            prop_assert_eq!((stored.fingerprint, stored.scope, stored.caller), (entry.id(), entry.scope(), ScopeId(caller)));
            prop_assert_eq!((stored.label, stored.text, stored.meta), (label, text, meta));
            prop_assert_eq!(stored.payload.data(), answer.as_bytes());
            prop_assert_eq!((stored.created, stored.expires), times);
            prop_assert_eq!(stored.vector, space.zip(vector));
            for end in 0..data.len() - 1 {
                let cut = decode(&data[..end]);
                prop_assert!(cut.is_none_or(|cut| cut.vector.is_none())); // without its vector it is whole, too
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(decode(&data));
            drop(decode(&[&[super::FORMAT], data.as_slice()].concat()));
        }
    }
}
