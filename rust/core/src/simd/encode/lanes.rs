//! Sixteen floats at a time, on each instruction set: the kernels beside this file are written once over
//! [`Lanes`] and compiled inside a function with the features of each set.

#![expect(unsafe_code, reason = "vector intrinsics")]

/// Sixteen `f32` in registers.
///
/// The vector implementations may only be used where the processor has their features. That is kept by
/// construction: they are private to the parent module, whose `per_isa!` names them only inside a function
/// that enables those features, reached only through a `Detected`.
pub(super) trait Lanes: Copy {
    fn splat(value: f32) -> Self;
    fn load(from: &[f32; 16]) -> Self;
    fn store(self, to: &mut [f32; 16]);
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    /// `self * factor + term`; fused where the instruction set has it.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// To the nearest integer, ties to even. For values within 31 bits.
    fn round(self) -> Self;
    /// `self * 2^exponent`, for integral exponents in -126..=127.
    fn scale(self, exponent: Self) -> Self;
    /// Rounds (ties to even) and clamps to bytes.
    fn to_bytes(self, to: &mut [u8; 16]);
    fn sum(self) -> f32;
    fn largest(self) -> f32;
    fn smallest(self) -> f32;

    /// e to the power of each lane, within 2e-7 (relative), from -87 (clamped) to 88.
    ///
    /// Range reduction by ln 2 in two parts and the Taylor-like polynomial of Cephes' `expf`.
    #[inline(always)]
    fn exp(self) -> Self {
        let x = self.max(Self::splat(-87.0));
        let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(Self::splat(-0.693_359_4), x);
        let r = n.mul_add(Self::splat(2.121_944_4e-4), r);
        let mut p = Self::splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
            p = p.mul_add(r, Self::splat(c));
        }
        p.mul_add(r.mul(r), r).add(Self::splat(1.0)).scale(n)
    }
}

/// Plain arrays: the reference, and what other processors run (LLVM vectorises it for their baseline).
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 16]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        Self(out)
    }

    /// Halves 16 lanes down to one, in the order of the vector units.
    #[inline(always)]
    fn fold(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = self.0;
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                lanes[i] = f(lanes[i], lanes[i + width]);
            }
        }
        lanes[0]
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 16])
    }

    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        *to = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul(factor).add(term)
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }

    #[inline(always)]
    fn scale(self, exponent: Self) -> Self {
        self.zip(exponent, |a, n| a * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn to_bytes(self, to: &mut [u8; 16]) {
        *to = self.0.map(|v| v.round_ties_even() as u8);
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.fold(|a, b| a + b)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        self.fold(f32::max)
    }

    #[inline(always)]
    fn smallest(self) -> f32 {
        self.fold(f32::min)
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::{
        float32x4_t, vaddq_f32, vaddq_s32, vaddvq_f32, vcombine_s16, vcvtnq_s32_f32, vdivq_f32, vdupq_n_f32,
        vdupq_n_s32, vfmaq_f32, vld1q_f32, vmaxq_f32, vmaxvq_f32, vminq_f32, vminvq_f32, vmulq_f32, vqmovn_s32,
        vqmovun_s16, vreinterpretq_f32_s32, vrndnq_f32, vshlq_n_s32, vst1_u8, vst1q_f32,
    };

    use super::Lanes;

    /// Four 128-bit registers.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Neon([float32x4_t; 4]);

    impl Neon {
        #[inline(always)]
        fn zip(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
            Self(std::array::from_fn(|part| f(self.0[part], other.0[part])))
        }

        /// Folds the four registers into one.
        #[inline(always)]
        fn fold(self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> float32x4_t {
            f(f(self.0[0], self.0[2]), f(self.0[1], self.0[3]))
        }
    }

    impl Lanes for Neon {
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: only used inside functions that enable NEON (see the trait).
            Self([unsafe { vdupq_n_f32(value) }; 4])
        }

        #[inline(always)]
        fn load(from: &[f32; 16]) -> Self {
            // SAFETY: as in `splat`; the array is four times four floats.
            Self(std::array::from_fn(|part| unsafe { vld1q_f32(from.as_ptr().add(4 * part)) }))
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; 16]) {
            for (part, value) in self.0.into_iter().enumerate() {
                // SAFETY: as in `load`.
                unsafe { vst1q_f32(to.as_mut_ptr().add(4 * part), value) };
            }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            self.zip(other, |a, b| unsafe { vaddq_f32(a, b) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            self.zip(other, |a, b| unsafe { vmulq_f32(a, b) })
        }

        #[inline(always)]
        fn div(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            self.zip(other, |a, b| unsafe { vdivq_f32(a, b) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            self.zip(other, |a, b| unsafe { vminq_f32(a, b) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            self.zip(other, |a, b| unsafe { vmaxq_f32(a, b) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: as in `splat`.
            let fused = |part| unsafe { vfmaq_f32(term.0[part], self.0[part], factor.0[part]) };
            Self(std::array::from_fn(fused))
        }

        #[inline(always)]
        fn round(self) -> Self {
            // SAFETY: as in `splat`.
            Self(self.0.map(|value| unsafe { vrndnq_f32(value) }))
        }

        #[inline(always)]
        fn scale(self, exponent: Self) -> Self {
            // SAFETY: as in `splat`.
            self.zip(exponent, |value, exponent| unsafe {
                let biased = vaddq_s32(vcvtnq_s32_f32(exponent), vdupq_n_s32(127));
                vmulq_f32(value, vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
            })
        }

        #[inline(always)]
        fn to_bytes(self, to: &mut [u8; 16]) {
            // SAFETY: as in `splat`. Narrowing saturates, signed to 16 bits, then unsigned to 8.
            let words = self.0.map(|value| unsafe { vqmovn_s32(vcvtnq_s32_f32(value)) });
            // SAFETY: as in `splat`; the array is twice eight bytes.
            unsafe {
                vst1_u8(to.as_mut_ptr(), vqmovun_s16(vcombine_s16(words[0], words[1])));
                vst1_u8(to.as_mut_ptr().add(8), vqmovun_s16(vcombine_s16(words[2], words[3])));
            }
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: as in `splat`.
            unsafe { vaddvq_f32(self.fold(|a, b| vaddq_f32(a, b))) }
        }

        #[inline(always)]
        fn largest(self) -> f32 {
            // SAFETY: as in `splat`.
            unsafe { vmaxvq_f32(self.fold(|a, b| vmaxq_f32(a, b))) }
        }

        #[inline(always)]
        fn smallest(self) -> f32 {
            // SAFETY: as in `splat`.
            unsafe { vminvq_f32(self.fold(|a, b| vminq_f32(a, b))) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128, __m256, __m512, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_add_ps, _mm_cvtss_f32, _mm_max_ps,
        _mm_min_ps, _mm_movehl_ps, _mm_packus_epi16, _mm_shuffle_ps, _mm_storeu_si128, _mm256_add_epi32, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cvtps_epi32, _mm256_div_ps,
        _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps,
        _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32, _mm256_permute4x64_epi64, _mm256_round_ps, _mm256_set1_epi32,
        _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm512_add_ps, _mm512_cvtps_epi32, _mm512_cvtusepi32_epi8,
        _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
        _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_reduce_min_ps, _mm512_roundscale_ps, _mm512_scalef_ps,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::Lanes;

    /// One 512-bit register.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    impl Lanes for Avx512 {
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: only used inside functions that enable AVX-512 (see the trait).
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(from: &[f32; 16]) -> Self {
            // SAFETY: as in `splat`; the array is 16 floats.
            Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; 16]) {
            // SAFETY: as in `splat`; the array is 16 floats.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn div(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm512_div_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
        }

        #[inline(always)]
        fn round(self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
        }

        #[inline(always)]
        fn scale(self, exponent: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm512_scalef_ps(self.0, exponent.0) })
        }

        #[inline(always)]
        fn to_bytes(self, to: &mut [u8; 16]) {
            // SAFETY: as in `splat`; the array is 16 bytes.
            unsafe {
                let integers = _mm512_cvtps_epi32(_mm512_max_ps(self.0, _mm512_setzero_ps()));
                _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtusepi32_epi8(integers));
            }
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: as in `splat`.
            unsafe { _mm512_reduce_add_ps(self.0) }
        }

        #[inline(always)]
        fn largest(self) -> f32 {
            // SAFETY: as in `splat`.
            unsafe { _mm512_reduce_max_ps(self.0) }
        }

        #[inline(always)]
        fn smallest(self) -> f32 {
            // SAFETY: as in `splat`.
            unsafe { _mm512_reduce_min_ps(self.0) }
        }
    }

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    impl Avx2 {
        /// Applies `f` to the halves until one float is left.
        #[inline(always)]
        fn fold(self, f: impl Fn(__m128, __m128) -> __m128, g: impl Fn(__m256, __m256) -> __m256) -> f32 {
            // SAFETY: only used inside functions that enable AVX2 (see the trait).
            unsafe {
                let eight = g(self.0, self.1);
                let four = f(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = f(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(f(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
    }

    impl Lanes for Avx2 {
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: only used inside functions that enable AVX2 and FMA (see the trait).
            unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }

        #[inline(always)]
        fn load(from: &[f32; 16]) -> Self {
            // SAFETY: as in `splat`; the array is 16 floats.
            unsafe { Self(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; 16]) {
            // SAFETY: as in `splat`; the array is 16 floats.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self.0);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
            }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn div(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe { Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: as in `splat`.
            unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, term.0), _mm256_fmadd_ps(self.1, factor.1, term.1)) }
        }

        #[inline(always)]
        fn round(self) -> Self {
            const MODE: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: as in `splat`.
            unsafe { Self(_mm256_round_ps::<MODE>(self.0), _mm256_round_ps::<MODE>(self.1)) }
        }

        #[inline(always)]
        fn scale(self, exponent: Self) -> Self {
            #[inline(always)]
            fn half(value: __m256, exponent: __m256) -> __m256 {
                // SAFETY: as in `splat`.
                unsafe {
                    let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
                    _mm256_mul_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
                }
            }
            Self(half(self.0, exponent.0), half(self.1, exponent.1))
        }

        #[inline(always)]
        fn to_bytes(self, to: &mut [u8; 16]) {
            // SAFETY: as in `splat`; the array is 16 bytes. Packing saturates, signed to 16 bits, then unsigned to 8,
            // and works within 128-bit halves, which the permutation undoes.
            unsafe {
                let words = _mm256_packs_epi32(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
                let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
                let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
            }
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: as in `splat`.
            self.fold(|a, b| unsafe { _mm_add_ps(a, b) }, |a, b| unsafe { _mm256_add_ps(a, b) })
        }

        #[inline(always)]
        fn largest(self) -> f32 {
            // SAFETY: as in `splat`.
            self.fold(|a, b| unsafe { _mm_max_ps(a, b) }, |a, b| unsafe { _mm256_max_ps(a, b) })
        }

        #[inline(always)]
        fn smallest(self) -> f32 {
            // SAFETY: as in `splat`.
            self.fold(|a, b| unsafe { _mm_min_ps(a, b) }, |a, b| unsafe { _mm256_min_ps(a, b) })
        }
    }
}
