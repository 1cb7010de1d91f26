//! Any two texts are compared without a panic, the same way round as the other, and a text with itself is accepted.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nearhit_core::text::guards;
use nearhit_core::verify::{Candidate, Judge, Policy, Query};

fuzz_target!(|texts: (&str, &str, u8)| {
    let (query, candidate, nearness) = texts;
    let there = guards::judge(query, candidate);
    let back = guards::judge(candidate, query);
    assert_eq!(there.reasons.is_empty(), back.reasons.is_empty(), "{:?} / {:?}", there.reasons, back.reasons);
    assert!(guards::judge(query, query).reasons.is_empty());
    let similarity = f32::from(nearness) / 255.0;
    let asked = Query::new(query, &[]);
    let decision = Judge::new(Policy::Guarded).judge(&asked, Candidate { text: candidate, vector: &[], similarity });
    assert!((0.0..=1.0).contains(&decision.confidence));
});
