//! Randomness that can be repeated.

use rand::{SeedableRng, rngs::StdRng};

/// Variable that repeats a run with the seed that an earlier one printed.
const VARIABLE: &str = "ASSETTRACK_TEST_SEED";

/// The seed of a randomised test: a new one each run, printed, so that a failed
/// run can be repeated with `ASSETTRACK_TEST_SEED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// Takes the seed from `ASSETTRACK_TEST_SEED`, else draws one, and prints it;
    /// the test harness shows the line when the test fails.
    ///
    /// # Panics
    /// When the variable is set and is no unsigned 64-bit number.
    pub fn draw() -> Self {
        let seed = match std::env::var(VARIABLE) {
            Ok(text) => match text.parse() {
                Ok(seed) => Self(seed),
                Err(error) => panic!("{VARIABLE}={text}: {error}"),
            },
            Err(_) => Self(rand::random()),
        };
        println!("seed: repeat with {VARIABLE}={}", seed.0);
        seed
    }

    /// A generator that yields the same values for the same seed.
    pub fn rng(self) -> StdRng {
        StdRng::seed_from_u64(self.0)
    }

    /// The number itself, for a program that is told its seed.
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::Seed;

    #[test]
    fn a_seed_repeats_its_values() {
        let values = |seed: Seed| {
            let mut rng = seed.rng();
            [rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(values(Seed(7)), values(Seed(7)));
        assert_ne!(values(Seed(7)), values(Seed(8)));
    }
}
