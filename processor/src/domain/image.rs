//! Packages in container images: which of the lists that agents send counts.
//!
//! An image is its digest, so the first complete list stays. But what was read
//! in the layers of the image, which nobody writes to, takes the place of what
//! was read in a running container.

use contracts::v1::{ImageContentSource, PackageDetails};
use uuid::Uuid;

/// Namespace of the UUIDs of images; drawn once, never to change.
const IMAGES: Uuid = uuid::uuid!("9c0f5a0e-5b43-4c39-8a7f-64d1f2f0a6d3");

/// UUID of an image: version 5 of its digest.
pub fn image_uid(digest: &str) -> Uuid {
    Uuid::new_v5(&IMAGES, digest.as_bytes())
}

/// Which list of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListKey {
    /// The image.
    pub image: Uuid,
    /// `ImageContentSource`.
    pub source: i16,
    /// Hash of the whole list.
    pub content_hash: Vec<u8>,
    /// Its parts.
    pub parts: i32,
}

/// A part of a list, checked.
#[derive(Clone, Debug)]
pub struct Part {
    /// The list.
    pub key: ListKey,
    /// Digest of the image.
    pub digest: String,
    /// Its number, from 1.
    pub number: i32,
    /// What is in it.
    pub packages: Vec<PackageDetails>,
}

/// The complete list of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complete {
    /// The image.
    pub image: Uuid,
    /// The list.
    pub content: i64,
    /// `ImageContentSource`.
    pub source: i16,
}

/// Whether a list from one source takes the place of a complete one.
fn replaces(source: i16, complete: i16) -> bool {
    source == ImageContentSource::Layers as i16 && complete == ImageContentSource::Container as i16
}

/// Parts of lists that can still matter beside the complete ones.
pub fn relevant<'a>(parts: Vec<&'a Part>, complete: &[Complete]) -> Vec<&'a Part> {
    let moot = |part: &Part| {
        let mut of_image = complete.iter().filter(|complete| complete.image == part.key.image);
        of_image.any(|complete| !replaces(part.key.source, complete.source))
    };
    parts.into_iter().filter(|part| !moot(part)).collect()
}

/// The one of several complete lists that stays, for each image: that from the
/// layers, else the first.
pub fn winners(mut complete: Vec<Complete>) -> Vec<Complete> {
    complete.sort_by_key(|one| (one.image, one.source != ImageContentSource::Layers as i16, one.content));
    complete.dedup_by_key(|one| one.image);
    complete
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: i16 = ImageContentSource::Layers as i16;
    const CONTAINER: i16 = ImageContentSource::Container as i16;

    fn part(image: u128, source: i16) -> Part {
        let image = Uuid::from_u128(image);
        let key = ListKey { image, source, content_hash: vec![0; 16], parts: 1 };
        Part { key, digest: String::new(), number: 1, packages: Vec::new() }
    }

    fn complete(image: u128, content: i64, source: i16) -> Complete {
        Complete { image: Uuid::from_u128(image), content, source }
    }

    #[test]
    fn identities_of_images_are_fixed_for_ever() {
        // Stored inventories depend on it; computed with Python's uuid.
        assert_eq!(image_uid("sha256:ab").to_string(), "f1a81e37-2794-5c16-b83c-034165059d12");
    }

    #[test]
    fn the_first_complete_list_stays_unless_the_layers_say_it() {
        for (source, present, matters) in [
            (LAYERS, None, true),
            (CONTAINER, None, true),
            (LAYERS, Some(LAYERS), false),
            (CONTAINER, Some(LAYERS), false),
            (CONTAINER, Some(CONTAINER), false),
            (LAYERS, Some(CONTAINER), true),
        ] {
            let part = part(1, source);
            // That of another image says nothing.
            let mut known = vec![complete(2, 9, LAYERS)];
            known.extend(present.map(|present| complete(1, 3, present)));
            assert_eq!(relevant(vec![&part], &known).len() == 1, matters, "{source} {present:?}");
        }
    }

    #[test]
    fn of_several_complete_lists_one_an_image_wins() {
        let won = winners(vec![
            complete(2, 7, CONTAINER),
            complete(1, 3, CONTAINER),
            complete(1, 5, LAYERS),
            complete(2, 6, CONTAINER),
            complete(1, 4, LAYERS),
        ]);
        assert_eq!(won, [complete(1, 4, LAYERS), complete(2, 6, CONTAINER)]);
    }
}
