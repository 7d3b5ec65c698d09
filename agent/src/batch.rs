//! Packs observations into batches that obey the queue's limits. Pure.

use contracts::v1::{AssetKind, EventBatch, ImageContent, NodeIdentity, Observation, Snapshot};
use kit::queue::{MAX_BATCH_BYTES, MAX_CONTENT_PACKAGES, MAX_OBSERVATIONS, SCHEMA_VERSION};
use prost::{Message, encoding::encoded_len_varint};
use uuid::Uuid;

/// Room kept for the snapshots at the end of a batch: kind and two sequences.
const SNAPSHOT_BYTES: usize = 32;

/// Packs `observations`, in order, into batches of at most 500 observations
/// and 64 KiB, numbered from `first_sequence`. With `snapshot`, the last batch
/// of them says that they are a full listing of that kind; if there are none,
/// one empty batch says so. Contents of images follow, at most 500 packages a
/// batch; each part must fit into a batch by itself.
#[must_use]
pub fn pack(
    node: &NodeIdentity,
    stream: Uuid,
    first_sequence: i64,
    observations: Vec<Observation>,
    snapshot: Option<AssetKind>,
    contents: Vec<ImageContent>,
) -> Vec<EventBatch> {
    let empty = |sequence| EventBatch {
        schema_version: SCHEMA_VERSION,
        node: Some(node.clone()),
        stream: stream.to_string(),
        sequence,
        observations: Vec::new(),
        snapshots: Vec::new(),
        ..EventBatch::default()
    };
    let envelope = empty(i64::MAX).encoded_len() + SNAPSHOT_BYTES;

    let mut batches: Vec<EventBatch> = Vec::new();
    let mut bytes = 0;
    let mut sequence = first_sequence;
    for observation in observations {
        let size = field_len(observation.encoded_len());
        let fits = batches.last().is_some_and(|batch| {
            batch.observations.len() < MAX_OBSERVATIONS && bytes + size <= MAX_BATCH_BYTES
        });
        if !fits {
            batches.push(empty(sequence));
            sequence += 1;
            bytes = envelope;
        }
        bytes += size;
        if let Some(batch) = batches.last_mut() {
            batch.observations.push(observation);
        }
    }
    if let Some(kind) = snapshot {
        if batches.is_empty() {
            batches.push(empty(sequence));
            sequence += 1;
            bytes = envelope;
        }
        if let Some(last) = batches.last_mut() {
            let last_sequence = last.sequence;
            last.snapshots.push(Snapshot { kind: kind.into(), first_sequence, last_sequence });
        }
    }
    let mut packages = 0;
    for part in contents {
        let size = field_len(part.encoded_len());
        let fits = bytes + size <= MAX_BATCH_BYTES && packages + part.packages.len() <= MAX_CONTENT_PACKAGES;
        if batches.is_empty() || !fits {
            batches.push(empty(sequence));
            sequence += 1;
            (bytes, packages) = (envelope, 0);
        }
        bytes += size;
        packages += part.packages.len();
        if let Some(batch) = batches.last_mut() {
            batch.image_contents.push(part);
        }
    }
    batches
}

/// Bytes of a message of `len` bytes as a field with a one-byte tag.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeIdentity {
        NodeIdentity {
            uid: Uuid::from_u128(1).to_string(),
            cluster: "c".repeat(253),
            display_name: "n".repeat(253),
        }
    }

    fn observations(count: usize, key_bytes: usize) -> Vec<Observation> {
        let one = |n| Observation { natural_key: format!("{n:0key_bytes$}"), ..Default::default() };
        (0..count).map(one).collect()
    }

    #[test]
    fn batches_obey_both_limits_and_keep_the_order() {
        for (count, key_bytes) in [(0, 1), (1, 1), (500, 1), (501, 1), (2000, 100), (300, 4096), (3, 60_000)]
        {
            let all = observations(count, key_bytes);
            let batches = pack(&node(), Uuid::from_u128(2), 7, all.clone(), Some(AssetKind::Disk), vec![]);
            for (index, batch) in batches.iter().enumerate() {
                assert_eq!(batch.sequence, 7 + i64::try_from(index).unwrap());
                assert!(batch.observations.len() <= MAX_OBSERVATIONS);
                assert!(
                    batch.encoded_len() <= MAX_BATCH_BYTES,
                    "{count} × {key_bytes}: {}",
                    batch.encoded_len()
                );
                assert_eq!(batch.snapshots.is_empty(), index + 1 < batches.len());
            }
            let packed: Vec<Observation> =
                batches.iter().flat_map(|batch| batch.observations.clone()).collect();
            assert_eq!(packed, all);
            let last = batches.last().unwrap();
            assert_eq!(last.snapshots[0].first_sequence, 7);
            assert_eq!(last.snapshots[0].last_sequence, last.sequence);
        }
    }

    #[test]
    fn batches_are_filled_well() {
        let batches = pack(&node(), Uuid::nil(), 1, observations(1000, 100), None, vec![]);
        assert_eq!(batches.len(), 2);
        let batches = pack(&node(), Uuid::nil(), 1, observations(64, 4000), None, vec![]);
        assert!(
            batches[..batches.len() - 1].iter().all(|batch| batch.encoded_len() > MAX_BATCH_BYTES - 4200)
        );
    }

    #[test]
    fn nothing_makes_no_batch() {
        assert!(pack(&node(), Uuid::nil(), 1, Vec::new(), None, vec![]).is_empty());
    }

    #[test]
    fn contents_follow_and_fill_batches_within_their_limits() {
        let part = |packages: usize, version_bytes: usize| ImageContent {
            image_digest: "sha256:a".into(),
            packages: vec![
                contracts::v1::PackageDetails {
                    version: "1".repeat(version_bytes),
                    ..Default::default()
                };
                packages
            ],
            ..ImageContent::default()
        };
        let contents = vec![part(400, 10), part(101, 10), part(100, 400), part(1, 40_000)];
        let all = observations(10, 100);
        let batches = pack(&node(), Uuid::nil(), 5, all, Some(AssetKind::Disk), contents.clone());
        assert_eq!(batches.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!(batches[0].snapshots[0].last_sequence, 5);
        for batch in &batches {
            assert!(batch.encoded_len() <= MAX_BATCH_BYTES);
            let packages: usize = batch.image_contents.iter().map(|part| part.packages.len()).sum();
            assert!(packages <= MAX_CONTENT_PACKAGES);
        }
        let packed: Vec<ImageContent> = batches.into_iter().flat_map(|batch| batch.image_contents).collect();
        assert_eq!(packed, contents);
    }
}
