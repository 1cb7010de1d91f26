//! The packed model on disk: read with one pass, refused unless every byte is what was written.
//!
//! Little-endian throughout: magic, version, the configuration, the tokeniser, then (at a multiple of 64 bytes)
//! the arrays in the order of the forward pass, and last the BLAKE3 hash of everything before it. The
//! configuration is checked against fixed limits and the file's own length before anything is allocated.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::config::{Config, Pooling};
use super::tokenise::TokeniserConfig;
use super::weights::{Embeddings, Layer, Norm, Weights};
use crate::simd::gemm::{Line, PackedWeights};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"nearhENC";
/// Raised whenever the layout or the quantisation changes; older files are packed anew.
pub const FORMAT_VERSION: u32 = 1;
const HASH_BYTES: usize = 32;
/// Larger than any model within the configuration's limits that this engine is meant for.
const MAX_FILE_BYTES: u64 = 4 << 30;

pub(super) fn write(path: &Path, config: &Config, tokeniser: &TokeniserConfig, weights: &Weights) -> Result<()> {
    let mut bytes = Writer(Vec::new());
    bytes.0.extend_from_slice(MAGIC);
    bytes.u32(FORMAT_VERSION);
    bytes.config(config);
    bytes.tokeniser(tokeniser);
    bytes.align();
    bytes.weights(weights);
    let hash = blake3::hash(&bytes.0);
    bytes.0.extend_from_slice(hash.as_bytes());

    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(name);
    let placed = File::create(&partial)
        .and_then(|mut file| file.write_all(&bytes.0).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    placed.map_err(|source| {
        // The first failure is the one to report.
        drop(fs::remove_file(&partial));
        io(source)
    })
}

pub(super) fn read(path: &Path) -> Result<(Config, TokeniserConfig, Weights)> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE_BYTES {
        return Err(Error::Corrupt { path: path.to_owned(), reason: format!("{size} bytes are no packed encoder") });
    }
    parse(&fs::read(path).map_err(io)?).map_err(|reason| Error::Corrupt { path: path.to_owned(), reason })
}

/// Reads a packed model from memory; the error says what is wrong.
pub(super) fn parse(bytes: &[u8]) -> std::result::Result<(Config, TokeniserConfig, Weights), String> {
    let Some((body, hash)) = bytes.split_last_chunk::<HASH_BYTES>() else {
        return Err(format!("only {} bytes", bytes.len()));
    };
    let mut reader = Reader { bytes: body, at: 0 };
    if reader.take(8)? != MAGIC {
        return Err("it does not start as a packed encoder".into());
    }
    let version = reader.u32()?;
    if version != FORMAT_VERSION {
        return Err(format!("format version {version}, this build reads {FORMAT_VERSION}"));
    }
    if blake3::hash(body) != blake3::Hash::from_bytes(*hash) {
        return Err("the checksum does not match".into());
    }
    parse_body(&mut reader)
}

/// Everything after the checksum was found right; it still trusts no size.
fn parse_body(reader: &mut Reader<'_>) -> std::result::Result<(Config, TokeniserConfig, Weights), String> {
    let config = reader.config()?;
    config.check().map_err(|error| error.to_string())?;
    let tokeniser = reader.tokeniser()?;
    reader.align();
    let weights = reader.weights(&config)?;
    if reader.at != reader.bytes.len() {
        return Err(format!("{} bytes too many", reader.bytes.len() - reader.at));
    }
    if let Some(id) = tokeniser.tokens.len().checked_sub(config.vocabulary + 1) {
        return Err(format!("{} tokens beyond the vocabulary", id + 1));
    }
    Ok((config, tokeniser, weights))
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn f32s(&mut self, values: &[f32]) {
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.align();
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(64), 0);
    }

    fn config(&mut self, config: &Config) {
        let Config { hidden, heads, layers, intermediate, positions, vocabulary, max_length, pooling, epsilon } =
            *config;
        for size in [hidden, heads, layers, intermediate, positions, vocabulary, max_length] {
            self.u32(size as u32);
        }
        self.u32(u32::from(pooling == Pooling::First));
        self.u32(epsilon.to_bits());
    }

    fn tokeniser(&mut self, tokeniser: &TokeniserConfig) {
        let t = tokeniser;
        for switch in [t.clean_text, t.split_cjk, t.strip_accents, t.lowercase] {
            self.u32(u32::from(switch));
        }
        for value in [t.max_word_chars as u32, t.unknown, t.first, t.last, t.special.len() as u32] {
            self.u32(value);
        }
        for (text, id) in &t.special {
            self.u32(*id);
            self.text(text);
        }
        self.u32(t.tokens.len() as u32);
        for token in &t.tokens {
            self.text(token);
        }
    }

    fn weights(&mut self, weights: &Weights) {
        let embeddings = &weights.embeddings;
        self.0.extend(embeddings.words.iter().flat_map(|value| value.to_le_bytes()));
        self.align();
        self.f32s(&embeddings.word_scales);
        self.f32s(&embeddings.positions);
        self.norm(&embeddings.norm);
        for layer in &weights.layers {
            self.linear(&layer.qkv);
            self.linear(&layer.attention);
            self.norm(&layer.attention_norm);
            self.linear(&layer.up);
            self.linear(&layer.down);
            self.norm(&layer.output_norm);
        }
    }

    fn norm(&mut self, norm: &Norm) {
        self.f32s(&norm.gamma);
        self.f32s(&norm.beta);
    }

    fn linear(&mut self, weights: &PackedWeights) {
        self.0.extend(weights.lines().iter().flat_map(|line| line.0.map(i8::cast_unsigned)));
        self.f32s(weights.scales());
        self.f32s(weights.bias());
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Parsed<T> = std::result::Result<T, String>;

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| format!("it ends {} bytes in, within a part of {count}", self.bytes.len()))?;
        self.at += count;
        Ok(taken)
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(64).min(self.bytes.len());
    }

    fn u32(&mut self) -> Parsed<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn size(&mut self) -> Parsed<usize> {
        self.u32().map(|value| value as usize)
    }

    fn flag(&mut self) -> Parsed<bool> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("a switch is {other}, neither on nor off")),
        }
    }

    fn text(&mut self) -> Parsed<String> {
        let length = self.size()?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|error| format!("a token is no text: {error}"))?;
        Ok(text.to_owned())
    }

    fn f32s(&mut self, count: usize) -> Parsed<Vec<f32>> {
        let (chunks, _) = self.take(count.checked_mul(4).ok_or("a part is too large")?)?.as_chunks::<4>();
        let values: Vec<f32> = chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        self.align();
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(format!("a weight is {value}")),
            None => Ok(values),
        }
    }

    fn config(&mut self) -> Parsed<Config> {
        Ok(Config {
            hidden: self.size()?,
            heads: self.size()?,
            layers: self.size()?,
            intermediate: self.size()?,
            positions: self.size()?,
            vocabulary: self.size()?,
            max_length: self.size()?,
            pooling: if self.flag()? { Pooling::First } else { Pooling::Mean },
            epsilon: f32::from_bits(self.u32()?),
        })
    }

    fn tokeniser(&mut self) -> Parsed<TokeniserConfig> {
        let (clean_text, split_cjk) = (self.flag()?, self.flag()?);
        let (strip_accents, lowercase) = (self.flag()?, self.flag()?);
        let max_word_chars = self.size()?;
        let (unknown, first, last) = (self.u32()?, self.u32()?, self.u32()?);
        // Lists grow as they are read, so a claim beyond the file's end costs nothing.
        let special =
            (0..self.size()?).map(|_| self.u32().and_then(|id| Ok((self.text()?, id)))).collect::<Parsed<_>>()?;
        let tokens = (0..self.size()?).map(|_| self.text()).collect::<Parsed<_>>()?;
        Ok(TokeniserConfig {
            clean_text,
            split_cjk,
            strip_accents,
            lowercase,
            max_word_chars,
            unknown,
            first,
            last,
            special,
            tokens,
        })
    }

    fn weights(&mut self, config: &Config) -> Parsed<Weights> {
        let (hidden, inner) = (config.hidden, config.intermediate);
        let (words, _) = self.take(2 * config.vocabulary * hidden)?.as_chunks::<2>();
        let words = words.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect();
        self.align();
        let embeddings = Embeddings {
            words,
            word_scales: self.f32s(config.vocabulary)?,
            positions: self.f32s(config.positions * hidden)?,
            norm: self.norm(hidden)?,
        };
        let layers = (0..config.layers).map(|_| {
            Ok(Layer {
                qkv: self.linear(3 * hidden, hidden)?,
                attention: self.linear(hidden, hidden)?,
                attention_norm: self.norm(hidden)?,
                up: self.linear(inner, hidden)?,
                down: self.linear(hidden, inner)?,
                output_norm: self.norm(hidden)?,
            })
        });
        Ok(Weights { embeddings, layers: layers.collect::<Parsed<_>>()? })
    }

    fn norm(&mut self, width: usize) -> Parsed<Norm> {
        Ok(Norm { gamma: self.f32s(width)?, beta: self.f32s(width)? })
    }

    fn linear(&mut self, outputs: usize, inputs: usize) -> Parsed<PackedWeights> {
        let (chunks, _) = self.take(outputs * inputs)?.as_chunks::<64>();
        let lines = chunks.iter().map(|chunk| Line(chunk.map(u8::cast_signed))).collect();
        let (scales, bias) = (self.f32s(outputs)?, self.f32s(outputs)?);
        PackedWeights::from_parts(outputs, inputs, lines, scales, bias)
            .ok_or_else(|| format!("weights of {outputs} x {inputs} do not fit the kernels"))
    }
}
