//! A packed encoder of any bytes is refused or works: no panic, no allocation beyond what the file holds.
//!
//! The checksum would keep the fuzzer out of everything behind it, so it is made right for every input.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nearhit_core::encode::Encoder;

fuzz_target!(|bytes: &[u8]| {
    let _ = Encoder::from_bytes(bytes);
    let mut sealed = b"nearhENC\x01\0\0\0".to_vec();
    sealed.extend_from_slice(bytes);
    let hash = *blake3::hash(&sealed).as_bytes();
    sealed.extend(hash);
    if let Ok(encoder) = Encoder::from_bytes(&sealed) {
        let mut vector = vec![0.0; encoder.config().hidden];
        // Weights of any value may well give no unit vector.
        let _ = encoder.encode("any text at all", &mut vector);
    }
});
