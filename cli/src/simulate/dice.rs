//! Chance that is the same for the same numbers, on every machine and in every
//! version: splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
//! Generators, 2014). A generator costs nothing to make, so that each asset has
//! one of its own and none is kept.

use uuid::{Builder, Uuid};

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A generator.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The generator of what these numbers name together.
    pub fn of(numbers: &[u64]) -> Self {
        let mut dice = Self(GAMMA);
        for number in numbers {
            dice = Self(dice.roll() ^ number);
        }
        dice
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        // The upper half of the product; its bias is below 2^-32.
        (((self.roll() >> 32) * u64::from(limit)) >> 32) as u32
    }

    /// Whether something happens that does so with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        // 53 bits are what a double holds.
        ((self.roll() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    /// One of these, of which there must be one.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(u32::try_from(items.len()).unwrap_or(u32::MAX)) as usize]
    }

    /// 16 bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.roll().to_be_bytes());
        bytes[8..].copy_from_slice(&self.roll().to_be_bytes());
        bytes
    }

    /// A UUID of version 4.
    pub fn uuid(&mut self) -> Uuid {
        Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// A UUID of version 7 of this time, in milliseconds since the epoch.
    pub fn uuid_at(&mut self, millis: u64) -> Uuid {
        let mut random = [0; 10];
        random.copy_from_slice(&self.bytes()[..10]);
        Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_numbers_give_the_same_rolls_and_others_give_others() {
        let rolls = |numbers: &[u64]| {
            let mut dice = Dice::of(numbers);
            [dice.roll(), dice.roll()]
        };
        assert_eq!(rolls(&[1, 2]), rolls(&[1, 2]));
        assert_ne!(rolls(&[1, 2]), rolls(&[2, 1]));
        assert_ne!(rolls(&[1, 2]), rolls(&[1, 2, 0]));
        // The first output of the published generator for seed 0.
        assert_eq!(Dice(0).roll(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn chances_are_kept() {
        let mut dice = Dice::of(&[7]);
        assert_eq!((0..1000).filter(|_| dice.happens(0.0)).count(), 0);
        assert_eq!((0..1000).filter(|_| dice.happens(1.0)).count(), 1000);
        let fifth = (0..10_000).filter(|_| dice.happens(0.2)).count();
        assert!((1800..2200).contains(&fifth), "{fifth}");
        assert!((0..1000).all(|_| dice.below(3) < 3));
    }

    #[test]
    fn identifiers_are_of_their_version() {
        let mut dice = Dice::of(&[7]);
        assert_eq!(dice.uuid().get_version_num(), 4);
        let seven = dice.uuid_at(1_767_225_600_000);
        assert_eq!(seven.get_version_num(), 7);
        assert_eq!(seven.get_timestamp().unwrap().to_unix().0, 1_767_225_600);
    }
}
