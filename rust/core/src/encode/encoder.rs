//! The encoder as its callers see it: texts in, unit vectors out.

use std::path::Path;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use super::config::{Config, unsupported};
use super::file;
use super::forward::{Arena, forward};
use super::tokenise::{Tokeniser, TokeniserConfig};
use super::turns::Turns;
use super::weights::{Tensors, Weights};
use crate::simd::Detected;
use crate::{Error, Result};

/// Tokens that go through the layers side by side. More would not make the matrix products faster; it would only
/// push the states out of the cache.
const CHUNK_TOKENS: usize = 256;

/// What is known about one embedded text besides its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Tokens as the model saw them, special tokens included.
    pub tokens: usize,
    /// The text was longer than the model's window and was cut.
    pub truncated: bool,
}

/// Time spent on a text, or on a batch, summed over its threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Turning text into ids.
    pub tokenise: Duration,
    /// The layers and pooling.
    pub forward: Duration,
}

/// A BERT encoder on the CPU in 8-bit integers. Shared by any number of threads.
#[derive(Debug)]
pub struct Encoder {
    config: Config,
    tokeniser: Tokeniser,
    weights: Weights,
    isa: Detected,
    /// Idle working memory: as many as calls ever ran at the same time.
    arenas: Mutex<Vec<Arena>>,
    turns: Turns,
}

impl Encoder {
    /// Quantises and packs a model's tensors.
    ///
    /// Fails with [`Error::ModelFormat`] if a tensor is missing, of another size or not finite, or if the
    /// architecture is none that the kernels were written for.
    pub fn new(config: Config, tokeniser: TokeniserConfig, tensors: &Tensors) -> Result<Self> {
        config.check()?;
        let weights = Weights::quantise(&config, tensors)?;
        Self::assemble(config, tokeniser, weights)
    }

    /// Reads what [`Encoder::save`] wrote.
    ///
    /// Fails with [`Error::Corrupt`] if the file is damaged, and with [`Error::Io`] if it cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let (config, tokeniser, weights) = file::read(path)?;
        Self::assemble(config, tokeniser, weights)
    }

    /// Reads what [`Encoder::save`] wrote from memory; errors as [`Encoder::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let corrupt = |reason| Error::Corrupt { path: "packed encoder in memory".into(), reason };
        let (config, tokeniser, weights) = file::parse(bytes).map_err(corrupt)?;
        Self::assemble(config, tokeniser, weights)
    }

    /// Writes the packed model to `path`, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        file::write(path, &self.config, self.tokeniser.config(), &self.weights)
    }

    pub(super) fn assemble(config: Config, tokeniser: TokeniserConfig, weights: Weights) -> Result<Self> {
        if tokeniser.tokens.len() > config.vocabulary {
            let (tokens, rows) = (tokeniser.tokens.len(), config.vocabulary);
            return Err(unsupported(format!("the tokeniser has {tokens} tokens, the model {rows}")));
        }
        let tokeniser = Tokeniser::new(tokeniser)?;
        Ok(Self {
            config,
            tokeniser,
            weights,
            isa: Detected::best(),
            arenas: Mutex::default(),
            turns: Turns::default(),
        })
    }

    /// The same encoder on another instruction set, for comparisons.
    #[must_use]
    pub fn with_isa(mut self, isa: Detected) -> Self {
        self.isa = isa;
        self
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Detected {
        self.isa
    }

    /// The architecture.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tokeniser.
    pub fn tokeniser(&self) -> &Tokeniser {
        &self.tokeniser
    }

    /// Embeds one text into `vector`, a unit vector of [`Config::hidden`] floats, and tells the time it took.
    ///
    /// Fails with [`Error::Dimension`] if `vector` is of another length.
    pub fn encode(&self, text: &str, vector: &mut [f32]) -> Result<(Encoded, Spent)> {
        if vector.len() != self.config.hidden {
            return Err(Error::Dimension { expected: self.config.hidden, got: vector.len() });
        }
        let _turn = self.turns.take();
        self.with_arena(|arena| {
            let start = Instant::now();
            let truncated = self.tokeniser.encode(text, self.config.max_length, &mut arena.ids);
            let tokenised = Instant::now();
            arena.lengths.clear();
            arena.lengths.push(arena.ids.len());
            forward(self.isa, &self.config, &self.weights, arena, vector);
            normalise(vector, text)?;
            let spent = Spent { tokenise: tokenised - start, forward: tokenised.elapsed() };
            Ok((Encoded { tokens: arena.ids.len(), truncated }, spent))
        })
    }

    /// Embeds texts into the rows of `vectors` (`[texts][hidden]`) on up to `threads` threads.
    ///
    /// A text's vector is the same to the last bit as when it is embedded alone.
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        threads: usize,
        vectors: &mut [f32],
    ) -> Result<(Vec<Encoded>, Spent)> {
        let hidden = self.config.hidden;
        if vectors.len() != texts.len() * hidden {
            return Err(Error::Dimension { expected: texts.len() * hidden, got: vectors.len() });
        }
        let share = texts.len().div_ceil(threads.max(1)).max(1);
        if share >= texts.len() {
            return self.encode_share(texts, vectors);
        }
        let parts: Vec<Result<(Vec<Encoded>, Spent)>> = std::thread::scope(|scope| {
            let shares = texts.chunks(share).zip(vectors.chunks_mut(share * hidden));
            let workers: Vec<_> =
                shares.map(|(texts, vectors)| scope.spawn(move || self.encode_share(texts, vectors))).collect();
            let died = || Err(Error::Embedding { reason: "a worker thread panicked".into() });
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| died())).collect()
        });
        let (mut all, mut spent) = (Vec::with_capacity(texts.len()), Spent::default());
        for part in parts {
            let (encoded, part) = part?;
            all.extend(encoded);
            spent.tokenise += part.tokenise;
            spent.forward += part.forward;
        }
        Ok((all, spent))
    }

    fn encode_share<T: AsRef<str>>(&self, texts: &[T], vectors: &mut [f32]) -> Result<(Vec<Encoded>, Spent)> {
        let (mut all, mut spent) = (Vec::with_capacity(texts.len()), Spent::default());
        let (mut ids, mut next) = (Vec::new(), 0);
        while next < texts.len() {
            // Others may run between the chunks of a long list.
            let _turn = self.turns.take();
            self.with_arena(|arena| {
                let start = Instant::now();
                arena.ids.clear();
                arena.lengths.clear();
                let first = next;
                while let Some(text) = texts.get(next)
                    && (next == first || arena.ids.len() < CHUNK_TOKENS)
                {
                    let truncated = self.tokeniser.encode(text.as_ref(), self.config.max_length, &mut ids);
                    arena.ids.extend_from_slice(&ids);
                    arena.lengths.push(ids.len());
                    all.push(Encoded { tokens: ids.len(), truncated });
                    next += 1;
                }
                let tokenised = Instant::now();
                let hidden = self.config.hidden;
                let rows = &mut vectors[first * hidden..next * hidden];
                forward(self.isa, &self.config, &self.weights, arena, rows);
                for (row, text) in rows.chunks_exact_mut(hidden).zip(&texts[first..next]) {
                    normalise(row, text.as_ref())?;
                }
                spent.tokenise += tokenised - start;
                spent.forward += tokenised.elapsed();
                Ok(())
            })?;
        }
        Ok((all, spent))
    }

    /// Runs with idle working memory, or new memory if all is in use. Never waits: in a process forked while
    /// another thread held the lock, nobody would ever release it.
    fn with_arena<T>(&self, run: impl FnOnce(&mut Arena) -> Result<T>) -> Result<T> {
        let idle = || match self.arenas.try_lock() {
            Ok(idle) => Some(idle),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let mut arena = idle().and_then(|mut idle| idle.pop()).unwrap_or_default();
        let result = run(&mut arena);
        if let Some(mut idle) = idle() {
            idle.push(arena);
        }
        result
    }
}

/// Scales to unit length.
fn normalise(vector: &mut [f32], text: &str) -> Result<()> {
    let length = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        let start: String = text.chars().take(40).collect();
        return Err(Error::Embedding { reason: format!("the model gave {start:?} a vector of length {length}") });
    }
    let scale = (1.0 / length) as f32;
    for value in vector {
        *value *= scale;
    }
    Ok(())
}
