//! Memory modules: "Memory Device" of SMBIOS (DSP0134, 7.18), with the
//! correction of errors from the "Physical Memory Array" that they sit in
//! (7.17). It takes root: without, what was found before stays.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use contracts::v1::{MemoryModuleDetails, asset_details::Details};

use super::smbios::{Structure, Table, unless_placeholder};
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) const WATCHED: &[&str] = &[];

const ARRAY: u8 = 16;
const DEVICE: u8 = 17;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let table = Table::read(host).map_err(needs_root)?;
    let mut scan = Scan { warnings: table.damage().into_iter().collect(), ..Scan::default() };
    for (key, module) in decode(&table) {
        let size = module.size_bytes / MIB;
        let size =
            if size.is_multiple_of(KIB) { format!("{} GiB", size / KIB) } else { format!("{size} MiB") };
        let size = if module.size_bytes == 0 { String::new() } else { size };
        let name = [&module.locator, &size, &module.r#type].map(String::as_str).join(" ");
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        scan.assets.push(ScannedAsset::new(key, name, Details::MemoryModule(module)));
    }
    Ok(scan)
}

/// An empty list would report all modules as removed.
fn needs_root(error: ProbeError) -> ProbeError {
    match error {
        ProbeError::Read { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
            let problem = "permission denied, needs root";
            ProbeError::Read { path, source: io::Error::new(io::ErrorKind::PermissionDenied, problem) }
        }
        other => other,
    }
}

/// What SMBIOS says of an array of modules.
#[derive(Debug, Clone, Copy)]
struct Array {
    r#use: u8,
    correction: u8,
}

/// Modules with their keys, in the order of the table. Empty slots are left
/// out, but count where several slots have one name, so that a module keeps its
/// key when another is put in beside it.
pub(super) fn decode(table: &Table) -> Vec<(String, MemoryModuleDetails)> {
    let arrays: BTreeMap<u16, Array> = table
        .structures()
        .filter(|structure| structure.kind == ARRAY)
        .filter_map(|structure| {
            let array = Array { r#use: structure.byte(0x05)?, correction: structure.byte(0x06)? };
            Some((structure.handle, array))
        })
        .collect();
    let mut modules = Vec::new();
    let mut keys = BTreeSet::new();
    for device in table.structures().filter(|structure| structure.kind == DEVICE) {
        let array = device.word(0x04).and_then(|handle| arrays.get(&handle)).copied();
        // Memory of the display, flash and cache (7.17.2) is no module.
        if array.is_some_and(|array| matches!(array.r#use, 0x04 | 0x05 | 0x07)) {
            continue;
        }
        let (locator, bank) = (device.text(0x10), device.text(0x11));
        let key = unique_key(&mut keys, &bank, &locator);
        let Some(size_bytes) = size_bytes(&device) else { continue };
        let module = MemoryModuleDetails {
            locator,
            bank,
            size_bytes,
            r#type: name(&TYPES, device.byte(0x12)),
            form_factor: name(&FORM_FACTORS, device.byte(0x0e)),
            speed_mts: speed(&device, 0x15, 0x54),
            configured_speed_mts: speed(&device, 0x20, 0x58),
            vendor: unless_placeholder(device.text(0x17)),
            part_number: unless_placeholder(device.text(0x1a)),
            serial: unless_placeholder(device.text(0x18)),
            ecc: corrects_errors(&device, array),
        };
        modules.push((key, module));
    }
    modules
}

fn unique_key(keys: &mut BTreeSet<String>, bank: &str, locator: &str) -> String {
    let place = match (bank, locator) {
        ("", "") => "module".to_owned(),
        ("", place) | (place, "") => place.to_owned(),
        _ => format!("{bank}/{locator}"),
    };
    let mut key = place.clone();
    let mut number = 1;
    while !keys.insert(key.clone()) {
        number += 1;
        key = format!("{place}#{number}");
    }
    key
}

/// Size (offset 0Ch) or extended size (1Ch); `None` for an empty slot, 0 if the
/// size is not known.
fn size_bytes(device: &Structure<'_>) -> Option<u64> {
    match device.word(0x0c)? {
        0 => None,
        0xffff => Some(0),
        0x7fff => Some(u64::from(device.double_word(0x1c)? & 0x7fff_ffff) * MIB),
        size if size & 0x8000 != 0 => Some(u64::from(size & 0x7fff) * KIB),
        size => Some(u64::from(size) * MIB),
    }
}

/// Megatransfers a second, from the field of 32 bits where 16 do not suffice;
/// 0 if it is not told.
fn speed(device: &Structure<'_>, offset: usize, extended: usize) -> u32 {
    match device.word(offset) {
        Some(0xffff) => device.double_word(extended).unwrap_or(0) & 0x7fff_ffff,
        Some(speed) => u32::from(speed),
        None => 0,
    }
}

/// By the array (7.17.3): single-bit and multi-bit ECC. Where it does not say, a
/// module that is wider than its data has the bits for it.
fn corrects_errors(device: &Structure<'_>, array: Option<Array>) -> bool {
    match array.map(|array| array.correction) {
        Some(0x05 | 0x06) => true,
        Some(0x03 | 0x04 | 0x07) => false,
        _ => match (device.word(0x08), device.word(0x0a)) {
            (Some(total @ 1..=0xfffe), Some(data @ 1..=0xfffe)) => total > data,
            _ => false,
        },
    }
}

fn name(names: &[&str], number: Option<u8>) -> String {
    number
        .and_then(|number| names.get(usize::from(number)))
        .map(|name| (*name).to_owned())
        .unwrap_or_default()
}

/// 7.18.1; empty for what is not known or not assigned.
const FORM_FACTORS: [&str; 18] = [
    "",
    "Other",
    "",
    "SIMM",
    "SIP",
    "Chip",
    "DIP",
    "ZIP",
    "Proprietary Card",
    "DIMM",
    "TSOP",
    "Row Of Chips",
    "RIMM",
    "SODIMM",
    "SRIMM",
    "FB-DIMM",
    "Die",
    "CAMM",
];

/// 7.18.2, likewise.
const TYPES: [&str; 38] = [
    "",
    "Other",
    "",
    "DRAM",
    "EDRAM",
    "VRAM",
    "SRAM",
    "RAM",
    "ROM",
    "Flash",
    "EEPROM",
    "FEPROM",
    "EPROM",
    "CDRAM",
    "3DRAM",
    "SDRAM",
    "SGRAM",
    "RDRAM",
    "DDR",
    "DDR2",
    "DDR2 FB-DIMM",
    "",
    "",
    "",
    "DDR3",
    "FBD2",
    "DDR4",
    "LPDDR",
    "LPDDR2",
    "LPDDR3",
    "LPDDR4",
    "Logical non-volatile device",
    "HBM",
    "HBM2",
    "DDR5",
    "LPDDR5",
    "HBM3",
    "",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::smbios::written::structure;

    /// A memory device with these fields at their offsets.
    fn device(handle: u16, fields: &[(usize, &[u8])], strings: &[&str]) -> Vec<u8> {
        let mut bytes = [0; 0x5c];
        for (offset, field) in fields {
            bytes[*offset..*offset + field.len()].copy_from_slice(field);
        }
        structure(DEVICE, handle, &bytes[4..], strings)
    }

    fn modules(bytes: Vec<u8>) -> Vec<(String, MemoryModuleDetails)> {
        decode(&Table::new(bytes, b"_SM3_cl\x03\x04"))
    }

    #[test]
    fn sizes_and_speeds_have_extensions() {
        for (fields, size, speed) in [
            (&[(0x0c, &[0x00, 0x40][..]), (0x15, &[0x80, 0x0c])][..], 16 * 1024 * MIB, 3200),
            (&[(0x0c, &[0xff, 0x7f]), (0x1c, &[0, 0, 2, 0x80])], 128 * 1024 * MIB, 0),
            (&[(0x0c, &[0x10, 0x80]), (0x15, &[0xff, 0xff]), (0x54, &[0, 0, 1, 0])], 16 * KIB, 65536),
            (&[(0x0c, &[0xff, 0xff])], 0, 0),
        ] {
            let found = modules(device(1, fields, &[]));
            assert_eq!(found.len(), 1, "{fields:?}");
            assert_eq!((found[0].1.size_bytes, found[0].1.speed_mts), (size, speed));
        }
        assert_eq!(modules(device(1, &[(0x0c, &[0, 0])], &[])), []);
    }

    #[test]
    fn keys_stay_when_a_slot_is_filled() {
        let slot = |handle, size: u8| {
            device(handle, &[(0x0c, &[0, size]), (0x10, &[1]), (0x11, &[2])], &["DIMM 0", "Bank 0"])
        };
        let keys = |sizes: [u8; 3]| -> Vec<String> {
            let bytes = (0..).zip(sizes).flat_map(|(handle, size)| slot(handle, size)).collect();
            modules(bytes).into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys([1, 1, 1]), ["Bank 0/DIMM 0", "Bank 0/DIMM 0#2", "Bank 0/DIMM 0#3"]);
        assert_eq!(keys([1, 0, 1]), ["Bank 0/DIMM 0", "Bank 0/DIMM 0#3"]);
        let bare = device(1, &[(0x0c, &[0, 1])], &[]);
        assert_eq!(
            modules([bare.clone(), bare].concat()).into_iter().map(|(key, _)| key).collect::<Vec<_>>(),
            ["module", "module#2"]
        );
    }

    #[test]
    fn the_array_says_whether_errors_are_corrected_and_what_it_is_for() {
        for (usage, correction, widths, expected) in [
            (3, 6, [64, 64], Some(true)),
            (3, 3, [72, 64], Some(false)),
            (3, 2, [72, 64], Some(true)),
            (3, 2, [64, 64], Some(false)),
            (5, 3, [8, 8], None),
        ] {
            let mut bytes = structure(ARRAY, 0x1000, &[3, usage, correction, 0, 0, 0, 0], &[]);
            let [total, data] = widths;
            let fields: [(usize, &[u8]); 4] =
                [(0x04, &[0, 0x10]), (0x08, &[total, 0]), (0x0a, &[data, 0]), (0x0c, &[0, 1])];
            bytes.extend(device(1, &fields, &[]));
            let found = modules(bytes);
            assert_eq!(found.first().map(|(_, module)| module.ecc), expected);
        }
    }

    #[test]
    fn names_are_those_of_the_specification() {
        for (number, expected) in
            [(0x12, "DDR"), (0x18, "DDR3"), (0x1a, "DDR4"), (0x22, "DDR5"), (0x24, "HBM3")]
        {
            assert_eq!(name(&TYPES, Some(number)), expected);
        }
        for (number, expected) in [(0x09, "DIMM"), (0x0d, "SODIMM"), (0x02, ""), (0xff, "")] {
            assert_eq!(name(&FORM_FACTORS, Some(number)), expected);
        }
    }
}
