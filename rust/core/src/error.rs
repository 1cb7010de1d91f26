//! The one error type of the crate. Every variant names the offending value and, in its message,
//! the way out. The binding maps each variant to one Python class, so the `match` there is exhaustive.

use std::fmt;
use std::path::PathBuf;

/// `Result` with the crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong, by cause.
#[derive(Debug)]
pub enum Error {
    /// A vector's length differs from the index dimension.
    Dimension {
        /// Dimension of the index.
        expected: usize,
        /// Length of the vector given.
        got: usize,
    },
    /// A vector holds NaN or an infinity.
    NotFinite {
        /// Position of the first such value.
        position: usize,
        /// The value.
        value: f32,
    },
    /// A vector of zeros has no direction, so no cosine.
    ZeroVector,
    /// A similarity threshold outside `[-1, 1]`, or NaN.
    Threshold {
        /// The value given.
        value: f64,
    },
    /// A prompt that is empty after trimming white space.
    EmptyPrompt,
    /// A request that cannot be read as a prompt or a conversation.
    Request {
        /// What is wrong and where.
        reason: String,
    },
    /// An option out of its range, or unknown.
    InvalidOption {
        /// Name of the option.
        name: &'static str,
        /// The value given, as text.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// No tier can take the request.
    NoTier {
        /// Each tier with what stands against it.
        reasons: String,
    },
    /// No tier has ever answered within such a deadline.
    Deadline {
        /// The deadline in seconds.
        deadline: f64,
        /// The tier that comes nearest.
        nearest: String,
        /// Its predicted seconds to the end of the answer.
        predicted: f64,
    },
    /// A model that this engine cannot run.
    ModelFormat {
        /// What is missing, inconsistent or not supported.
        reason: String,
    },
    /// A model gave something that is no unit vector.
    Embedding {
        /// What it gave, and for which text.
        reason: String,
    },
    /// An answer that would not fit into an empty cache.
    TooLarge {
        /// Bytes it takes.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A file that is damaged, or not one of ours.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A durable file that another process, or another cache of this one, is writing.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The durable store refused.
    Storage {
        /// The file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// The operating system refused.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dimension { expected, got } => {
                write!(f, "vector has {got} dimensions, expected {expected}: use the embedder this index was made for")
            }
            Self::NotFinite { position, value } => {
                write!(f, "vector holds {value} at position {position}: every value must be finite")
            }
            Self::ZeroVector => {
                f.write_str("vector is all zeros, so it has no direction to compare: drop it or embed another text")
            }
            Self::Threshold { value } => {
                write!(f, "threshold {value} is not a cosine similarity: give a number in [-1, 1]")
            }
            Self::EmptyPrompt => f.write_str("prompt is empty or only white space: nothing to look up"),
            Self::Request { reason } => write!(f, "cannot read the request: {reason}"),
            Self::InvalidOption { name, value, expected } => {
                write!(f, "option {name}={value} is not valid: expected {expected}")
            }
            Self::NoTier { reasons } => write!(f, "no tier can take this request: {reasons}"),
            Self::Deadline { deadline, nearest, predicted } => write!(
                f,
                "no tier has been fast enough for a deadline of {deadline} s: the nearest, {nearest}, needs about \
                 {predicted:.3} s; allow more time or add a faster tier"
            ),
            Self::ModelFormat { reason } => write!(f, "the native engine cannot run this model: {reason}"),
            Self::Embedding { reason } => write!(f, "embedding failed: {reason}"),
            Self::TooLarge { bytes, limit } => {
                write!(f, "the entry takes {bytes} bytes and the bound is {limit}: raise max_bytes, or do not store it")
            }
            Self::Corrupt { path, reason } => {
                write!(
                    f,
                    "{} is damaged or not a nearhit file ({reason}): restore it from a copy or delete it",
                    path.display()
                )
            }
            Self::InUse { path } => write!(
                f,
                "{} is in use: one process writes a cache at a time; close the other one or choose another path",
                path.display()
            ),
            Self::Storage { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
