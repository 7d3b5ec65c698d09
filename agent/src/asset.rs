//! One asset as a probe found it, kept within the limits of the contracts.

use contracts::v1::{AssetDetails, AssetKind, Relation, RelationType, asset_details::Details};
use contracts::walk::{Walk, Walker};
use kit::identity::kind_of;
use kit::queue::{MAX_DISPLAY_NAME_BYTES, MAX_NATURAL_KEY_BYTES};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::text::{scrub, truncate};

/// Most bytes of any one text in the details.
const MAX_TEXT_BYTES: usize = 4096;
/// Most entries of any one list in the details.
const MAX_LIST_ENTRIES: usize = 512;
/// Most relations of one asset.
const MAX_RELATIONS: usize = 64;
/// Most bytes of encoded details; with the longest key and name an observation
/// then always fits into a batch of 64 KiB.
const MAX_DETAILS_BYTES: usize = 48 * 1024;

/// An asset that a scan found.
#[derive(Debug, Clone, PartialEq)]
pub struct ScannedAsset {
    /// Identifies it among those of its kind on the node.
    pub natural_key: String,
    /// Name for people.
    pub display_name: String,
    /// What was seen of it; its variant decides the kind.
    pub details: Details,
    /// How it relates to others of the node.
    pub relations: Vec<Relation>,
}

impl ScannedAsset {
    /// An asset with this key, name and state.
    pub fn new(natural_key: impl Into<String>, display_name: impl Into<String>, details: Details) -> Self {
        Self {
            natural_key: natural_key.into(),
            display_name: display_name.into(),
            details,
            relations: Vec::new(),
        }
    }

    /// Adds a relation to another asset of the node.
    #[must_use]
    pub fn related(
        mut self,
        relation: RelationType,
        kind: AssetKind,
        natural_key: impl Into<String>,
    ) -> Self {
        self.relations.push(Relation {
            r#type: relation.into(),
            kind: kind.into(),
            natural_key: natural_key.into(),
        });
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> AssetKind {
        kind_of(&self.details)
    }

    /// The details as the contracts carry them.
    #[must_use]
    pub fn to_details(&self) -> AssetDetails {
        AssetDetails { details: Some(self.details.clone()), relations: self.relations.clone() }
    }

    /// Of its details and relations as the contracts carry them: exactly where it
    /// could matter, which takes a copy, else at most this.
    fn encoded_len(&self) -> usize {
        // A relation has a tag and its length before it.
        const BEFORE_EACH: usize = 16;
        let relations: usize =
            self.relations.iter().map(|relation| relation.encoded_len() + BEFORE_EACH).sum();
        let most = self.details.encoded_len() + relations;
        if most <= MAX_DETAILS_BYTES { most } else { self.to_details().encoded_len() }
    }

    /// Makes the asset obey the limits of the contracts; nothing is dropped,
    /// only shortened. Returns what was cut, for a person.
    pub fn limit(&mut self) -> Option<String> {
        let mut cut = limit_key(&mut self.natural_key);
        scrub(&mut self.display_name);
        if self.display_name.trim().is_empty() {
            self.display_name.clone_from(&self.natural_key);
        }
        cut |= truncate(&mut self.display_name, MAX_DISPLAY_NAME_BYTES);
        for relation in &mut self.relations {
            // The key of the other is cut as the other cuts it.
            limit_key(&mut relation.natural_key);
        }
        self.relations.sort_by(|one, other| order(one).cmp(&order(other)));
        self.relations.dedup();
        cut |= self.relations.len() > MAX_RELATIONS;
        self.relations.truncate(MAX_RELATIONS);
        let (mut text_limit, mut list_limit) = (MAX_TEXT_BYTES, MAX_LIST_ENTRIES);
        loop {
            let mut limits = Limits { text_bytes: text_limit, list_entries: list_limit, cut: false };
            self.details.walk(&mut limits);
            cut |= limits.cut;
            if self.encoded_len() <= MAX_DETAILS_BYTES {
                break;
            }
            // Lists go first: 512 entries of 4 KiB are what overflows.
            if list_limit > 16 {
                list_limit /= 2;
            } else if text_limit > 16 {
                text_limit /= 2;
            } else {
                // Long keys of others; these go last.
                self.relations.pop();
            }
        }
        cut.then(|| format!("{} is cut to the lengths that can be reported", self.display_name))
    }
}

fn order(relation: &Relation) -> (i32, i32, &str) {
    (relation.r#type, relation.kind, &relation.natural_key)
}

/// A key that is too long keeps its beginning and gets the hash of the whole,
/// so that two long keys stay two.
fn limit_key(key: &mut String) -> bool {
    scrub(key);
    if key.len() <= MAX_NATURAL_KEY_BYTES {
        return false;
    }
    let whole = Sha256::digest(key.as_bytes());
    let suffix: String = whole[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    truncate(key, MAX_NATURAL_KEY_BYTES - suffix.len() - 1);
    key.push('~');
    key.push_str(&suffix);
    true
}

/// Cuts and cleans what it is shown.
struct Limits {
    text_bytes: usize,
    list_entries: usize,
    cut: bool,
}

impl Walker for Limits {
    fn text(&mut self, text: &mut String) {
        scrub(text);
        self.cut |= truncate(text, self.text_bytes);
    }

    fn texts(&mut self, texts: &mut Vec<String>) {
        let most = self.longest_list(texts.len());
        texts.truncate(most);
        texts.iter_mut().for_each(|text| self.text(text));
    }

    fn longest_list(&mut self, length: usize) -> usize {
        self.cut |= length > self.list_entries;
        self.list_entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::v1::{FilesystemDetails, KernelModuleDetails, PackageDetails};

    fn package(name: &str, version: &str) -> ScannedAsset {
        let details = PackageDetails { package: name.into(), version: version.into(), ..Default::default() };
        ScannedAsset::new(format!("dpkg/{name}:all"), name, Details::Package(details))
    }

    #[test]
    fn what_fits_is_left_alone() {
        let mut asset = package("openssl", "3.0.17");
        assert_eq!(asset.limit(), None);
        assert_eq!(asset, package("openssl", "3.0.17"));
    }

    #[test]
    fn long_keys_stay_apart() {
        let mut one = package(&format!("{}1", "x".repeat(5000)), "1");
        let mut two = package(&format!("{}2", "x".repeat(5000)), "1");
        assert!(one.limit().is_some() && two.limit().is_some());
        assert_ne!(one.natural_key, two.natural_key);
        assert_eq!(one.natural_key.len(), MAX_NATURAL_KEY_BYTES);
        assert_eq!(one.display_name.len(), MAX_DISPLAY_NAME_BYTES);
    }

    #[test]
    fn nothing_is_too_large_to_report() {
        let options: Vec<String> = (0..2000).map(|n| format!("{n}={}", "ä".repeat(4000))).collect();
        let filesystem = FilesystemDetails { source: "s\0".repeat(9000), options, ..Default::default() };
        let used_by = (0..100_000).map(|n| format!("module_{n}")).collect();
        let module = KernelModuleDetails { used_by, ..Default::default() };
        for details in [Details::Filesystem(filesystem), Details::KernelModule(module)] {
            let mut asset = ScannedAsset::new("key", "", details);
            assert!(asset.limit().is_some());
            assert!(asset.to_details().encoded_len() <= MAX_DETAILS_BYTES);
            assert_eq!(asset.display_name, "key");
            let once = asset.clone();
            asset.limit();
            assert_eq!(asset, once, "a second look must not differ");
        }
    }
}
