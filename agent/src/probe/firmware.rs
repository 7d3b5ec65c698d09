//! The firmware: what the kernel shows of it to everybody in
//! `/sys/class/dmi/id`, what SMBIOS adds, how the machine was booted, and its
//! trusted platform module.
//!
//! A machine of which nothing tells a firmware (a small virtual machine that a
//! hypervisor boots directly, an Arm board with a devicetree alone) has no such
//! asset: its way of booting would be a guess.

use contracts::v1::{FirmwareDetails, asset_details::Details};

use super::smbios::Structure;
use super::sysfs::attribute;
use super::{ProbeError, Scan, boards, exists};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) const WATCHED: &[&str] = &[];

const DMI: &str = "sys/class/dmi/id";
const EFI: &str = "sys/firmware/efi";
const TPM: &str = "sys/class/tpm";

/// "BIOS Information" (DSP0134, 7.1).
const BIOS: u8 = 0;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut firmware = FirmwareDetails {
        vendor: attribute(host, &format!("{DMI}/bios_vendor"))?,
        version: attribute(host, &format!("{DMI}/bios_version"))?,
        release_date: attribute(host, &format!("{DMI}/bios_date"))?,
        release: attribute(host, &format!("{DMI}/bios_release"))?,
        tpm_version: tpm_version(host)?,
        ..FirmwareDetails::default()
    };
    // Nothing in it is secret that is not in the files above, too; older kernels
    // lack some of these.
    let (table, _) = boards::table_if_allowed(host)?;
    if let Some(bios) = table.structures().find(|structure| structure.kind == BIOS) {
        complete(&mut firmware, &bios);
    }
    let described = firmware != FirmwareDetails::default();
    firmware.boot_mode = if exists(host, EFI)? {
        "uefi".to_owned()
    } else if !firmware.vendor.is_empty() && exists(host, "sys/firmware/memmap")? {
        // The map that a BIOS gives (e820) is there on x86 alone, where what is
        // not UEFI is BIOS.
        "bios".to_owned()
    } else {
        String::new()
    };
    if !described && firmware.boot_mode.is_empty() {
        return Ok(Scan::default());
    }
    let name = format!("{} {}", firmware.vendor, firmware.version).trim().to_owned();
    let name = if name.is_empty() { "Firmware".to_owned() } else { name };
    Ok(Scan {
        assets: vec![ScannedAsset::new("firmware", name, Details::Firmware(firmware))],
        ..Scan::default()
    })
}

/// Fills in what is missing.
fn complete(firmware: &mut FirmwareDetails, bios: &Structure<'_>) {
    let fill = |field: &mut String, text: String| {
        if field.is_empty() {
            *field = text;
        }
    };
    fill(&mut firmware.vendor, bios.text(0x04));
    fill(&mut firmware.version, bios.text(0x05));
    fill(&mut firmware.release_date, bios.text(0x08));
    // 0xff: the firmware states no release.
    if let (Some(major @ 0..=0xfe), Some(minor @ 0..=0xfe)) = (bios.byte(0x14), bios.byte(0x15)) {
        fill(&mut firmware.release, format!("{major}.{minor}"));
    }
}

/// Version of the first trusted platform module. The file is there since Linux
/// 5.6; before, a version 1.2 was told by `caps`, which 2.0 has not.
fn tpm_version(host: &HostRoot) -> Result<String, ProbeError> {
    let version = match attribute(host, &format!("{TPM}/tpm0/tpm_version_major"))?.as_str() {
        "1" => "1.2",
        "2" => "2.0",
        _ if exists(host, &format!("{TPM}/tpm0/device/caps"))? => "1.2",
        _ if exists(host, "sys/class/tpmrm/tpmrm0")? => "2.0",
        _ => "",
    };
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::smbios::written::structure;
    use std::fs;

    fn firmware(files: &[(&str, &[u8])]) -> Option<FirmwareDetails> {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let scan = scan(&HostRoot::new(root.path()).unwrap()).unwrap();
        assert_eq!(scan.warnings, [""; 0]);
        scan.assets.into_iter().next().map(|asset| match asset.details {
            Details::Firmware(firmware) => firmware,
            other => panic!("no firmware: {other:?}"),
        })
    }

    #[test]
    fn a_machine_that_tells_nothing_has_none() {
        assert_eq!(firmware(&[]), None);
        assert_eq!(firmware(&[("sys/firmware/memmap/0/type", b"System RAM\n")]), None);
        assert_eq!(firmware(&[("sys/firmware/devicetree/base/model", b"Board\0")]), None);
    }

    #[test]
    fn reads_what_everybody_may_see() {
        let found = firmware(&[
            ("sys/class/dmi/id/bios_vendor", b"Dell Inc.\n"),
            ("sys/class/dmi/id/bios_version", b"2.10.2\n"),
            ("sys/class/dmi/id/bios_date", b"11/04/2020\n"),
            ("sys/class/dmi/id/bios_release", b"2.10\n"),
            ("sys/firmware/efi/fw_platform_size", b"64\n"),
            ("sys/class/tpm/tpm0/tpm_version_major", b"2\n"),
        ]);
        let expected = FirmwareDetails {
            vendor: "Dell Inc.".into(),
            version: "2.10.2".into(),
            release_date: "11/04/2020".into(),
            release: "2.10".into(),
            boot_mode: "uefi".into(),
            tpm_version: "2.0".into(),
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn smbios_adds_what_is_missing() {
        let mut fields = [0; 0x14];
        (fields[0], fields[1], fields[4], fields[0x10], fields[0x11]) = (1, 2, 3, 5, 17);
        let table = structure(0, 0, &fields, &["Other", "1.2.3", "01/02/2024"]);
        let found = firmware(&[
            ("sys/class/dmi/id/bios_vendor", b"SeaBIOS\n"),
            ("sys/firmware/dmi/tables/DMI", &table),
            ("sys/firmware/memmap/0/type", b"System RAM\n"),
            ("sys/class/tpm/tpm0/device/caps", b"Manufacturer\n"),
        ])
        .unwrap();
        assert_eq!((found.vendor.as_str(), found.version.as_str()), ("SeaBIOS", "1.2.3"));
        assert_eq!((found.release_date.as_str(), found.release.as_str()), ("01/02/2024", "5.17"));
        assert_eq!((found.boot_mode.as_str(), found.tpm_version.as_str()), ("bios", "1.2"));
    }
}
