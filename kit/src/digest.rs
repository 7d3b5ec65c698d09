//! The hash of an asset's state, and the digest of all assets of one kind on a
//! node in 24 bytes: their count and the sum of their hashes, kept up with each
//! change. Agents and the processor keep one each, and must agree to the letter.

use contracts::v1::AssetKind;
use sha2::{Digest as _, Sha256};

use crate::queue::STATE_HASH_BYTES;

/// Hash of everything that an agent says of an asset.
pub type StateHash = [u8; STATE_HASH_BYTES];

/// First 16 bytes of SHA-256 over kind, key, name and details, each with its
/// length before it, so that no two states share an encoding. The details are
/// encoded by prost, which is deterministic as no message here has a map.
#[must_use]
pub fn state_hash(kind: AssetKind, natural_key: &str, display_name: &str, details: &[u8]) -> StateHash {
    let mut hasher = Sha256::new();
    hasher.update(b"assettrack.state.v1\0");
    hasher.update((kind as i32).to_be_bytes());
    for part in [natural_key.as_bytes(), display_name.as_bytes(), details] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let mut hash = StateHash::default();
    hash.copy_from_slice(&digest[..STATE_HASH_BYTES]);
    hash
}

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

    /// As it is carried by a heartbeat.
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
    fn the_hash_knows_every_part_and_their_borders() {
        let hash = state_hash(AssetKind::Disk, "key", "name", b"details");
        // Agents and inventories in use depend on it; computed with Python's hashlib.
        assert_eq!(hash, 0xfd1cc36ce24ebe125fcd4b48e0cb4a2e_u128.to_be_bytes());
        let others: [(AssetKind, &str, &str, &[u8]); 5] = [
            (AssetKind::Package, "key", "name", b"details"),
            (AssetKind::Disk, "ke", "name", b"details"),
            (AssetKind::Disk, "ke", "yname", b"details"),
            (AssetKind::Disk, "key", "named", b"etails"),
            (AssetKind::Disk, "key", "name", b""),
        ];
        for (kind, key, name, details) in others {
            assert_ne!(state_hash(kind, key, name, details), hash);
        }
    }

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
