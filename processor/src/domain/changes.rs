//! Which observed fields differ, told from the encoded details without
//! decoding them into messages: this runs for every change.

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

/// The descriptors of the details, for the names of fields.
#[derive(Clone, Debug)]
pub struct Descriptors {
    details: MessageDescriptor,
    pool: DescriptorPool,
}

impl Default for Descriptors {
    fn default() -> Self {
        let pool =
            DescriptorPool::decode(contracts::DESCRIPTOR_SET).expect("the build made these descriptors");
        let details =
            pool.get_message_by_name("assettrack.v1.AssetDetails").expect("the contracts have AssetDetails");
        Self { details, pool }
    }
}

impl Descriptors {
    /// A message of the contracts by its short name.
    pub fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(&format!("assettrack.v1.{name}"))
    }

    /// `AssetDetails`.
    pub fn details(&self) -> &MessageDescriptor {
        &self.details
    }
}

/// Paths of the fields that differ between two encoded AssetDetails, sorted,
/// such as `details.package.version`. What cannot be parsed counts as
/// `details`.
pub fn changed_fields(descriptors: &Descriptors, before: Option<&[u8]>, after: &[u8]) -> Vec<String> {
    let before = before.unwrap_or_default();
    if before == after {
        return Vec::new();
    }
    let (Some(old), Some(new)) = (fields(before), fields(after)) else { return vec!["details".to_owned()] };
    let mut paths = Vec::new();
    for number in keys(&old, &new) {
        let Some(field) = descriptors.details.get_field(number) else { return vec!["details".to_owned()] };
        let name = field.name();
        let Kind::Message(message) = field.kind() else { continue };
        if field.is_list() {
            if differ(&old, &new, number) {
                paths.push(format!("details.{name}"));
            }
            continue;
        }
        let (Some(old), Some(new)) = (fields(inner(&old, number)), fields(inner(&new, number))) else {
            paths.push(format!("details.{name}"));
            continue;
        };
        for number in keys(&old, &new) {
            if !differ(&old, &new, number) {
                continue;
            }
            paths.push(match message.get_field(number) {
                Some(field) => format!("details.{name}.{}", field.name()),
                None => format!("details.{name}"),
            });
        }
    }
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Numbers and values of an encoded message's fields, sorted by number; those of
/// one number as they came.
type Fields<'a> = Vec<(u32, &'a [u8])>;

fn keys(old: &Fields<'_>, new: &Fields<'_>) -> Vec<u32> {
    let mut keys: Vec<u32> = old.iter().chain(new).map(|(number, _)| *number).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn values<'a, 'f>(fields: &'f Fields<'a>, number: u32) -> &'f [(u32, &'a [u8])] {
    let begin = fields.partition_point(|(other, _)| *other < number);
    let end = fields.partition_point(|(other, _)| *other <= number);
    &fields[begin..end]
}

fn differ(old: &Fields<'_>, new: &Fields<'_>, number: u32) -> bool {
    values(old, number) != values(new, number)
}

/// Content of a submessage that occurs once, as our agents encode it.
fn inner<'a>(fields: &Fields<'a>, number: u32) -> &'a [u8] {
    values(fields, number).first().map(|(_, value)| *value).unwrap_or_default()
}

/// The fields of an encoded message, without their tags and lengths (Protobuf
/// wire format: encoding.proto of protobuf.dev).
fn fields(mut bytes: &[u8]) -> Option<Fields<'_>> {
    let mut fields = Fields::with_capacity(16);
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).ok()?;
        let length = match tag & 7 {
            0 => {
                let mut rest = bytes;
                varint(&mut rest)?;
                bytes.len() - rest.len()
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = bytes.split_at_checked(length)?;
        fields.push((number, value));
        bytes = rest;
    }
    // Stable: the order within a number counts.
    fields.sort_by_key(|(number, _)| *number);
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use contracts::v1::{
        AssetDetails, AssetKind, DiskDetails, PackageDetails, Partition, PciDeviceDetails, Relation,
        RelationType, asset_details::Details,
    };
    use prost::Message;

    use super::*;

    fn package(version: &str, size: u64) -> Vec<u8> {
        let package = PackageDetails {
            package: "x".to_owned(),
            version: version.to_owned(),
            installed_size_bytes: size,
            ..PackageDetails::default()
        };
        AssetDetails { details: Some(Details::Package(package)), ..AssetDetails::default() }.encode_to_vec()
    }

    #[test]
    fn names_what_differs() {
        let descriptors = Descriptors::default();
        let changed = |before: &[u8], after: &[u8]| changed_fields(&descriptors, Some(before), after);
        assert_eq!(changed(&package("1", 5), &package("1", 5)), [""; 0]);
        assert_eq!(changed(&package("1", 5), &package("2", 5)), ["details.package.version"]);
        assert_eq!(
            changed(&package("1", 5), &package("2", 0)),
            ["details.package.installed_size_bytes", "details.package.version"]
        );
        let disk = |sizes: &[u64]| {
            let partitions =
                sizes.iter().map(|size| Partition { size_bytes: *size, ..Partition::default() }).collect();
            let disk = DiskDetails { partitions, ..DiskDetails::default() };
            AssetDetails { details: Some(Details::Disk(disk)), ..AssetDetails::default() }.encode_to_vec()
        };
        assert_eq!(changed(&disk(&[1, 2]), &disk(&[1, 3])), ["details.disk.partitions"]);
        assert_eq!(changed(&disk(&[1]), &disk(&[1, 1])), ["details.disk.partitions"]);
        assert_eq!(
            changed_fields(&descriptors, None, &package("1", 0)),
            ["details.package.package", "details.package.version"]
        );
    }

    #[test]
    fn relations_differ_as_a_whole_and_optional_zeros_count() {
        let descriptors = Descriptors::default();
        let device = |numa_node: Option<u32>, on: &[&str]| {
            let device =
                PciDeviceDetails { slot: "0000:00:1f.2".to_owned(), numa_node, ..Default::default() };
            let relation = |key: &&str| Relation {
                r#type: RelationType::AttachedTo.into(),
                kind: AssetKind::NumaNode.into(),
                natural_key: (*key).to_owned(),
            };
            AssetDetails {
                details: Some(Details::PciDevice(device)),
                relations: on.iter().map(relation).collect(),
            }
            .encode_to_vec()
        };
        for (before, after, expected) in [
            (device(None, &["0"]), device(None, &["0"]), vec![]),
            (device(None, &[]), device(None, &["0"]), vec!["details.relations"]),
            (device(None, &["0", "1"]), device(None, &["0", "2"]), vec!["details.relations"]),
            (device(None, &["0", "1"]), device(None, &["0"]), vec!["details.relations"]),
            (device(None, &[]), device(Some(0), &[]), vec!["details.pci_device.numa_node"]),
            (
                device(Some(1), &["1"]),
                device(Some(2), &["2"]),
                vec!["details.pci_device.numa_node", "details.relations"],
            ),
        ] {
            assert_eq!(changed_fields(&descriptors, Some(&before), &after), expected);
        }
    }

    #[test]
    fn garbage_is_a_change_and_never_a_panic() {
        let descriptors = Descriptors::default();
        let good = package("1", 5);
        for length in 0..good.len() {
            let cut = &good[..length];
            assert!(!changed_fields(&descriptors, Some(cut), &good).is_empty());
        }
        assert_eq!(changed_fields(&descriptors, Some(&[0xff; 12]), &good), ["details"]);
    }
}
