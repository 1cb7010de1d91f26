//! Float kernels of the encoder: layer norm, GELU, quantisation of activations, attention.
//!
//! Each is written once over sixteen lanes and compiled for every instruction set; a
//! [`Detected`](crate::simd::Detected) picks the copy at run time.

#![expect(unsafe_code, reason = "calls of functions that enable vector features")]
#![expect(clippy::inline_always, reason = "a kernel must be compiled inside the function that enables its features")]

mod attention;
#[cfg(target_arch = "x86_64")]
mod attention_bf16;
mod lanes;
mod rows;
#[cfg(test)]
mod tests;

pub(crate) use attention::{AttentionArena, attend};
pub(crate) use rows::{gelu_quantise_rows, layer_norm_rows, quantise_rows};

/// Compiles a generic kernel for every instruction set and dispatches to the copy for `isa`.
macro_rules! per_isa {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $kernel:ident) => {
        $(#[$doc])*
        $visible fn $name(isa: $crate::simd::Detected, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $type),*) {
                $kernel::<$crate::simd::encode::lanes::Avx512>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) {
                $kernel::<$crate::simd::encode::lanes::Avx2>($($arg),*);
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon($($arg: $type),*) {
                $kernel::<$crate::simd::encode::lanes::Neon>($($arg),*);
            }
            match isa.isa() {
                // SAFETY: `Detected` exists with this `Isa` only where the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                $crate::simd::Isa::Neon => unsafe { neon($($arg),*) },
                _ => $kernel::<$crate::simd::encode::lanes::Portable>($($arg),*),
            }
        }
    };
}
use per_isa;
