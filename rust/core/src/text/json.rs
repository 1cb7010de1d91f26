//! A JSON value as the core sees it: what the bindings hand over and the fingerprint reads.

/// Deepest nesting that is read; a request beyond it is refused rather than followed.
pub const MAX_DEPTH: usize = 64;

/// One JSON value. Objects keep the order they came in; nothing here depends on it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer of ordinary size.
    Int(i64),
    /// An integer beyond `i64`, as its decimal digits with an optional leading `-`.
    BigInt(String),
    /// Any other number. NaN and the infinities are not JSON: [`super::canonical`] refuses them.
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object: pairs of key and value.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The value under `key`, if this is an object that has it.
    ///
    /// ```
    /// use nearhit_core::text::json::Value;
    /// let message = Value::object([("role", "user".into()), ("content", "hi".into())]);
    /// assert_eq!(message.get("role").and_then(Value::as_str), Some("user"));
    /// ```
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(pairs) => pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The string, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, if this is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// An object from pairs.
    pub fn object<const N: usize>(pairs: [(&str, Self); N]) -> Self {
        Self::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// What kind of value this is, for messages to the user.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::BigInt(_) | Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// `null`, or an empty list or object: a field that says nothing.
    pub(crate) fn is_blank(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Array(items) => items.is_empty(),
            Self::Object(pairs) => pairs.is_empty(),
            _ => false,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}
