use super::*;
use std::fs;
use std::path::Path;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn processors(root: &Path) -> Vec<(String, ProcessorDetails)> {
    let scan = scan(&HostRoot::new(root).unwrap()).unwrap();
    let processor = |asset: ScannedAsset| match asset.details {
        Details::Processor(processor) => (asset.natural_key, processor),
        other => panic!("no processor: {other:?}"),
    };
    scan.assets.into_iter().map(processor).collect()
}

/// Two packages of two cores of two threads; the last thread is offline.
fn two_sockets(root: &Path) {
    let mut cpuinfo = String::new();
    for processor in 0..8 {
        let (socket, core) = (processor / 2 % 2, processor % 2);
        write(root, &format!("sys/devices/system/cpu/cpu{processor}/uevent"), "");
        if processor == 7 {
            continue;
        }
        let folder = format!("sys/devices/system/cpu/cpu{processor}");
        write(root, &format!("{folder}/topology/physical_package_id"), &format!("{socket}\n"));
        write(root, &format!("{folder}/topology/core_id"), &format!("{core}\n"));
        let first = processor % 4;
        let siblings = if first == 3 { "3".to_owned() } else { format!("{first},{}", first + 4) };
        write(root, &format!("{folder}/topology/core_cpus_list"), &format!("{siblings}\n"));
        write(root, &format!("{folder}/cpufreq/cpuinfo_max_freq"), &format!("{}\n", 3_900_000 - processor));
        for (index, level, kind, size) in [
            (0, 1, "Data", "32K"),
            (1, 1, "Instruction", "32K"),
            (2, 2, "Unified", "1024K"),
            (10, 3, "Unified", "28160K"),
        ] {
            write(root, &format!("{folder}/cache/index{index}/level"), &format!("{level}\n"));
            write(root, &format!("{folder}/cache/index{index}/type"), &format!("{kind}\n"));
            write(root, &format!("{folder}/cache/index{index}/size"), &format!("{size}\n"));
        }
        cpuinfo += &format!(
            "processor\t: {processor}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
            model name\t: Xeon {socket}\nstepping\t: 7\nmicrocode\t: 0x5003604\nphysical id\t: {socket}\n\
            flags\t\t: vme fpu apic\n\n"
        );
    }
    write(root, "proc/cpuinfo", &cpuinfo);
    write(root, "sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n");
    write(root, "sys/devices/system/cpu/vulnerabilities/l1tf", "Not affected\n");
    write(root, "sys/devices/system/cpu/cpufreq/boost", "1\n");
}

#[test]
fn counts_packages_cores_and_threads() {
    let root = tempfile::tempdir().unwrap();
    two_sockets(root.path());
    let found = processors(root.path());
    assert_eq!(found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["socket/0", "socket/1"]);
    let (one, two) = (&found[0].1, &found[1].1);
    assert_eq!((one.cores, one.threads, one.max_mhz, one.model.as_str()), (2, 4, 3900, "Xeon 0"));
    assert_eq!((two.cores, two.threads, two.max_mhz, two.model.as_str()), (2, 3, 3899, "Xeon 1"));
    assert_eq!(one.flags, ["apic", "fpu", "vme"]);
    let caches: Vec<_> =
        one.caches.iter().map(|cache| (cache.level, cache.r#type.as_str(), cache.size_bytes)).collect();
    let kib = 1024;
    assert_eq!(
        caches,
        [
            (1, "data", 32 * kib),
            (1, "instruction", 32 * kib),
            (2, "unified", kib * kib),
            (3, "unified", 28160 * kib)
        ]
    );
    let names: Vec<_> = two.vulnerabilities.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["l1tf", "meltdown"]);
}

#[test]
fn odd_topologies_are_one_package() {
    // A package that the firmware does not tell.
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "sys/devices/system/cpu/cpu0/topology/physical_package_id", "-1\n");
    write(root.path(), "sys/devices/system/cpu/cpu0/topology/core_id", "0\n");
    write(root.path(), "sys/devices/system/cpu/cpu0/microcode/version", "0x7\n");
    write(root.path(), "proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n");
    let found = processors(root.path());
    assert_eq!((found.len(), found[0].0.as_str(), found[0].1.model.as_str()), (1, "socket/0", "Cortex-A72"));
    assert_eq!((found[0].1.cores, found[0].1.threads, found[0].1.microcode.as_str()), (1, 1, "0x7"));
    // No topology at all.
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "proc/cpuinfo",
        "processor\t: 0\nphysical id : 3\ncore id : 0\n\nprocessor\t: 1\nphysical id : 3\ncore id : 0\n",
    );
    let found = processors(root.path());
    assert_eq!((found.len(), found[0].0.as_str()), (1, "socket/3"));
    assert_eq!((found[0].1.cores, found[0].1.threads), (1, 2));
}

#[test]
fn without_cpuinfo_nothing_is_gone() {
    let root = tempfile::tempdir().unwrap();
    assert!(scan(&HostRoot::new(root.path()).unwrap()).is_err());
}

#[test]
fn sizes_are_those_of_the_kernel() {
    for (text, expected) in
        [("32K", Some(32768)), ("64", Some(64)), ("K", None), ("99999999999999999999K", None)]
    {
        assert_eq!(parse_size(text), expected);
    }
}
