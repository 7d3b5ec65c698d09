//! What an agent believes of all assets of one kind: their count, and the sum of
//! their state hashes (event.proto, `KindDigest`). Pure.

use contracts::v1::{AssetKind, KindDigest};

use super::pack::StateHash;

/// Count and sum modulo 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Assets.
    pub count: u64,
    /// Sum of their hashes as numbers in network byte order.
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
    pub fn of_kind(&self, kind: AssetKind) -> KindDigest {
        KindDigest { kind: kind.into(), count: self.count, sum: self.sum.to_be_bytes().to_vec() }
    }
}
