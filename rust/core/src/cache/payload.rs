//! A stored response: its form and its bytes.

/// What the bytes of a response are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// UTF-8 text.
    Text,
    /// Bytes as they came.
    Bytes,
    /// A JSON document in UTF-8.
    Json,
}

/// A response at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    form: Form,
    data: Box<[u8]>,
}

impl Payload {
    /// A payload of `form` holding `data`.
    pub fn new(form: Form, data: impl Into<Box<[u8]>>) -> Self {
        Self { form, data: data.into() }
    }

    /// UTF-8 text.
    pub fn text(text: &str) -> Self {
        Self::new(Form::Text, text.as_bytes())
    }

    /// What the bytes are.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The response's bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the response is empty.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}
