//! Instruction sets that this processor was found to have: the proof that the encoder's kernels ask for.

use super::Isa;

/// An [`Isa`] with every feature that the encoder's kernels use on this processor.
///
/// There is no other way to make one than to look, so whoever holds one may call the kernels compiled for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detected(Isa);

impl Detected {
    /// The process's choice ([`super::isa`], which `NEARHIT_ISA` overrides), or the next lower one that has all
    /// features the encoder needs.
    pub fn best() -> Self {
        let wanted = super::isa();
        let choices = [Isa::Neon, Isa::Avx512, Isa::Avx2, Isa::Scalar].into_iter();
        let mut allowed = choices.skip_while(|&isa| isa != wanted);
        allowed.find_map(Self::look).unwrap_or(Self(Isa::Scalar))
    }

    /// Every set that this processor has, the reference first.
    pub fn all() -> impl Iterator<Item = Self> {
        [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon].into_iter().filter_map(Self::look)
    }

    /// Portable code, which every processor runs.
    pub fn scalar() -> Self {
        Self(Isa::Scalar)
    }

    /// Which one it is.
    pub fn isa(self) -> Isa {
        self.0
    }

    /// Whether it comes with AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_bf16(self) -> bool {
        self.0 == Isa::Avx512 && std::is_x86_feature_detected!("avx512bf16")
    }

    #[cfg(target_arch = "x86_64")]
    fn look(isa: Isa) -> Option<Self> {
        use std::is_x86_feature_detected as has;
        let found = match isa {
            Isa::Scalar => true,
            Isa::Avx2 => has!("avx2") && has!("fma"),
            Isa::Avx512 => {
                has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx512vnni")
            }
            Isa::Neon => false,
        };
        found.then_some(Self(isa))
    }

    #[cfg(target_arch = "aarch64")]
    fn look(isa: Isa) -> Option<Self> {
        let found = match isa {
            Isa::Scalar => true,
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Isa::Avx2 | Isa::Avx512 => false,
        };
        found.then_some(Self(isa))
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn look(isa: Isa) -> Option<Self> {
        (isa == Isa::Scalar).then_some(Self(isa))
    }
}

#[cfg(test)]
mod tests {
    use super::Detected;

    #[test]
    fn the_best_is_among_those_found() {
        assert!(Detected::all().any(|isa| isa == Detected::best()));
    }
}
