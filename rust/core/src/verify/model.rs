//! The pair verifier: the probability that two prompts have the same answer.
//!
//! Two small models look at a pair: boosted trees at the cheap features, and a network of one hidden
//! layer at the features and at how the two vectors differ, |a - b|, and agree, a * b. A logistic
//! regression of their two outputs, fitted on pairs neither was trained on, gives the probability.
//! Vectors of an embedder the network was not trained for are left out: the trees answer alone.

use super::features::{COUNT, features};
use super::weights::{BUCKETS, Learned, WordWeights};
use crate::simd;
use crate::text::guards::{Alignment, Analysis, Verdict, compare_aligned};
use crate::{Error, Result};
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// First bytes of a verifier file; the last one counts the versions of the format.
const MAGIC: &[u8; 8] = b"NHVERIF1";
/// Largest file that is read.
const MAX_BYTES: usize = 4 << 20;
/// Standardised features are cut off here, so that an odd text cannot shout down everything else.
const LIMIT: f32 = 4.0;

static SHIPPED: LazyLock<Arc<Model>> = LazyLock::new(|| {
    Arc::new(
        Model::parse(include_bytes!("verifier.bin"), Path::new("verifier.bin")).unwrap_or_else(|_| Model::untrained()),
    )
});

/// A fitted verifier.
#[derive(Debug, Clone)]
pub struct Model {
    /// The file it was read from, which [`Self::recalibrated`] writes again.
    file: Box<[u8]>,
    embedder: String,
    dim: usize,
    weights: WordWeights,
    trees: Vec<Tree>,
    network: Network,
    calibration: Calibration,
    threshold: f32,
}

/// What a model says of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assessment {
    /// Log odds by the trees, before calibration.
    pub trees: f32,
    /// Log odds by the network; `None` without vectors it knows.
    pub network: Option<f32>,
    /// Probability that the pair has one answer.
    pub confidence: f32,
    /// Whether the lexical guards accept it.
    pub accepted: bool,
}

/// Logistic regression of the two outputs.
#[derive(Debug, Clone, Copy, Default)]
struct Calibration {
    trees: f32,
    network: f32,
    bias: f32,
    alone_trees: f32,
    alone_bias: f32,
}

#[derive(Debug, Clone)]
struct Tree {
    nodes: Box<[Node]>,
    leaves: Box<[f32]>,
}

/// Goes left where the feature is at most the threshold; a negative child is leaf `-1 - child`.
#[derive(Debug, Clone, Copy)]
struct Node {
    feature: u8,
    threshold: f32,
    left: i8,
    right: i8,
}

#[derive(Debug, Clone, Default)]
struct Network {
    mean: Vec<f32>,
    scale: Vec<f32>,
    /// One row a hidden unit: |a - b|, a * b, then the features.
    rows: Vec<f32>,
    bias: Vec<f32>,
    out: Vec<f32>,
    out_bias: f32,
}

impl Model {
    /// The verifier that comes with the library.
    pub fn shipped() -> Arc<Self> {
        Arc::clone(&SHIPPED)
    }

    /// Reads a verifier file, such as `nearhit tune` writes.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Self::parse(&bytes, path)
    }

    /// Reads a verifier from the bytes of its file; `path` is for the error only.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        read(bytes).ok_or_else(|| Error::Corrupt {
            path: path.into(),
            reason: "not a verifier of this version, or cut short".into(),
        })
    }

    /// A model that knows nothing: every pair has even odds, so none reaches a threshold.
    fn untrained() -> Self {
        Self {
            file: Box::default(),
            embedder: String::new(),
            dim: 0,
            weights: WordWeights::flat(),
            trees: Vec::new(),
            network: Network::default(),
            calibration: Calibration::default(),
            threshold: 1.0,
        }
    }

    /// Least confidence at which a near hit is served, chosen for the precision the file states.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Name of the embedder whose vectors the network knows.
    pub fn embedder(&self) -> &str {
        &self.embedder
    }

    /// The file of this verifier with another calibration (weights of trees and network, bias; weight of the trees
    /// alone, bias) and another threshold.
    pub fn recalibrated(&self, calibration: [f32; 5], threshold: f32) -> Result<Vec<u8>> {
        let numbers = [[threshold].as_slice(), calibration.as_slice()].concat();
        if let Some(wrong) = numbers.iter().find(|number| !number.is_finite()) {
            return Err(Error::InvalidOption {
                name: "calibration",
                value: wrong.to_string(),
                expected: "finite numbers".into(),
            });
        }
        let start = MAGIC.len() + 2 + self.embedder.len() + 8;
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let mut body = self.file[..self.file.len().saturating_sub(16)].to_vec();
        match body.get_mut(start..start + bytes.len()) {
            Some(place) => place.copy_from_slice(&bytes),
            None => return Err(Error::Corrupt { path: "verifier".into(), reason: "holds no calibration".into() }),
        }
        let sum = checksum(&body);
        body.extend(sum);
        Ok(body)
    }

    /// Length of the vectors the network knows.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whether vectors of the embedder with this id can be looked at: same model, whatever its precision.
    pub fn knows(&self, embedder: &str, dim: usize) -> bool {
        dim == self.dim && embedder.split(['@', '/', ':']).any(|part| part == self.embedder)
    }

    /// Probability that the pair has one answer.
    pub fn confidence(
        &self,
        pair: &Alignment<'_, '_, '_>,
        verdict: &Verdict,
        similarity: f32,
        vectors: Option<(&[f32], &[f32])>,
    ) -> f32 {
        let row = features(pair, verdict, similarity, &self.weights);
        self.calibrated(self.outputs(&row, vectors))
    }

    /// Everything the model says of two texts, for evaluation.
    pub fn assess(
        &self,
        query: &str,
        candidate: &str,
        similarity: f32,
        vectors: Option<(&[f32], &[f32])>,
    ) -> Assessment {
        let (query, candidate) = (Analysis::new(query), Analysis::new(candidate));
        let pair = Alignment::new(&query, &candidate);
        let verdict = compare_aligned(&pair);
        let (trees, network) = self.outputs(&features(&pair, &verdict, similarity, &self.weights), vectors);
        let confidence = self.calibrated((trees, network));
        Assessment { trees, network, confidence, accepted: super::standing(verdict.reasons, confidence).is_empty() }
    }

    fn calibrated(&self, (trees, network): (f32, Option<f32>)) -> f32 {
        let fit = &self.calibration;
        let logit = match network {
            Some(network) => fit.trees * trees + fit.network * network + fit.bias,
            None => fit.alone_trees * trees + fit.alone_bias,
        };
        1.0 / (1.0 + (-logit).exp())
    }

    /// What the trees and the network say, as log odds, before calibration.
    pub fn outputs(&self, row: &[f32; COUNT], vectors: Option<(&[f32], &[f32])>) -> (f32, Option<f32>) {
        let trees = self.trees.iter().map(|tree| tree.leaf(row)).sum();
        let vectors = vectors.filter(|(a, b)| self.dim > 0 && a.len() == self.dim && b.len() == self.dim);
        (trees, vectors.map(|(a, b)| self.network.output(row, a, b)))
    }
}

impl Tree {
    fn leaf(&self, row: &[f32; COUNT]) -> f32 {
        let mut at = 0_i8;
        while let Ok(index) = usize::try_from(at) {
            let Some(node) = self.nodes.get(index) else { break };
            at = if row[usize::from(node.feature)] <= node.threshold { node.left } else { node.right };
        }
        let leaf = usize::try_from(-1 - i16::from(at)).unwrap_or(0);
        self.leaves.get(leaf).copied().unwrap_or(0.0)
    }
}

impl Network {
    fn output(&self, row: &[f32; COUNT], a: &[f32], b: &[f32]) -> f32 {
        let mut input = Vec::with_capacity(2 * a.len() + COUNT);
        input.extend(a.iter().zip(b).map(|(x, y)| (x - y).abs()));
        input.extend(a.iter().zip(b).map(|(x, y)| x * y));
        let standard = row.iter().zip(&self.mean).zip(&self.scale);
        input.extend(standard.map(|((value, mean), scale)| ((value - mean) * scale).clamp(-LIMIT, LIMIT)));
        let dot = simd::kernels().dot;
        let hidden = self.rows.chunks_exact(input.len()).zip(&self.bias);
        let units = hidden.zip(&self.out).map(|((row, bias), out)| (dot(row, &input) + bias).max(0.0) * out);
        units.sum::<f32>() + self.out_bias
    }
}

/// Reads the fields of a file in their order.
struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn u16(&mut self) -> Option<usize> {
        self.take(2)?.try_into().ok().map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    }

    fn f32(&mut self) -> Option<f32> {
        let value = f32::from_le_bytes(self.take(4)?.try_into().ok()?);
        value.is_finite().then_some(value)
    }

    fn floats(&mut self, count: usize) -> Option<Vec<f32>> {
        (0..count).map(|_| self.f32()).collect()
    }
}

/// The bytes that end a file: the first half of BLAKE3 over all before them.
pub fn checksum(body: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
    half
}

/// The file: magic, embedder, sizes, calibration, word weights, trees, network, and a checksum of it all.
fn read(bytes: &[u8]) -> Option<Model> {
    let body = bytes.len().checked_sub(16).filter(|_| bytes.len() <= MAX_BYTES)?;
    let (body, sum) = bytes.split_at(body);
    if checksum(body) != *sum {
        return None;
    }
    let mut reader = Reader(body.strip_prefix(MAGIC)?);
    let length = reader.u16()?;
    let embedder = std::str::from_utf8(reader.take(length)?).ok()?.to_owned();
    let (dim, hidden, count, trees) = (reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?);
    if count != COUNT {
        return None; // made for another set of features
    }
    let threshold = reader.f32()?;
    let [trees_by, network, bias, alone_trees, alone_bias] = reader.floats(5)?.try_into().ok()?;
    let calibration = Calibration { trees: trees_by, network, bias, alone_trees, alone_bias };
    let rarity = reader.take(BUCKETS)?.to_vec();
    let mut learned = || Learned::new(reader.f32()?, reader.take(BUCKETS)?);
    let (only, both) = (learned()?, learned()?);
    let weights = WordWeights::new(&rarity, only, both)?;
    let trees = (0..trees).map(|_| read_tree(&mut reader)).collect::<Option<Vec<_>>>()?;
    let network = read_network(&mut reader, dim, hidden)?;
    reader.0.is_empty().then_some(Model {
        file: bytes.into(),
        embedder,
        dim,
        weights,
        trees,
        network,
        calibration,
        threshold,
    })
}

/// Children point forward only, so that every walk ends.
fn read_tree(reader: &mut Reader<'_>) -> Option<Tree> {
    let nodes = reader.u16()?;
    if nodes > 127 {
        return None;
    }
    let mut tree = Vec::with_capacity(nodes);
    for place in 0..nodes {
        let feature = reader.take(1)?[0];
        let threshold = reader.f32()?;
        let [left, right] = *reader.take(2)? else { return None };
        let node = Node { feature, threshold, left: left as i8, right: right as i8 };
        let sound = |child: i8| match usize::try_from(child) {
            Ok(child) => child > place && child < nodes,
            Err(_) => -1 - i16::from(child) <= nodes as i16,
        };
        if usize::from(feature) >= COUNT || !sound(node.left) || !sound(node.right) {
            return None;
        }
        tree.push(node);
    }
    Some(Tree { nodes: tree.into(), leaves: reader.floats(nodes + 1)?.into() })
}

/// Rows are bytes with one step a row.
fn read_network(reader: &mut Reader<'_>, dim: usize, hidden: usize) -> Option<Network> {
    let mean = reader.floats(COUNT)?;
    let scale = reader.floats(COUNT)?;
    let steps = reader.floats(hidden)?;
    let bias = reader.floats(hidden)?;
    let out = reader.floats(hidden)?;
    let out_bias = reader.f32()?;
    // Vectors have small components: their columns carry a common factor, so that bytes serve them as well.
    let (difference, product) = (reader.f32()?, reader.f32()?);
    let width = 2 * dim + COUNT;
    let bytes = reader.take(hidden.checked_mul(width)?)?;
    let factor = |column: usize| match column / dim.max(1) {
        0 => difference,
        1 => product,
        _ => 1.0,
    };
    let rows = bytes
        .iter()
        .enumerate()
        .map(|(place, byte)| f32::from(*byte as i8) * steps[place / width] * factor(place % width))
        .collect();
    Some(Network { mean, scale, rows, bias, out, out_bias })
}
