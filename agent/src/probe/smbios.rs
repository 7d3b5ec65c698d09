//! The table in which firmware describes the machine: System Management BIOS,
//! DMTF's DSP0134, whose sections are named here. The kernel shows it to root
//! as `/sys/firmware/dmi/tables`.

use super::{ProbeError, unless_absent};
use crate::host::HostRoot;
use crate::text::clean;

const TABLE: &str = "sys/firmware/dmi/tables/DMI";
const ENTRY_POINT: &str = "sys/firmware/dmi/tables/smbios_entry_point";

/// Tables have some kilobytes, those of large servers some tens.
const MAX_BYTES: u64 = 1024 * 1024;
/// Type of the structure that ends the table (7.45).
const END: u8 = 127;
/// Type, length and handle, which all structures start with (6.1.2).
const HEADER_BYTES: usize = 4;

/// A structure table and the version that it obeys.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Table {
    bytes: Vec<u8>,
    version: (u8, u8),
}

/// One structure (6.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Structure<'a> {
    /// What it describes.
    pub(super) kind: u8,
    /// Number by which others refer to it.
    pub(super) handle: u16,
    formatted: &'a [u8],
    strings: &'a [u8],
}

impl Table {
    /// The host's table; empty where it has none.
    pub(super) fn read(host: &HostRoot) -> Result<Self, ProbeError> {
        let bytes = unless_absent(TABLE, host.read(TABLE, MAX_BYTES))?;
        let entry_point = unless_absent(ENTRY_POINT, host.read(ENTRY_POINT, 4096))?;
        Ok(Self::new(bytes, &entry_point))
    }

    /// A table with the entry point that leads to it.
    pub(super) fn new(bytes: Vec<u8>, entry_point: &[u8]) -> Self {
        Self { bytes, version: parse_version(entry_point) }
    }

    /// Its structures in their order, up to the first that is damaged.
    pub(super) fn structures(&self) -> impl Iterator<Item = Structure<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (structure, behind) = next_structure(rest)?;
            rest = behind;
            Some(structure)
        })
    }

    /// What is wrong with it, for a person. It may end without the structure that
    /// ends it, and be filled up with zeros.
    pub(super) fn damage(&self) -> Option<String> {
        let mut rest = &self.bytes[..];
        while let Some((_, behind)) = next_structure(rest) {
            rest = behind;
        }
        if rest.first() == Some(&END) || rest.iter().all(|&byte| byte == 0) {
            return None;
        }
        let at = self.bytes.len() - rest.len();
        Some(format!("{TABLE}: the structure at byte {at} is damaged, it and what follows are left out"))
    }

    /// A UUID at this offset, as RFC 4122 writes it; empty if it is not there or
    /// not set (7.2.1).
    pub(super) fn uuid(&self, structure: &Structure<'_>, offset: usize) -> String {
        let Some(bytes) = structure.formatted.get(offset..offset + 16) else { return String::new() };
        if bytes.iter().all(|&byte| byte == 0) || bytes.iter().all(|&byte| byte == 0xff) {
            return String::new();
        }
        let mut ordered = [0; 16];
        ordered.copy_from_slice(bytes);
        // Little-endian fields since 2.6; makers differed before.
        if self.version >= (2, 6) {
            ordered[..4].reverse();
            ordered[4..6].reverse();
            ordered[6..8].reverse();
        }
        uuid::Uuid::from_bytes(ordered).to_string()
    }
}

impl Structure<'_> {
    /// A byte of the formatted area, by its offset from the header's start;
    /// `None` if this version of the structure does not have it.
    pub(super) fn byte(&self, offset: usize) -> Option<u8> {
        self.formatted.get(offset).copied()
    }

    /// A word of 16 bits, likewise.
    pub(super) fn word(&self, offset: usize) -> Option<u16> {
        let bytes = self.formatted.get(offset..offset + 2)?;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// A double word of 32 bits, likewise.
    pub(super) fn double_word(&self, offset: usize) -> Option<u32> {
        let bytes = self.formatted.get(offset..offset + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// The string whose number is at this offset; empty if there is none (6.1.3).
    pub(super) fn text(&self, offset: usize) -> String {
        let number = usize::from(self.byte(offset).unwrap_or(0));
        if number == 0 {
            return String::new();
        }
        let string = self.strings.split(|&byte| byte == 0).nth(number - 1).unwrap_or_default();
        clean(string).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The first structure and what is behind it; `None` at the end or at damage.
fn next_structure(table: &[u8]) -> Option<(Structure<'_>, &[u8])> {
    let header = table.get(..HEADER_BYTES)?;
    let (kind, length) = (header[0], usize::from(header[1]));
    if kind == END || length < HEADER_BYTES {
        return None;
    }
    let formatted = table.get(..length)?;
    let behind = &table[length..];
    // The strings end with an empty one; two zeros if there are none at all.
    let end = behind.windows(2).position(|pair| pair == [0, 0])?;
    let handle = u16::from_le_bytes([header[2], header[3]]);
    let structure = Structure { kind, handle, formatted, strings: &behind[..end] };
    Some((structure, &behind[end + 2..]))
}

/// Version in an entry point of 64 bits (5.2.2) or 32 bits (5.2.1). Without one,
/// a version that all of today's machines obey.
fn parse_version(entry_point: &[u8]) -> (u8, u8) {
    let at = match entry_point {
        [b'_', b'S', b'M', b'3', b'_', ..] => 7,
        [b'_', b'S', b'M', b'_', ..] => 6,
        _ => return (3, 0),
    };
    match entry_point.get(at..at + 2) {
        Some(version) => (version[0], version[1]),
        None => (3, 0),
    }
}

/// Leaves out what makers put where nobody filled in a number: a placeholder
/// would be the same on all their machines.
pub(super) fn unless_placeholder(text: String) -> String {
    const PLACEHOLDERS: [&str; 18] = [
        "0",
        "0123456789",
        "123456789",
        "Asset Tag",
        "Base Board Serial Number",
        "Chassis Serial Number",
        "Default string",
        "N/A",
        "No Asset Tag",
        "None",
        "Not Applicable",
        "Not Available",
        "Not Specified",
        "SKU",
        "System Serial Number",
        "To Be Filled By O.E.M.",
        "Undefined",
        "Unknown",
    ];
    let trimmed = text.trim();
    let is_one = PLACEHOLDERS.iter().any(|placeholder| placeholder.eq_ignore_ascii_case(trimmed));
    // `.........` and `XXXXXXX`.
    let is_filling = trimmed.bytes().all(|byte| matches!(byte, b'.' | b'-' | b'X' | b'x' | b' '));
    if is_one || is_filling { String::new() } else { text }
}

/// Tables of the form that firmware writes, for tests.
#[cfg(test)]
pub(super) mod written {
    /// One structure: its formatted area behind the header, and its strings.
    pub(crate) fn structure(kind: u8, handle: u16, fields: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, u8::try_from(fields.len() + 4).unwrap()];
        bytes.extend(handle.to_le_bytes());
        bytes.extend(fields);
        for string in strings {
            bytes.extend(string.as_bytes());
            bytes.push(0);
        }
        bytes.extend(if strings.is_empty() { &b"\0\0"[..] } else { b"\0" });
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use written::structure;

    #[test]
    fn walks_structures_up_to_the_end_or_damage() {
        let mut bytes = structure(1, 0x10, &[1, 2, 0, 9], &["Maker", "Model  1 "]);
        bytes.extend(structure(16, 0x11, &[1, 2, 3, 4], &[]));
        let damaged = bytes.clone();
        bytes.extend(structure(END, 0x12, &[], &[]));
        bytes.extend(structure(2, 0x13, &[], &[]));
        let table = Table::new(bytes, b"");
        let all: Vec<Structure<'_>> = table.structures().collect();
        assert_eq!(all.iter().map(|one| (one.kind, one.handle)).collect::<Vec<_>>(), [(1, 0x10), (16, 0x11)]);
        assert_eq!([4, 5, 6, 7, 8].map(|at| all[0].text(at)), ["Maker", "Model 1", "", "", ""]);
        assert_eq!((all[1].byte(7), all[1].byte(8)), (Some(4), None));
        assert_eq!((all[1].word(6), all[1].word(7)), (Some(0x0403), None));
        assert_eq!((all[1].double_word(4), all[1].double_word(5)), (Some(0x0403_0201), None));
        for tail in [&b"\x02"[..], b"\x02\x03\0\0\0\0", b"\x02\x20\0\0\0\0", b"\x02\x04\0\0text\0"] {
            let table = Table::new([&damaged[..], tail].concat(), b"");
            assert_eq!(table.structures().count(), 2, "{tail:?}");
            let damage = table.damage().unwrap();
            assert!(damage.contains(&format!("at byte {} is damaged", damaged.len())), "{damage}");
        }
        for tail in [&b""[..], b"\0\0\0\0\0\0\0\0", b"\x7f\x04\0\0\0\0", b"\x7f\x04\0\0\0\0\xff\xff\xff"] {
            assert_eq!(Table::new([&damaged[..], tail].concat(), b"").damage(), None, "{tail:?}");
        }
        assert_eq!(Table::default().damage(), None);
    }

    #[test]
    fn the_version_decides_how_a_uuid_is_read() {
        let fields: Vec<u8> = (0..16).collect();
        let uuid = |entry_point: &[u8], fields: &[u8]| {
            let table = Table::new(structure(1, 0, fields, &[]), entry_point);
            let structure = table.structures().next().unwrap();
            table.uuid(&structure, 4)
        };
        let new = "03020100-0504-0706-0809-0a0b0c0d0e0f";
        let old = "00010203-0405-0607-0809-0a0b0c0d0e0f";
        assert_eq!(uuid(b"_SM_cl\x02\x05rest", &fields), old);
        assert_eq!(uuid(b"_SM_cl\x02\x06rest", &fields), new);
        assert_eq!(uuid(b"_SM3_cl\x03\x02rest", &fields), new);
        assert_eq!(uuid(b"garbage", &fields), new);
        assert_eq!(uuid(b"", &[0; 16]), "");
        assert_eq!(uuid(b"", &[0xff; 16]), "");
        assert_eq!(uuid(b"", &[1; 15]), "");
    }

    #[test]
    fn placeholders_are_no_numbers() {
        for text in
            ["To be filled by O.E.M.", " None ", "0123456789", "........", "xxxx", "", "Default string"]
        {
            assert_eq!(unless_placeholder(text.to_owned()), "", "{text}");
        }
        for text in ["CZ12345", "NoneSuch", "X1"] {
            assert_eq!(unless_placeholder(text.to_owned()), text);
        }
    }
}
