mod model;

use proptest::prelude::*;

use super::config::{Config, Pooling};
use super::file;
use super::{Embed, Encoder, Tokeniser};
use crate::Error;
use crate::simd::Detected;
use model::{cosine, random_tensors, reference, tiny_config, tiny_tokeniser};

/// A small model with random weights.
pub(crate) fn encoder(layers: usize, seed: u64) -> Encoder {
    let config = Config { layers, ..tiny_config() };
    Encoder::new(config, tiny_tokeniser(), &random_tensors(&config, seed)).expect("a valid model")
}

fn embed(encoder: &Encoder, text: &str) -> Vec<f32> {
    let mut vector = vec![f32::NAN; encoder.config().hidden];
    encoder.encode(text, &mut vector).expect("a vector");
    vector
}

#[test]
fn every_layer_follows_the_float_reference_on_every_instruction_set() {
    for layers in 1..=3 {
        let config = Config { layers, ..tiny_config() };
        let tensors = random_tensors(&config, 11);
        for pooling in [Pooling::Mean, Pooling::First] {
            let config = Config { pooling, ..config };
            for isa in Detected::all() {
                let encoder = Encoder::new(config, tiny_tokeniser(), &tensors).expect("a valid model").with_isa(isa);
                for text in ["a", "ab b ba!", "a b a b a b a b a b a b a b a b a b a b", ""] {
                    let mut ids = Vec::new();
                    encoder.tokeniser().encode(text, config.max_length, &mut ids);
                    let similarity = cosine(&embed(&encoder, text), &reference(&config, &tensors, &ids));
                    assert!(similarity > 0.9995, "{isa:?}, {layers} layers, {pooling:?}, {text:?}: {similarity}");
                }
            }
        }
    }
}

#[test]
fn instruction_sets_agree_far_closer_than_quantisation() {
    for text in ["a", "b ab, ba", &"ab ".repeat(100)] {
        let scalar = embed(&encoder(3, 5).with_isa(Detected::scalar()), text);
        for isa in Detected::all() {
            let similarity = cosine(&embed(&encoder(3, 5).with_isa(isa), text), &scalar);
            assert!(similarity > 0.99995, "{isa:?}: {similarity}");
        }
    }
}

#[test]
fn a_text_is_embedded_alike_alone_in_a_batch_and_on_threads() {
    let texts: Vec<String> = (0..50).map(|n| "ab! ".repeat(n % 13)).collect();
    for pooling in [Pooling::Mean, Pooling::First] {
        let config = Config { layers: 2, pooling, ..tiny_config() };
        let encoder = Encoder::new(config, tiny_tokeniser(), &random_tensors(&config, 3)).expect("a valid model");
        for threads in [1, 2, 7, 100] {
            let mut vectors = vec![f32::NAN; texts.len() * 64];
            let (encoded, _) = encoder.encode_batch(&texts, threads, &mut vectors).expect("vectors");
            for ((text, one), vector) in texts.iter().zip(&encoded).zip(vectors.chunks_exact(64)) {
                assert_eq!(vector, embed(&encoder, text), "{pooling:?}, {text:?} on {threads} threads");
                assert_eq!(one.truncated, text.len() / 4 * 2 > 30, "{text:?}");
            }
        }
        assert!(encoder.encode_batch(&Vec::<String>::new(), 4, &mut []).is_ok());
    }
}

#[test]
fn calls_at_the_same_time_give_the_same_vectors() {
    let encoder = encoder(2, 4);
    let expected = embed(&encoder, "ab ba b");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(embed(&encoder, "ab ba b"), expected)));
        }
    });
}

#[test]
fn whoever_knows_only_that_it_embeds_gets_the_same() {
    let encoder = encoder(2, 8);
    for (text, truncated) in [("ab ba!", false), (&*"a ".repeat(40), true)] {
        let (embedded, spent) = Embed::embed(&encoder, text).expect("a vector");
        assert_eq!((&*embedded.vector, embedded.truncated), (&*embed(&encoder, text), truncated));
        assert!(spent.forward > spent.tokenise && !spent.tokenise.is_zero());
    }
}

#[test]
fn vectors_have_unit_length_and_the_right_size() {
    let encoder = encoder(1, 9);
    let length: f32 = embed(&encoder, "ab").iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    assert!(matches!(encoder.encode("a", &mut [0.0; 3]), Err(Error::Dimension { expected: 64, got: 3 })));
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let config = tiny_config();
    let whole = random_tensors(&config, 1);
    for name in whole.keys() {
        let mut tensors = whole.clone();
        tensors.remove(name);
        let message = Encoder::new(config, tiny_tokeniser(), &tensors).expect_err("a tensor is missing").to_string();
        assert!(message.contains(name.as_str()), "{message}");
        let mut tensors = whole.clone();
        tensors.insert(name.clone(), vec![0.0; 63]);
        assert!(Encoder::new(config, tiny_tokeniser(), &tensors).is_err(), "{name} of 63 values");
        let mut tensors = whole.clone();
        tensors.entry(name.clone()).and_modify(|values| values[0] = f32::NAN);
        assert!(Encoder::new(config, tiny_tokeniser(), &tensors).is_err(), "{name} with NaN");
    }
}

#[test]
fn architectures_beyond_the_kernels_are_refused() {
    let good = tiny_config();
    for bad in [
        Config { hidden: 48, ..good },
        Config { hidden: 0, ..good },
        Config { hidden: usize::MAX, ..good },
        Config { heads: 0, ..good },
        Config { heads: 4, ..good },
        Config { heads: 3, ..good },
        Config { layers: 0, ..good },
        Config { layers: 1 << 30, ..good },
        Config { intermediate: 100, ..good },
        Config { max_length: good.positions + 1, ..good },
        Config { max_length: 1, ..good },
        Config { epsilon: f32::NAN, ..good },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

fn saved(seed: u64) -> (std::path::PathBuf, Vec<u8>) {
    let path = std::env::temp_dir().join(format!("nearhit-encoder-{}-{seed}", std::process::id()));
    encoder(1, seed).save(&path).expect("the file is written");
    let bytes = std::fs::read(&path).expect("the file is there");
    (path, bytes)
}

#[test]
fn what_was_saved_is_loaded() {
    let (path, _) = saved(21);
    let loaded = Encoder::load(&path).expect("the file is whole");
    std::fs::remove_file(&path).expect("the file is there");
    assert_eq!(embed(&loaded, "ab ba"), embed(&encoder(1, 21), "ab ba"));
    assert!(matches!(Encoder::load(&path), Err(Error::Io { .. })));
}

#[test]
fn damage_anywhere_is_noticed() {
    let (path, bytes) = saved(22);
    for at in (0..bytes.len()).step_by(997).chain([0, 8, 12, bytes.len() - 1]) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(file::parse(&damaged).is_err(), "byte {at}");
        assert!(file::parse(&bytes[..at]).is_err(), "cut at {at}");
    }
    std::fs::write(&path, &bytes[..100]).expect("the file is written");
    assert!(matches!(Encoder::load(&path), Err(Error::Corrupt { .. })));
    std::fs::remove_file(&path).expect("the file is there");
}

/// A forged file: its checksum is right, its content is not.
fn forge(bytes: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut forged = bytes[..bytes.len() - 32].to_vec();
    forged[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let hash = *blake3::hash(&forged).as_bytes();
    forged.extend(hash);
    forged
}

#[test]
fn forged_sizes_are_refused_without_allocating_for_them() {
    let (path, bytes) = saved(23);
    std::fs::remove_file(&path).expect("the file is there");
    for field in 0..18 {
        for value in [0, 3, 1 << 16, u32::MAX / 2, u32::MAX] {
            // Any answer but a panic; switches and small numbers may happen to be valid.
            if let Ok((config, tokeniser, weights)) = file::parse(&forge(&bytes, 12 + 4 * field, value)) {
                assert!(config.check().is_ok());
                drop(Tokeniser::new(tokeniser).map(|_| weights));
            }
        }
    }
    for field in [0, 2, 3, 5] {
        assert!(file::parse(&forge(&bytes, 12 + 4 * field, u32::MAX)).is_err(), "size {field}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_are_no_model(mut bytes in prop::collection::vec(any::<u8>(), 0..600), sealed: bool) {
        if sealed {
            bytes.splice(0..0, *b"nearhENC\x01\0\0\0");
            let hash = *blake3::hash(&bytes).as_bytes();
            bytes.extend(hash);
        }
        prop_assert!(file::parse(&bytes).is_err());
    }

    #[test]
    fn any_text_has_a_vector(text in "[\\x00-\\x{10FFFF}]{0,60}") {
        let vector = embed(&encoder(1, 2), &text);
        prop_assert!(vector.iter().all(|v| v.is_finite()));
    }
}
