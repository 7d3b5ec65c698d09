//! Processors and NUMA nodes against lscpu and numactl. lscpu also looks at a
//! made tree of two sockets: `--sysroot`.

use super::*;

use contracts::v1::{NumaNodeDetails, ProcessorDetails};

fn processors(scan: Scan) -> Vec<ProcessorDetails> {
    let details = |asset: agent::asset::ScannedAsset| match asset.details {
        Details::Processor(processor) => {
            assert_eq!(asset.natural_key, format!("socket/{}", processor.socket));
            processor
        }
        other => panic!("no processor: {other:?}"),
    };
    scan.assets.into_iter().map(details).collect()
}

fn numa_nodes(scan: Scan) -> Vec<NumaNodeDetails> {
    let details = |asset: agent::asset::ScannedAsset| match asset.details {
        Details::NumaNode(node) => node,
        other => panic!("no NUMA node: {other:?}"),
    };
    scan.assets.into_iter().map(details).collect()
}

/// Level, type and size of one cache.
type Cache = (u64, String, u64);

/// Fields of `lscpu`, and its caches.
fn lscpu(args: &[&str]) -> Option<(BTreeMap<String, String>, Vec<Cache>)> {
    let listed = tool("lscpu", args)?;
    let fields = listed
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    let listed = tool("lscpu", &[args, &["--caches", "--bytes", "--json"]].concat())?;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let mut caches: Vec<Cache> = listed["caches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cache| {
            let size = cache["one-size"].as_str().map(str::to_owned).unwrap_or(cache["one-size"].to_string());
            let kind = cache["type"].as_str().unwrap().to_lowercase();
            (cache["level"].as_u64().unwrap(), kind, size.parse().unwrap())
        })
        .collect();
    caches.sort();
    Some((fields, caches))
}

fn compare(
    found: &[ProcessorDetails],
    nodes: &[NumaNodeDetails],
    fields: &BTreeMap<String, String>,
    caches: &[Cache],
) {
    let number = |name: &str| fields[name].parse::<u64>().unwrap();
    assert_eq!(found.len() as u64, number("Socket(s)"));
    let threads: u64 = found.iter().map(|one| u64::from(one.threads)).sum();
    let online = fields["On-line CPU(s) list"].split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<u64>().unwrap() - first.parse::<u64>().unwrap() + 1
    });
    assert_eq!(threads, online.sum::<u64>());
    for one in found {
        assert_eq!(u64::from(one.cores), number("Core(s) per socket"));
        assert_eq!(one.vendor, fields["Vendor ID"]);
        assert_eq!(one.model, fields["Model name"]);
        let mut flags: Vec<&str> = fields["Flags"].split(' ').collect();
        flags.sort_unstable();
        flags.dedup();
        assert_eq!(one.flags, flags);
        // Rule: other architectures have other parts.
        if let Some(family) = fields.get("CPU family") {
            assert_eq!(one.signature, format!("{family}-{}-{}", fields["Model"], fields["Stepping"]));
        }
        if let Some(mhz) = fields.get("CPU max MHz") {
            assert_eq!(one.max_mhz, mhz.parse::<f64>().unwrap() as u32);
        } else {
            assert_eq!(one.max_mhz, 0);
        }
        let own: Vec<Cache> = one
            .caches
            .iter()
            .map(|cache| (u64::from(cache.level), cache.r#type.clone(), cache.size_bytes))
            .collect();
        assert_eq!(own, caches);
        // Rule: lscpu writes `Spec store bypass` for `spec_store_bypass`, and some of
        // the kernel's `:` and `,` as `;` or not at all.
        let states = |name: &String, state: &str| {
            (name.to_lowercase().replace('_', " "), state.replace([':', ',', ';'], ""))
        };
        let own: BTreeMap<String, String> =
            one.vulnerabilities.iter().map(|one| states(&one.name, &one.state)).collect();
        let expected: BTreeMap<String, String> = fields
            .iter()
            .filter_map(|(name, state)| Some(states(&name.strip_prefix("Vulnerability ")?.to_owned(), state)))
            .collect();
        assert_eq!(own, expected);
    }
    let own: BTreeMap<String, String> = nodes
        .iter()
        .map(|node| (format!("NUMA node{} CPU(s)", node.number), node.processors.clone()))
        .collect();
    // Rule: lscpu writes `0,1` for the kernel's `0-1`.
    let pairs = |list: &str| -> Vec<u64> {
        let ends = |range: &str| -> Option<(u64, u64)> {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        list.split(',').filter_map(ends).flat_map(|(first, last)| first..=last).collect()
    };
    let own: BTreeMap<String, Vec<u64>> = own.into_iter().map(|(name, list)| (name, pairs(&list))).collect();
    let expected: BTreeMap<String, Vec<u64>> = fields
        .iter()
        .filter(|(name, _)| name.starts_with("NUMA node") && name.ends_with(" CPU(s)"))
        .map(|(name, list)| (name.clone(), pairs(list)))
        .collect();
    assert_eq!(own, expected);
}

#[test]
fn processors_are_those_of_lscpu() {
    let Some((fields, caches)) = lscpu(&[]) else { return };
    let found = processors(scan("processors"));
    compare(&found, &numa_nodes(scan("numa")), &fields, &caches);
    assert!(found.iter().all(|one| one.architecture == fields["Architecture"]));
    println!("{} processors", found.len());
}

#[test]
fn numa_nodes_are_those_of_numactl() {
    let Some(listed) = tool("numactl", &["--hardware"]) else { return };
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    for node in numa_nodes(scan("numa")) {
        let number = node.number.to_string();
        let size = lines.iter().find(|words| words.starts_with(&["node", &number, "size:"])).unwrap();
        assert_eq!((node.memory_bytes / 1024 / 1024).to_string(), size[3]);
        let row = format!("{number}:");
        let row = lines.iter().find(|words| words.first() == Some(&row.as_str())).unwrap();
        let distances: Vec<String> = node.distances.iter().map(u32::to_string).collect();
        assert_eq!(distances, row[1..]);
    }
}

/// Two sockets of four cores of two threads, each socket a NUMA node; the last
/// processor is offline, and the numbers of cores repeat.
fn two_sockets(root: &Path) {
    let mut cpuinfo = String::new();
    let mask = |processors: &[u32]| {
        let bits: u32 = processors.iter().map(|processor| 1 << processor).sum();
        let list: Vec<String> = processors.iter().map(u32::to_string).collect();
        (format!("{bits:04x}\n"), format!("{}\n", list.join(",")))
    };
    let online: Vec<u32> = (0..15).collect();
    for processor in 0..16_u32 {
        let folder = format!("sys/devices/system/cpu/cpu{processor}");
        write(root, &format!("{folder}/online"), if processor < 15 { "1\n" } else { "0\n" });
        if processor == 15 {
            continue;
        }
        let (core, socket) = (processor % 8, processor % 8 / 4);
        let of = |keep: &dyn Fn(u32) -> bool| -> Vec<u32> {
            online.iter().copied().filter(|one| keep(*one)).collect()
        };
        let siblings = of(&|one| one % 8 == core);
        let package = of(&|one| one % 8 / 4 == socket);
        for (names, processors) in
            [(["core_cpus", "thread_siblings"], &siblings), (["package_cpus", "core_siblings"], &package)]
        {
            for name in names {
                write(root, &format!("{folder}/topology/{name}"), mask(processors).0);
                write(root, &format!("{folder}/topology/{name}_list"), mask(processors).1);
            }
        }
        write(root, &format!("{folder}/topology/core_id"), format!("{}\n", core % 2));
        write(root, &format!("{folder}/topology/physical_package_id"), format!("{socket}\n"));
        write(root, &format!("{folder}/cpufreq/cpuinfo_max_freq"), "3900000\n");
        write(root, &format!("{folder}/cpufreq/cpuinfo_min_freq"), "800000\n");
        for (index, level, kind, size, shared) in [
            (0, 1, "Data", "32K", &siblings),
            (1, 1, "Instruction", "64K", &siblings),
            (2, 2, "Unified", "1024K", &siblings),
            (3, 3, "Unified", "28160K", &package),
        ] {
            let cache = format!("{folder}/cache/index{index}");
            write(root, &format!("{cache}/level"), format!("{level}\n"));
            write(root, &format!("{cache}/type"), format!("{kind}\n"));
            write(root, &format!("{cache}/size"), format!("{size}\n"));
            write(root, &format!("{cache}/shared_cpu_map"), mask(shared).0);
            write(root, &format!("{cache}/shared_cpu_list"), mask(shared).1);
        }
        cpuinfo += &format!(
            "processor\t: {processor}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
            model name\t: Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz\nstepping\t: 7\nmicrocode\t: 0x5003604\n\
            physical id\t: {socket}\nsiblings\t: 8\ncore id\t\t: {}\ncpu cores\t: 4\n\
            flags\t\t: fpu vme de pse tsc msr lm aes avx512f\nbogomips\t: 4200.00\n\n",
            core % 2
        );
    }
    write(root, "proc/cpuinfo", cpuinfo);
    write(root, "sys/devices/system/cpu/online", "0-14\n");
    for name in ["possible", "present"] {
        write(root, &format!("sys/devices/system/cpu/{name}"), "0-15\n");
    }
    write(root, "sys/devices/system/cpu/kernel_max", "63\n");
    write(root, "sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n");
    write(root, "sys/devices/system/cpu/vulnerabilities/l1tf", "Not affected\n");
    for (node, list, map) in [(0, "0-3,8-11", "0f0f"), (1, "4-7,12-14", "70f0")] {
        let folder = format!("sys/devices/system/node/node{node}");
        write(root, &format!("{folder}/cpulist"), format!("{list}\n"));
        write(root, &format!("{folder}/cpumap"), format!("{map}\n"));
        write(root, &format!("{folder}/meminfo"), format!("Node {node} MemTotal: 1024 kB\n"));
        write(root, &format!("{folder}/distance"), "10 21\n");
    }
}

#[test]
fn processors_of_two_sockets_are_those_of_lscpu() {
    let root = tempfile::tempdir().unwrap();
    two_sockets(root.path());
    let Some((fields, caches)) = lscpu(&["--sysroot", root.path().to_str().unwrap()]) else { return };
    let found = processors(scan_tree("processors", root.path()));
    assert_eq!(found.len(), 2);
    compare(&found, &numa_nodes(scan_tree("numa", root.path())), &fields, &caches);
}
