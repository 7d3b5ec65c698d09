//! `/proc/cpuinfo` of x86, Arm, POWER, RISC-V and s390x, read one logical
//! processor at a time: a machine with hundreds has a megabyte of it.

use std::io::{self, BufRead};

use crate::probe::hardware_ids::each_line;
use crate::text::clean;

/// The flags of a processor have some 2 KB.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// What is said of one logical processor.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Description {
    pub(super) vendor: String,
    pub(super) model: String,
    pub(super) signature: String,
    pub(super) microcode: String,
    pub(super) flags: Vec<String>,
    pub(super) socket: Option<u32>,
    pub(super) core: Option<String>,
}

/// Fields that a signature is made of.
#[derive(Debug, Default)]
struct Parts {
    family: String,
    number: String,
    stepping: String,
    implementer: String,
    part: String,
    variant: String,
    revision: String,
}

/// Shows each logical processor by its number. Lines before the first or after
/// the last of them, as some architectures have, are said of all.
pub(super) fn each_processor(
    file: impl BufRead,
    mut show: impl FnMut(u32, &mut Description),
) -> io::Result<()> {
    let mut current: Option<(u32, Description, Parts)> = None;
    let mut shared = Description::default();
    each_line(file, MAX_LINE_BYTES, |line| {
        let line = clean(line);
        let Some((name, value)) = line.split_once(':') else { return };
        let (name, value) = (name.trim(), value.trim());
        let number = match name {
            "processor" => value.parse().ok(),
            // s390x: `processor 0: version = FF, …`.
            _ => name.strip_prefix("processor ").and_then(|number| number.parse().ok()),
        };
        if let Some(number) = number {
            finish(&mut current, &shared, &mut show);
            current = Some((number, Description::default(), Parts::default()));
            return;
        }
        match &mut current {
            Some((_, description, parts)) => take(description, parts, name, value),
            None => take(&mut shared, &mut Parts::default(), name, value),
        }
    })?;
    finish(&mut current, &shared, &mut show);
    Ok(())
}

fn finish(
    current: &mut Option<(u32, Description, Parts)>,
    shared: &Description,
    show: &mut impl FnMut(u32, &mut Description),
) {
    let Some((number, mut description, parts)) = current.take() else { return };
    description.signature = if parts.part.is_empty() {
        join(&[&parts.family, &parts.number, &parts.stepping])
    } else {
        join(&[&parts.implementer, &parts.part, &arm_revision(&parts)])
    };
    if !parts.part.is_empty() {
        let (vendor, model) = arm_names(&parts.implementer, &parts.part);
        description.vendor = vendor.map_or(parts.implementer.clone(), str::to_owned);
        description.model = match model {
            Some(model) => model.to_owned(),
            None => format!("implementer {} part {}", parts.implementer, parts.part),
        };
    }
    if description.vendor.is_empty() {
        description.vendor.clone_from(&shared.vendor);
    }
    if description.flags.is_empty() {
        description.flags.clone_from(&shared.flags);
    }
    show(number, &mut description);
}

fn take(description: &mut Description, parts: &mut Parts, name: &str, value: &str) {
    let value_of = || value.to_owned();
    match name {
        "vendor_id" | "mvendorid" => description.vendor = value_of(),
        "model name" | "cpu" | "uarch" | "Model Name" => description.model = value_of(),
        "cpu family" | "CPU Family" => parts.family = value_of(),
        "model" => parts.number = value_of(),
        "stepping" => parts.stepping = value_of(),
        "microcode" => description.microcode = value_of(),
        "physical id" => description.socket = value.parse().ok(),
        "core id" => description.core = Some(value_of()),
        "CPU implementer" => parts.implementer = value_of(),
        "CPU part" => parts.part = value_of(),
        "CPU variant" => parts.variant = value_of(),
        "CPU revision" => parts.revision = value_of(),
        "flags" | "Features" | "features" | "isa" => {
            description.flags = value.split_whitespace().map(str::to_owned).collect();
        }
        _ => {}
    }
}

/// As Arm writes it: variant 3 and revision 1 are `r3p1`.
fn arm_revision(parts: &Parts) -> String {
    let variant = parts.variant.strip_prefix("0x").unwrap_or(&parts.variant);
    let variant = u32::from_str_radix(variant, 16).unwrap_or(0);
    format!("r{variant}p{}", parts.revision)
}

fn join(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

/// Names of the makers of Arm processors and of those found in servers and
/// boards (MIDR_EL1 of the Arm Architecture Reference Manual; parts by the
/// kernel's arch/arm64/include/asm/cputype.h).
fn arm_names(implementer: &str, part: &str) -> (Option<&'static str>, Option<&'static str>) {
    const MAKERS: [(&str, &str); 11] = [
        ("0x41", "ARM"),
        ("0x42", "Broadcom"),
        ("0x43", "Cavium"),
        ("0x46", "FUJITSU"),
        ("0x48", "HiSilicon"),
        ("0x4e", "NVIDIA"),
        ("0x50", "APM"),
        ("0x51", "Qualcomm"),
        ("0x61", "Apple"),
        ("0x6d", "Microsoft"),
        ("0xc0", "Ampere"),
    ];
    const PARTS: [(&str, &str, &str); 23] = [
        ("0x41", "0xd03", "Cortex-A53"),
        ("0x41", "0xd04", "Cortex-A35"),
        ("0x41", "0xd05", "Cortex-A55"),
        ("0x41", "0xd07", "Cortex-A57"),
        ("0x41", "0xd08", "Cortex-A72"),
        ("0x41", "0xd09", "Cortex-A73"),
        ("0x41", "0xd0a", "Cortex-A75"),
        ("0x41", "0xd0b", "Cortex-A76"),
        ("0x41", "0xd0c", "Neoverse-N1"),
        ("0x41", "0xd0d", "Cortex-A77"),
        ("0x41", "0xd40", "Neoverse-V1"),
        ("0x41", "0xd41", "Cortex-A78"),
        ("0x41", "0xd44", "Cortex-X1"),
        ("0x41", "0xd49", "Neoverse-N2"),
        ("0x41", "0xd4f", "Neoverse-V2"),
        ("0x41", "0xd83", "Neoverse-V3AE"),
        ("0x41", "0xd84", "Neoverse-V3"),
        ("0x41", "0xd8e", "Neoverse-N3"),
        ("0x43", "0x0a1", "ThunderX"),
        ("0x43", "0x0af", "ThunderX2"),
        ("0x46", "0x001", "A64FX"),
        ("0x48", "0xd01", "TaiShan-v110"),
        ("0xc0", "0xac3", "Ampere-1"),
    ];
    let maker = MAKERS.iter().find(|(number, _)| *number == implementer).map(|(_, name)| *name);
    let model = PARTS.iter().find(|one| (one.0, one.1) == (implementer, part)).map(|one| one.2);
    (maker, model)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Vec<(u32, Description)> {
        let mut found = Vec::new();
        each_processor(text, |number, description| found.push((number, std::mem::take(description))))
            .unwrap();
        found
    }

    #[test]
    fn reads_each_architecture() {
        let x86 = parse(
            b"processor\t: 7\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
            model name\t: Intel(R) Xeon(R) Gold 6230\nstepping\t: 7\nmicrocode\t: 0x5003604\n\
            physical id\t: 1\ncore id\t\t: 3\nflags\t\t: fpu vme\n\n",
        );
        let expected = Description {
            vendor: "GenuineIntel".into(),
            model: "Intel(R) Xeon(R) Gold 6230".into(),
            signature: "6-85-7".into(),
            microcode: "0x5003604".into(),
            flags: vec!["fpu".into(), "vme".into()],
            socket: Some(1),
            core: Some("3".into()),
        };
        assert_eq!(x86, [(7, expected)]);
        let arm = parse(
            b"processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\n\
            CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\nprocessor\t: 1\n\
            CPU implementer\t: 0x99\nCPU part\t: 0x001\n\nSerial\t: 00000000deadbeef\n",
        );
        assert_eq!(arm.len(), 2);
        assert_eq!((arm[0].1.vendor.as_str(), arm[0].1.model.as_str()), ("ARM", "Neoverse-N1"));
        assert_eq!((arm[0].1.signature.as_str(), arm[0].1.flags.len()), ("0x41-0xd0c-r3p1", 2));
        assert_eq!(
            (arm[1].1.vendor.as_str(), arm[1].1.model.as_str()),
            ("0x99", "implementer 0x99 part 0x001")
        );
        let power = parse(
            b"processor\t: 0\ncpu\t\t: POWER9, altivec supported\nrevision\t: 2.2\n\ntimebase\t: 512000000\n",
        );
        assert_eq!(power[0].1.model, "POWER9, altivec supported");
        let s390 = parse(
            b"vendor_id       : IBM/S390\n# processors    : 2\nfeatures\t: esan3 zarch\n\
            processor 0: version = FF,  identification = 123456,  machine = 8561\n\
            processor 1: version = FF,  identification = 123456,  machine = 8561\n",
        );
        assert_eq!(s390.len(), 2);
        assert_eq!((s390[1].1.vendor.as_str(), s390[1].1.flags.len()), ("IBM/S390", 2));
        assert_eq!(parse(b"\xff\0garbage\n:::\nprocessor: many\n"), []);
    }
}
