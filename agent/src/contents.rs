//! The packages in an image, in parts that fit into batches. Pure.

use contracts::v1::{ImageContent, PackageDetails};
use contracts::walk::{Walk, Walker};
use kit::queue::STATE_HASH_BYTES;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::probe::ImageContents;
use crate::text::{scrub, truncate};
use kit::digest::StateHash;

/// Most packages of a part.
const MAX_PART_PACKAGES: usize = 400;
/// Most bytes of the packages of a part: with the longest digest it still fits
/// into a batch of 64 KiB.
const MAX_PART_BYTES: usize = 48 * 1024;
/// Most bytes of one text of a package in an image.
const MAX_TEXT_BYTES: usize = 512;

/// Hash of the whole list, and its parts; an image without packages has one
/// empty part. Only what tells packages and their versions apart is kept.
#[must_use]
pub fn parts(contents: &ImageContents) -> (StateHash, Vec<ImageContent>) {
    let mut parts: Vec<Vec<PackageDetails>> = vec![Vec::new()];
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    for package in &contents.packages {
        let package = essence(package);
        let encoded = package.encode_length_delimited_to_vec();
        hasher.update(&encoded);
        let fits = |part: &Vec<PackageDetails>| {
            part.len() < MAX_PART_PACKAGES && bytes + encoded.len() < MAX_PART_BYTES
        };
        if !parts.last().is_some_and(fits) {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += encoded.len() + 1;
        if let Some(part) = parts.last_mut() {
            part.push(package);
        }
    }
    let mut hash = StateHash::default();
    hash.copy_from_slice(&hasher.finalize()[..STATE_HASH_BYTES]);
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let parts = (1..).zip(parts).map(|(part, packages)| ImageContent {
        image_digest: contents.image_digest.clone(),
        content_hash: hash.to_vec(),
        part,
        parts: count,
        packages,
        source: contents.source.into(),
    });
    (hash, parts.collect())
}

fn essence(package: &PackageDetails) -> PackageDetails {
    let mut essence = PackageDetails {
        package: package.package.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        manager: package.manager.clone(),
        source: package.source.clone(),
        source_version: package.source_version.clone(),
        license: package.license.clone(),
        ..PackageDetails::default()
    };
    essence.walk(&mut Shorten);
    essence
}

struct Shorten;

impl Walker for Shorten {
    fn text(&mut self, text: &mut String) {
        scrub(text);
        truncate(text, MAX_TEXT_BYTES);
    }

    fn texts(&mut self, texts: &mut Vec<String>) {
        texts.iter_mut().for_each(|text| self.text(text));
    }

    fn longest_list(&mut self, length: usize) -> usize {
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::v1::ImageContentSource;

    fn contents(count: usize, version: &str) -> ImageContents {
        let package = |n: usize| PackageDetails {
            package: format!("package-{n:05}"),
            version: version.repeat(20),
            maintainer: "somebody".into(),
            ..PackageDetails::default()
        };
        ImageContents {
            image_digest: "sha256:aa".into(),
            packages: (0..count).map(package).collect(),
            source: ImageContentSource::Layers,
        }
    }

    #[test]
    fn a_list_is_split_and_stays_whole() {
        for count in [0, 1, 400, 401, 5000] {
            let (hash, split) = parts(&contents(count, "1.2.3"));
            assert_eq!(split.iter().map(|part| part.packages.len()).sum::<usize>(), count);
            assert_eq!(
                split.iter().map(|part| part.part).collect::<Vec<_>>(),
                (1..=split[0].parts).collect::<Vec<_>>()
            );
            for part in &split {
                assert_eq!((part.parts as usize, &part.content_hash[..]), (split.len(), &hash[..]));
                assert!(part.encoded_len() < kit::queue::MAX_BATCH_BYTES - 8 * 1024);
                assert!(part.packages.iter().all(|package| package.maintainer.is_empty()));
            }
        }
        assert_ne!(parts(&contents(3, "1")).0, parts(&contents(3, "2")).0);
    }
}
