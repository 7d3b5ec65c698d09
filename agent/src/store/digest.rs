//! What the agent believes of all assets of one kind, in 24 bytes: their count
//! and the sum of their state hashes, kept up with each change. Pure.

use contracts::v1::AssetKind;

use crate::asset::StateHash;

/// Count and order-free sum of state hashes. A sum and not XOR, so that two
/// equal hashes do not cancel out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// Assets.
    pub count: u64,
    /// Sum of their hashes as numbers in network byte order, modulo 2^128.
    pub sum: u128,
}

impl Digest {
    /// An asset with this hash came.
    pub fn add(&mut self, hash: &StateHash) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(*hash));
    }

    /// An asset with this hash went.
    pub fn subtract(&mut self, hash: &StateHash) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(u128::from_be_bytes(*hash));
    }

    /// As a heartbeat carries it.
    #[must_use]
    pub fn of_kind(&self, kind: AssetKind) -> contracts::v1::KindDigest {
        contracts::v1::KindDigest {
            kind: kind.into(),
            count: self.count,
            sum: self.sum.to_be_bytes().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_equal_hashes_do_not_cancel_out() {
        let hashes = [[0xff; 16], [0xff; 16], [1; 16], [0; 16]];
        let mut forward = Digest::default();
        hashes.iter().for_each(|hash| forward.add(hash));
        let mut backward = Digest::default();
        hashes.iter().rev().for_each(|hash| backward.add(hash));
        assert_eq!(forward, backward);
        assert_eq!(forward.count, 4);
        assert_ne!(forward.sum, 0);
        for hash in &hashes[1..] {
            forward.subtract(hash);
        }
        assert_eq!(forward, Digest { count: 1, sum: u128::MAX });
    }
}
