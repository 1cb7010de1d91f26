//! The forward pass: token ids to hidden states, many texts side by side without padding.
//!
//! Rows of all texts go through the matrix products together, in blocks that keep the widest intermediate
//! result in the second-level cache; only attention looks at one text at a time. Each row is quantised on
//! its own and summed exactly, so a text's result does not depend, to the last bit, on what it is batched with.

use super::config::{Config, Pooling};
use super::weights::{Embeddings, Layer, Norm, Weights};
use crate::simd::Detected;
use crate::simd::encode::{AttentionArena, attend, gelu_quantise_rows, layer_norm_rows, quantise_rows};
use crate::simd::gemm::{PackedWeights, QuantisedRows, multiply};

/// Rows per block: five tiles of the matrix kernel, 370 KB of the widest intermediate result of MiniLM.
const BLOCK: usize = 60;

/// Working memory of a forward pass, kept between calls: nothing is allocated once it has grown.
#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    /// Ids of the texts, one after the other.
    pub(super) ids: Vec<u32>,
    /// Tokens of each text.
    pub(super) lengths: Vec<usize>,
    states: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    sums: Vec<f32>,
    wide: Vec<f32>,
    rows: QuantisedRows,
    bytes: Vec<u8>,
    attention: AttentionArena,
}

/// Runs the texts in `arena` and pools each into a row of `out` (`[texts][hidden]`), not yet normalised.
pub(super) fn forward(isa: Detected, config: &Config, weights: &Weights, arena: &mut Arena, out: &mut [f32]) {
    let tokens = arena.ids.len();
    arena.states.resize(tokens * config.hidden, 0.0);
    arena.context.resize(tokens * config.hidden, 0.0);
    arena.qkv.resize(3 * tokens * config.hidden, 0.0);
    embed(isa, config, &weights.embeddings, arena);
    let mut rows = tokens;
    for (number, layer) in weights.layers.iter().enumerate() {
        arena.project(isa, config, &layer.qkv);
        arena.attend(isa, config);
        if number + 1 == weights.layers.len() && config.pooling == Pooling::First {
            rows = arena.keep_first(config.hidden);
        }
        arena.finish_layer(isa, config, layer, rows);
    }
    pool(config, arena, out);
}

/// Word and position embeddings, summed and normed.
fn embed(isa: Detected, config: &Config, embeddings: &Embeddings, arena: &mut Arena) {
    let hidden = config.hidden;
    let mut rows = arena.context.chunks_exact_mut(hidden);
    let mut ids = arena.ids.iter();
    for &length in &arena.lengths {
        let text = ids.by_ref().take(length).zip(embeddings.positions.chunks_exact(hidden));
        for ((&id, position), row) in text.zip(rows.by_ref()) {
            let scale = embeddings.word_scales[id as usize];
            let word = &embeddings.words[id as usize * hidden..][..hidden];
            for ((sum, &word), position) in row.iter_mut().zip(word).zip(position) {
                *sum = f32::from(word) * scale + position;
            }
        }
    }
    norm_rows(isa, &arena.context, &embeddings.norm, config.epsilon, &mut arena.states);
}

fn norm_rows(isa: Detected, values: &[f32], norm: &Norm, epsilon: f32, out: &mut [f32]) {
    layer_norm_rows(isa, values, &norm.gamma, &norm.beta, epsilon, out);
}

impl Arena {
    /// Query, key and value of every token.
    fn project(&mut self, isa: Detected, config: &Config, weights: &PackedWeights) {
        let hidden = config.hidden;
        for (start, end) in blocks(self.ids.len()) {
            self.rows.reset(end - start, hidden);
            quantise_rows(isa, &self.states[start * hidden..end * hidden], &mut self.bytes, &mut self.rows);
            multiply(isa, &self.rows, weights, None, &mut self.qkv[3 * start * hidden..3 * end * hidden]);
        }
    }

    fn attend(&mut self, isa: Detected, config: &Config) {
        let (hidden, mut start) = (config.hidden, 0);
        for &length in &self.lengths {
            let (qkv, out) = (&self.qkv[3 * start * hidden..], &mut self.context[start * hidden..]);
            let (qkv, out) = (&qkv[..3 * length * hidden], &mut out[..length * hidden]);
            attend(isa, qkv, config.heads, config.head_width(), &mut self.attention, out);
            start += length;
        }
    }

    /// Leaves each text's first token alone, which is all that is pooled of the last layer; returns how many there are.
    fn keep_first(&mut self, hidden: usize) -> usize {
        for values in [&mut self.states, &mut self.context] {
            let mut start = 0;
            for (text, length) in self.lengths.iter().enumerate() {
                values.copy_within(start * hidden..(start + 1) * hidden, text * hidden);
                start += length;
            }
        }
        self.lengths.len()
    }

    /// Everything after attention, which knows no neighbours, for the first `rows` rows: block by block to the end of the layer.
    fn finish_layer(&mut self, isa: Detected, config: &Config, layer: &Layer, rows: usize) {
        let (hidden, inner) = (config.hidden, config.intermediate);
        for (start, end) in blocks(rows) {
            let count = end - start;
            let states = &mut self.states[start * hidden..end * hidden];
            self.sums.resize(count * hidden, 0.0);
            self.wide.resize(count * inner, 0.0);

            self.rows.reset(count, hidden);
            quantise_rows(isa, &self.context[start * hidden..end * hidden], &mut self.bytes, &mut self.rows);
            multiply(isa, &self.rows, &layer.attention, Some(states), &mut self.sums);
            norm_rows(isa, &self.sums, &layer.attention_norm, config.epsilon, states);

            quantise_rows(isa, states, &mut self.bytes, &mut self.rows);
            multiply(isa, &self.rows, &layer.up, None, &mut self.wide);
            self.rows.reset(count, inner);
            gelu_quantise_rows(isa, &mut self.wide, &mut self.bytes, &mut self.rows);
            multiply(isa, &self.rows, &layer.down, Some(states), &mut self.sums);
            norm_rows(isa, &self.sums, &layer.output_norm, config.epsilon, states);
        }
    }
}

fn pool(config: &Config, arena: &Arena, out: &mut [f32]) {
    let hidden = config.hidden;
    if config.pooling == Pooling::First {
        out.copy_from_slice(&arena.states[..out.len()]);
        return;
    }
    let mut start = 0;
    for (&length, out) in arena.lengths.iter().zip(out.chunks_exact_mut(hidden)) {
        let states = &arena.states[start * hidden..(start + length) * hidden];
        out.fill(0.0);
        for row in states.chunks_exact(hidden) {
            out.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let share = 1.0 / length as f32;
        for value in out {
            *value *= share;
        }
        start += length;
    }
}

/// Cuts `count` rows into blocks of at most [`BLOCK`], as equal as can be: first row and end.
fn blocks(count: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = count.div_ceil(BLOCK);
    (0..blocks).map(move |block| (block * count / blocks, (block + 1) * count / blocks))
}
