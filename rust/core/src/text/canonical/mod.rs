//! The canonical request: what must match exactly, and the one text that may be compared by meaning.
//!
//! A request splits into its *scope* (everything that has to be the same before a similarity counts:
//! tenant, system prompt, earlier turns, tools, response format, sampling parameters, model, unknown
//! fields) and the text of the last user message. The fingerprint is a hash of both. Hashes are the
//! first 128 bits of BLAKE3 over a tagged, length-prefixed encoding with sorted keys, NFC strings and
//! one form for each number, so they are the same in every process, whatever the key order.
//!
//! White space: the compared text loses it at both ends, and CR LF or a lone CR becomes LF; inside,
//! every space counts (indentation is meaning in code). All other strings count as they are.
//!
//! Per-request noise that does not change the answer is left out by name: [`NOISE`].

mod body;
mod hash;
mod messages;

use crate::text::json::Value;
use crate::{Error, Result};
use hash::Domain;
use std::borrow::Cow;
use std::fmt;

/// Body fields that identify, bill, trace or transport one call and do not change its answer.
pub const NOISE: [&str; 9] = [
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "user",
];

/// 128 bits that stand for one canonical request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 16]);

/// 128 bits that stand for everything of a request but its last user text. The default is the shared scope.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ScopeId(pub [u8; 16]);

/// A request in canonical form.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'a> {
    /// Hash of the scope and the text: equal for equal requests, and for no others.
    pub fingerprint: Fingerprint,
    /// What must match exactly.
    pub scope: ScopeId,
    /// The text that may be compared by meaning, normalised; `None` makes the request exact-only.
    pub text: Option<Cow<'a, str>>,
    /// The sampling temperature, where the request states one.
    pub temperature: Option<f64>,
}

impl ScopeId {
    /// The scope of a caller: a tenant's name, or any JSON value; `null` is the shared scope.
    pub fn of(value: &Value) -> Result<Self> {
        if *value == Value::Null {
            return Ok(Self::default());
        }
        let mut hasher = hash::hasher(Domain::Base);
        hash::feed(&mut hasher, value)?;
        Ok(Self(hash::finish(&hasher)))
    }

    /// This scope narrowed by one more thing that must match, such as an embedder's id.
    pub fn narrowed(&self, value: &Value) -> Result<Self> {
        let mut hasher = hash::hasher(Domain::Base);
        hasher.update(&self.0);
        hash::feed(&mut hasher, value)?;
        Ok(Self(hash::finish(&hasher)))
    }
}

impl<'a> Request<'a> {
    /// A plain prompt. Allocates nothing unless the text has to be changed.
    ///
    /// ```
    /// use nearhit_core::text::canonical::{Request, ScopeId};
    /// let shared = ScopeId::default();
    /// let request = Request::from_prompt("  How do I reset my password?\n", shared)?;
    /// assert_eq!(request.text.as_deref(), Some("How do I reset my password?"));
    /// assert_eq!(request, Request::from_prompt("How do I reset my password?", shared)?);
    /// # Ok::<(), nearhit_core::Error>(())
    /// ```
    pub fn from_prompt(prompt: &'a str, scope: ScopeId) -> Result<Self> {
        Self::near(Cow::Borrowed(prompt), scope, None)
    }

    /// A conversation: a list of messages in the OpenAI form. A lone user message equals the plain prompt.
    pub fn from_messages(messages: &'a [Value], scope: ScopeId) -> Result<Self> {
        messages::read(messages, &[], scope)
    }

    /// The body of an OpenAI call: chat completions (`messages`), completions (`prompt`) or responses (`input`).
    pub fn from_body(body: &'a Value, scope: ScopeId) -> Result<Self> {
        body::read(body, scope)
    }

    /// A string is a prompt, a list is a conversation, an object is a body.
    pub fn from_value(value: &'a Value, scope: ScopeId) -> Result<Self> {
        match value {
            Value::String(prompt) => Self::from_prompt(prompt, scope),
            Value::Array(messages) => Self::from_messages(messages, scope),
            Value::Object(_) => Self::from_body(value, scope),
            other => Err(Error::Request {
                reason: format!("expected a string, a list of messages or a request body, got {}", other.kind()),
            }),
        }
    }

    /// A request whose text may be compared by meaning within `scope`.
    fn near(text: Cow<'a, str>, scope: ScopeId, temperature: Option<f64>) -> Result<Self> {
        let text = normalise(text);
        if text.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let mut hasher = hash::hasher(Domain::Prompt);
        hasher.update(&scope.0);
        hasher.update(text.as_bytes());
        Ok(Self { fingerprint: Fingerprint(hash::finish(&hasher)), scope, text: Some(text), temperature })
    }

    /// A request that only its equal may answer.
    fn exact_only(scope: ScopeId, temperature: Option<f64>) -> Self {
        let mut hasher = hash::hasher(Domain::ExactOnly);
        hasher.update(&scope.0);
        Self { fingerprint: Fingerprint(hash::finish(&hasher)), scope, text: None, temperature }
    }
}

/// NFC, LF line ends, no white space at the ends; borrowed where nothing changes.
fn normalise(text: Cow<'_, str>) -> Cow<'_, str> {
    let text = match text {
        Cow::Borrowed(text) => hash::nfc(text.trim()),
        Cow::Owned(text) => Cow::Owned(hash::nfc(text.trim()).into_owned()),
    };
    if text.as_bytes().contains(&b'\r') {
        return Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"));
    }
    text
}

fn hex(bytes: [u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(self.0, f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(self.0, f)
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(self.0, f)
    }
}

impl fmt::Debug for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(self.0, f)
    }
}

#[cfg(test)]
mod tests;
