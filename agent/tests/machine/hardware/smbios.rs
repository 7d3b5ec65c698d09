//! Firmware, boards and memory modules against dmidecode: on this machine, and
//! on tables that are written here as a dump, which dmidecode reads as well
//! (`--from-dump`).

use super::*;

use std::process::Command;

use contracts::v1::{BoardDetails, FirmwareDetails, MemoryModuleDetails};

/// One structure of DSP0134: the formatted area behind its header, and strings.
fn structure(kind: u8, handle: u16, fields: &[u8], strings: &[&str]) -> Vec<u8> {
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

/// A formatted area of this length with these fields at the offsets that the
/// specification gives, which count from the header.
fn fields(length: usize, at: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (offset, field) in at {
        bytes[*offset..*offset + field.len()].copy_from_slice(field);
    }
    bytes.split_off(4)
}

/// Entry point of 64 bits (5.2.2) to a table behind it in the same file.
fn entry_point(version: (u8, u8), length: usize) -> Vec<u8> {
    let mut bytes = b"_SM3_\0\x18".to_vec();
    bytes.extend([version.0, version.1, 0, 1, 0]);
    bytes.extend(u32::try_from(length).unwrap().to_le_bytes());
    bytes.extend(32_u64.to_le_bytes());
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[5] = 0_u8.wrapping_sub(sum);
    bytes
}

/// Entry point of 32 bits (5.2.1), likewise.
fn old_entry_point(version: (u8, u8), length: usize, structures: u16) -> Vec<u8> {
    let mut bytes = b"_SM_\0\x1f".to_vec();
    bytes.extend([version.0, version.1, 0xff, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(b"_DMI_\0");
    bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
    bytes.extend(32_u32.to_le_bytes());
    bytes.extend(structures.to_le_bytes());
    bytes.push(version.0 << 4 | version.1);
    let sum = |bytes: &[u8]| 0_u8.wrapping_sub(bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    bytes[0x15] = sum(&bytes[0x10..]);
    bytes[4] = sum(&bytes);
    bytes
}

/// What dmidecode prints of one structure.
#[derive(Debug)]
struct Printed {
    kind: u8,
    fields: BTreeMap<String, String>,
}

impl Printed {
    /// A field; `Not Specified` stands for a string that is not there.
    fn text(&self, name: &str) -> String {
        let value = self.fields.get(name).map(String::as_str).unwrap_or_default();
        // Rule: white space within is one space.
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        match value.as_str() {
            // Rule: what is not told is empty.
            "Not Specified" | "Unknown" | "Not Settable" | "Not Present" => String::new(),
            // Rule: so is what is no number of one machine.
            "To Be Filled By O.E.M." | "None" => String::new(),
            _ => value,
        }
    }
}

/// A root whose kernel shows this table, and what dmidecode reads in it.
fn machine(
    version: (u8, u8),
    structures: &[Vec<u8>],
    old: bool,
) -> Option<(tempfile::TempDir, Vec<Printed>)> {
    let mut table = structures.concat();
    table.extend(structure(127, 0xfeff, &[], &[]));
    let count = u16::try_from(structures.len() + 1).unwrap();
    let entry =
        if old { old_entry_point(version, table.len(), count) } else { entry_point(version, table.len()) };
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "sys/firmware/dmi/tables/DMI", &table);
    write(root.path(), "sys/firmware/dmi/tables/smbios_entry_point", &entry);
    let mut dump = entry;
    dump.resize(32, 0);
    dump.extend(&table);
    write(root.path(), "dump", &dump);
    let dump = root.path().join("dump");
    let listed = tool("dmidecode", &["--from-dump", dump.to_str().unwrap()])?;
    Some((root, printed(&listed)))
}

fn printed(listed: &str) -> Vec<Printed> {
    let mut found: Vec<Printed> = Vec::new();
    for line in listed.lines() {
        if let Some((_, kind)) = line.strip_prefix("Handle ").and_then(|line| line.split_once("DMI type ")) {
            let kind = kind.split(',').next().unwrap().parse().unwrap();
            found.push(Printed { kind, fields: BTreeMap::new() });
        } else if let (Some(structure), Some((name, value))) =
            (found.last_mut(), line.strip_prefix('\t').and_then(|line| line.split_once(':')))
        {
            structure.fields.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    found
}

fn modules(root: &Path) -> Vec<MemoryModuleDetails> {
    let details = |asset: agent::asset::ScannedAsset| match asset.details {
        Details::MemoryModule(module) => module,
        other => panic!("no module: {other:?}"),
    };
    scan_tree("memory", root).assets.into_iter().map(details).collect()
}

fn boards(root: &Path) -> Vec<(String, BoardDetails)> {
    let details = |asset: agent::asset::ScannedAsset| match asset.details {
        Details::Board(board) => (asset.natural_key, board),
        other => panic!("no board: {other:?}"),
    };
    scan_tree("boards", root).assets.into_iter().map(details).collect()
}

/// `16 GB` in bytes; 0 for a size that is not known.
fn bytes(size: &str) -> u64 {
    let Some((number, unit)) = size.split_once(' ') else { return 0 };
    let shift = match unit {
        "bytes" => 0,
        "kB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        other => panic!("{other}"),
    };
    number.parse::<u64>().unwrap() << shift
}

fn compare_modules(found: &[MemoryModuleDetails], printed: &[Printed]) {
    // Rule: empty slots are no assets.
    let expected: Vec<&Printed> =
        printed.iter().filter(|one| one.kind == 17 && one.fields["Size"] != "No Module Installed").collect();
    assert_eq!(found.len(), expected.len());
    for (module, printed) in found.iter().zip(expected) {
        let speed = |name: &str| match printed.text(name).strip_suffix(" MT/s") {
            Some(speed) => speed.parse().unwrap(),
            None => 0,
        };
        assert_eq!(module.size_bytes, bytes(&printed.fields["Size"]), "{printed:?}");
        assert_eq!(module.speed_mts, speed("Speed"), "{printed:?}");
        assert_eq!(module.configured_speed_mts, speed("Configured Memory Speed"), "{printed:?}");
        for (own, name) in [
            (&module.locator, "Locator"),
            (&module.bank, "Bank Locator"),
            (&module.r#type, "Type"),
            (&module.form_factor, "Form Factor"),
            (&module.vendor, "Manufacturer"),
            (&module.serial, "Serial Number"),
            (&module.part_number, "Part Number"),
        ] {
            match printed.text(name).as_str() {
                // Rule: a number that dmidecode does not know (yet).
                "<OUT OF SPEC>" => {}
                // Rule: what stands for nothing has no name.
                "Reserved" => assert_eq!(*own, "", "{name} of {printed:?}"),
                expected => assert_eq!(*own, expected, "{name} of {printed:?}"),
            }
        }
    }
}

fn module(handle: u16, at: &[(usize, &[u8])]) -> Vec<u8> {
    let strings =
        ["DIMM_A1", "Bank 0", "Samsung", "  39C1A2B4 ", "M393A2K43DB3-CWE   ", "To Be Filled By O.E.M."];
    let mut all: Vec<(usize, &[u8])> = vec![
        (0x04, &[0x00, 0x10]),
        (0x08, &[72, 0]),
        (0x0a, &[64, 0]),
        (0x0e, &[9]),
        (0x10, &[1, 2, 0x1a]),
        (0x17, &[3, 4, 0, 5]),
    ];
    all.extend(at);
    structure(17, handle, &fields(0x5c, &all), &strings)
}

#[test]
fn memory_modules_are_those_of_dmidecode() {
    for correction in 0..=8_u8 {
        let mut structures = vec![structure(16, 0x1000, &fields(0x17, &[(0x04, &[3, 3, correction])]), &[])];
        // Each way to write a size, and speeds with and without extension.
        for (handle, at) in (0x1100..).zip([
            &[(0x0c, &[0x00, 0x40][..]), (0x15, &[0x80, 0x0c]), (0x20, &[0x75, 0x0b])][..],
            &[(0x0c, &[0xff, 0x7f]), (0x1c, &[0, 0, 2, 0])],
            &[(0x0c, &[0xff, 0x7f]), (0x1c, &[0, 0, 2, 0x80]), (0x18, &[6])],
            &[(0x0c, &[0x10, 0x80]), (0x15, &[0xff, 0xff]), (0x54, &[0, 0, 1, 0])],
            &[(0x0c, &[0x01, 0x00]), (0x20, &[0xff, 0xff]), (0x58, &[1, 0, 1, 0])],
            &[(0x0c, &[0xff, 0xff]), (0x17, &[0, 0, 0, 0])],
            &[(0x0c, &[0x00, 0x00])],
        ]) {
            structures.push(module(handle, at));
        }
        let Some((root, printed)) = machine((3, 4), &structures, false) else { return };
        let found = modules(root.path());
        assert_eq!(found.len(), 6);
        compare_modules(&found, &printed);
        let array = printed.iter().find(|one| one.kind == 16).unwrap();
        let expected = match array.fields["Error Correction Type"].as_str() {
            "Single-bit ECC" | "Multi-bit ECC" => true,
            // Rule: these find errors and correct none.
            "None" | "Parity" | "CRC" => false,
            // Rule: it does not say, so the width does: 72 of 64 bits here.
            _ => true,
        };
        assert!(found.iter().all(|one| one.ecc == expected), "{array:?}");
    }
}

#[test]
fn all_types_and_forms_of_memory_are_those_of_dmidecode() {
    let structures: Vec<Vec<u8>> = (0..=0x40_u8)
        .map(|number| {
            let at: [(usize, &[u8]); 3] = [(0x0c, &[1, 0]), (0x0e, &[number]), (0x12, &[number])];
            module(0x1100 + u16::from(number), &at)
        })
        .collect();
    let Some((root, printed)) = machine((3, 4), &structures, false) else { return };
    assert_eq!(modules(root.path()).len(), 0x41);
    compare_modules(&modules(root.path()), &printed);
}

fn firmware_and_system() -> [Vec<u8>; 2] {
    let uuid: Vec<u8> = (0x10..0x20).collect();
    let bios = structure(
        0,
        0,
        &fields(0x1a, &[(0x04, &[1, 2]), (0x08, &[3]), (0x14, &[5, 17])]),
        &["American Megatrends Inc.", "V2.1  ", "04/01/2014"],
    );
    let system = structure(
        1,
        1,
        &fields(0x1b, &[(0x04, &[1, 2, 3, 4]), (0x08, &uuid), (0x19, &[5])]),
        &["Dell Inc.", "PowerEdge R640", "V1", "ABC1234", "SKU=0716"],
    );
    [bios, system]
}

fn baseboard(handle: u16, serial: &str) -> Vec<u8> {
    let at: [(usize, &[u8]); 1] = [(0x04, &[1, 2, 3, 4, 5])];
    structure(2, handle, &fields(0x0f, &at), &["Dell Inc.", "0W23H8", "A02", serial, "TAG-1"])
}

fn chassis(kind: u8) -> Vec<u8> {
    let at: [(usize, &[u8]); 3] = [(0x04, &[1, kind, 2, 3, 4]), (0x13, &[1, 3]), (0x18, &[5])];
    structure(3, 9, &fields(0x19, &at), &["Dell Inc.", "V3", "CH-1", "RACK-7", "SKU-9"])
}

/// Root of a machine with firmware, boards and memory; `dump` in it is what
/// dmidecode reads.
pub fn described_machine() -> Option<tempfile::TempDir> {
    let [bios, system] = firmware_and_system();
    let array = structure(16, 0x1000, &fields(0x17, &[(0x04, &[3, 3, 6])]), &[]);
    let modules = [
        module(0x1100, &[(0x0c, &[0x00, 0x40]), (0x15, &[0x80, 0x0c])]),
        module(0x1101, &[(0x0c, &[0xff, 0x7f]), (0x1c, &[0, 0, 2, 0]), (0x15, &[0x75, 0x0b])]),
        module(0x1102, &[(0x0c, &[0x00, 0x00])]),
    ];
    let structures =
        [vec![bios, system, baseboard(2, "S1"), chassis(0x17), array], modules.to_vec()].concat();
    Some(machine((3, 4), &structures, false)?.0)
}

#[test]
fn boards_and_firmware_are_those_of_dmidecode() {
    let [bios, system] = firmware_and_system();
    for (version, old) in [((2, 4), true), ((2, 8), true), ((3, 4), false)] {
        for kind in (0..=0x26).chain([0x97]) {
            let structures = [
                bios.clone(),
                system.clone(),
                baseboard(2, "S1"),
                baseboard(3, "To Be Filled By O.E.M."),
                chassis(kind),
            ];
            let Some((root, printed)) = machine(version, &structures, old) else { return };
            let found = boards(root.path());
            let mut expected = printed.iter().filter(|one| (1..=3).contains(&one.kind));
            for key in ["system", "baseboard", "baseboard/2", "chassis"] {
                let board = &found.iter().find(|(own, _)| own == key).unwrap().1;
                let printed = expected.next().unwrap();
                for (own, name) in [
                    (&board.vendor, "Manufacturer"),
                    (&board.product, "Product Name"),
                    (&board.version, "Version"),
                    (&board.serial, "Serial Number"),
                    (&board.sku, "SKU Number"),
                    (&board.asset_tag, "Asset Tag"),
                    (&board.uuid, "UUID"),
                ] {
                    assert_eq!(*own, printed.text(name), "{name} of {printed:?}");
                }
                if key == "chassis" && printed.text("Type") != "<OUT OF SPEC>" {
                    assert_eq!(board.chassis_type, printed.text("Type"), "{kind:x}");
                }
            }
            assert_eq!(found.len(), 4);
            let Details::Firmware(firmware) = scan_tree("firmware", root.path()).assets.remove(0).details
            else {
                panic!("no firmware")
            };
            let printed = printed.iter().find(|one| one.kind == 0).unwrap();
            let expected = FirmwareDetails {
                vendor: printed.text("Vendor"),
                version: printed.text("Version"),
                release_date: printed.text("Release Date"),
                release: printed.text("BIOS Revision"),
                ..Default::default()
            };
            assert_eq!(firmware, expected);
        }
    }
}

#[test]
fn this_machine_is_that_of_dmidecode() {
    let Some(listed) = tool("dmidecode", &[]) else { return };
    let printed = printed(&listed);
    if printed.is_empty() {
        println!("SKIPPED: this machine has no SMBIOS: {}", listed.lines().last().unwrap_or_default());
        assert!(scan("memory").assets.is_empty());
        return;
    }
    let keyword = |name: &str| {
        let output = Command::new("dmidecode").args(["-s", name]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find(|line| !line.starts_with('#')).unwrap_or_default().trim().to_owned()
    };
    let boards = boards(Path::new("/"));
    let board = |key: &str| boards.iter().find(|(own, _)| own == key).map(|(_, board)| board.clone());
    if let Some(system) = board("system") {
        assert_eq!(system.vendor, keyword("system-manufacturer"));
        assert_eq!(system.product, keyword("system-product-name"));
        assert_eq!(system.uuid, keyword("system-uuid").to_lowercase());
    }
    if let Some(chassis) = board("chassis") {
        assert_eq!(chassis.chassis_type, keyword("chassis-type"));
    }
    let in_arrays: Vec<MemoryModuleDetails> = modules(Path::new("/"));
    if printed.iter().filter(|one| one.kind == 16).all(|one| one.text("Use") == "System Memory") {
        compare_modules(&in_arrays, &printed);
    }
}
