//! A small random model, and BERT's forward pass in double precision, written from its definition.

use super::super::config::{Config, Pooling};
use super::super::{Tensors, TokeniserConfig};

pub(super) fn tiny_config() -> Config {
    Config {
        hidden: 64,
        heads: 2,
        layers: 2,
        intermediate: 96,
        positions: 40,
        vocabulary: 12,
        max_length: 32,
        pooling: Pooling::Mean,
        epsilon: 1e-12,
    }
}

pub(super) fn tiny_tokeniser() -> TokeniserConfig {
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "ab", "##a", "##b", "!"].map(String::from).to_vec();
    TokeniserConfig {
        clean_text: true,
        split_cjk: true,
        strip_accents: true,
        lowercase: true,
        max_word_chars: 100,
        unknown: 1,
        first: 2,
        last: 3,
        special: vec![("[SEP]".into(), 3)],
        tokens,
    }
}

pub(super) fn random_tensors(config: &Config, seed: u64) -> Tensors {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let (hidden, inner) = (config.hidden, config.intermediate);
    let mut tensors = Tensors::new();
    let mut add = |name: String, len: usize, scale: f32, shift: f32| {
        tensors.insert(name, (0..len).map(|_| random() * scale + shift).collect());
    };
    add("embeddings.word_embeddings.weight".into(), config.vocabulary * hidden, 1.0, 0.0);
    add("embeddings.position_embeddings.weight".into(), config.positions * hidden, 0.3, 0.0);
    add("embeddings.token_type_embeddings.weight".into(), 2 * hidden, 0.2, 0.0);
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    let mut linears = Vec::new();
    for layer in 0..config.layers {
        let name = format!("encoder.layer.{layer}");
        for part in ["query", "key", "value"] {
            linears.push((format!("{name}.attention.self.{part}"), hidden, hidden));
        }
        linears.push((format!("{name}.attention.output.dense"), hidden, hidden));
        linears.push((format!("{name}.intermediate.dense"), inner, hidden));
        linears.push((format!("{name}.output.dense"), hidden, inner));
        norms.push(format!("{name}.attention.output.LayerNorm"));
        norms.push(format!("{name}.output.LayerNorm"));
    }
    for name in norms {
        add(format!("{name}.weight"), hidden, 0.3, 1.0);
        add(format!("{name}.bias"), hidden, 0.2, 0.0);
    }
    for (name, outputs, inputs) in linears {
        add(format!("{name}.weight"), outputs * inputs, 1.7 / (inputs as f32).sqrt(), 0.0);
        add(format!("{name}.bias"), outputs, 0.1, 0.0);
    }
    tensors
}

type Rows = Vec<Vec<f64>>;

/// The pooled vector of a text, not normalised.
pub(super) fn reference(config: &Config, tensors: &Tensors, ids: &[u32]) -> Vec<f32> {
    let hidden = config.hidden;
    let row = |name: &str, at: usize| tensors[name][at * hidden..(at + 1) * hidden].iter().map(|&v| f64::from(v));
    let mut x: Rows = ids
        .iter()
        .enumerate()
        .map(|(position, &id)| {
            row("embeddings.word_embeddings.weight", id as usize)
                .zip(row("embeddings.position_embeddings.weight", position))
                .zip(row("embeddings.token_type_embeddings.weight", 0))
                .map(|((word, position), segment)| word + position + segment)
                .collect()
        })
        .collect();
    norm(tensors, "embeddings.LayerNorm", config, &mut x);
    for layer in 0..config.layers {
        let name = format!("encoder.layer.{layer}");
        let part = |part: &str| linear(tensors, &format!("{name}.attention.self.{part}"), &x);
        let context = attention(config, &part("query"), &part("key"), &part("value"));
        x = add(&x, linear(tensors, &format!("{name}.attention.output.dense"), &context));
        norm(tensors, &format!("{name}.attention.output.LayerNorm"), config, &mut x);
        let mut wide = linear(tensors, &format!("{name}.intermediate.dense"), &x);
        wide.iter_mut().flatten().for_each(|v| *v = gelu(*v));
        x = add(&x, linear(tensors, &format!("{name}.output.dense"), &wide));
        norm(tensors, &format!("{name}.output.LayerNorm"), config, &mut x);
    }
    match config.pooling {
        Pooling::First => x[0].iter().map(|&v| v as f32).collect(),
        Pooling::Mean => {
            (0..hidden).map(|d| (x.iter().map(|row| row[d]).sum::<f64>() / x.len() as f64) as f32).collect()
        }
    }
}

pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn add(x: &Rows, mut y: Rows) -> Rows {
    y.iter_mut().flatten().zip(x.iter().flatten()).for_each(|(y, x)| *y += x);
    y
}

fn linear(tensors: &Tensors, name: &str, x: &Rows) -> Rows {
    let (weights, bias) = (&tensors[&format!("{name}.weight")], &tensors[&format!("{name}.bias")]);
    let output = |row: &Vec<f64>, o: usize| {
        let weights = &weights[o * row.len()..(o + 1) * row.len()];
        row.iter().zip(weights).map(|(x, &w)| x * f64::from(w)).sum::<f64>() + f64::from(bias[o])
    };
    x.iter().map(|row| (0..bias.len()).map(|o| output(row, o)).collect()).collect()
}

fn norm(tensors: &Tensors, name: &str, config: &Config, x: &mut Rows) {
    let (gamma, beta) = (&tensors[&format!("{name}.weight")], &tensors[&format!("{name}.bias")]);
    for row in x {
        let width = row.len() as f64;
        let mean = row.iter().sum::<f64>() / width;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width;
        for ((v, &gamma), &beta) in row.iter_mut().zip(gamma).zip(beta) {
            *v = (*v - mean) / (variance + f64::from(config.epsilon)).sqrt() * f64::from(gamma) + f64::from(beta);
        }
    }
}

fn attention(config: &Config, query: &Rows, key: &Rows, value: &Rows) -> Rows {
    let width = config.head_width();
    let mut out = vec![vec![0.0; config.hidden]; query.len()];
    for (out, query) in out.iter_mut().zip(query) {
        for at in (0..config.hidden).step_by(width) {
            let part = at..at + width;
            let score = |key: &Vec<f64>| part.clone().map(|d| query[d] * key[d]).sum::<f64>() / (width as f64).sqrt();
            let weights: Vec<f64> = key.iter().map(|key| score(key).exp()).collect();
            let total: f64 = weights.iter().sum();
            for d in part.clone() {
                out[d] = weights.iter().zip(value).map(|(w, value)| w / total * value[d]).sum();
            }
        }
    }
    out
}

/// x Phi(x), the integral of the normal density by Simpson's rule.
fn gelu(x: f64) -> f64 {
    let (steps, end) = (2000, x.clamp(-9.0, 9.0));
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let step = end / f64::from(steps);
    let inner: f64 = (1..steps).map(|i| density(step * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    x * (0.5 + (density(0.0) + inner + density(end)) * step / 3.0)
}
