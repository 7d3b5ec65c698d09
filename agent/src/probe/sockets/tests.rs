use super::*;
use crate::probe::{Context, ProbeArgs};
use std::net::{IpAddr, Ipv4Addr};

fn row(protocol: &'static str, port: u16, inode: u64) -> Row {
    Row { protocol, address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port, uid: 7, inode }
}

fn process(program: &str) -> Process {
    Process { program: program.into(), executable: format!("/usr/sbin/{program}"), container: None }
}

/// Adds a process to a tree of /proc.
fn write_process(root: &std::path::Path, pid: u32, comm: &[u8], exe: &str, inodes: &[u64]) {
    use std::os::unix::fs::symlink;
    let folder = root.join(format!("proc/{pid}"));
    std::fs::create_dir_all(folder.join("fd")).unwrap();
    std::fs::write(folder.join("comm"), [comm, b"\n"].concat()).unwrap();
    symlink(exe, folder.join("exe")).unwrap();
    for inode in inodes {
        symlink(format!("socket:[{inode}]"), folder.join(format!("fd/{inode}"))).unwrap();
    }
}

#[test]
fn what_passes_is_left_out_and_services_stay() {
    let mut memory = Memory { known: BTreeSet::from(["udp/0.0.0.0:41641".to_owned()]), ..Memory::default() };
    let start = Instant::now();
    let all = || vec![row("udp", 53, 1), row("udp", 40000, 2), row("tcp", 40000, 3), row("udp", 41641, 4)];
    let ports = |memory: &mut Memory, mut rows: Vec<Row>, now| {
        memory.drop_passing(&mut rows, Some((32768, 60999)), now);
        rows.iter().map(|row| (row.protocol, row.port)).collect::<Vec<_>>()
    };
    let settled = [("udp", 53), ("tcp", 40000), ("udp", 41641)];
    // The first look of all takes what it finds of TCP.
    assert_eq!(ports(&mut memory, all(), start), settled);
    assert_eq!(ports(&mut memory, all(), start + STEADY_AGE / 2), settled);
    assert_eq!(ports(&mut memory, all(), start + STEADY_AGE).len(), 4);
    // The same port held by another socket begins anew.
    assert!(ports(&mut memory, vec![row("udp", 40000, 9)], start + STEADY_AGE).is_empty());
    // A program that came later counts with the second look, if it is still there.
    let (came, other) =
        (|| vec![row("tcp", 40001, 10), row("tcp", 8080, 11)], || vec![row("tcp", 40001, 12)]);
    assert_eq!(ports(&mut memory, came(), start), [("tcp", 8080)]);
    assert_eq!(ports(&mut memory, came(), start).len(), 2);
    assert_eq!(ports(&mut memory, came(), start).len(), 2);
    assert!(ports(&mut memory, other(), start).is_empty());
    assert!(ports(&mut memory, vec![], start).is_empty());
    assert_eq!(ports(&mut memory, came(), start), [("tcp", 8080)]);
}

#[test]
fn sockets_that_share_an_address_are_one_asset() {
    let memory = Memory {
        holders: HashMap::from([(1, 10), (2, 11)]),
        processes: HashMap::from([(10, process("nginx")), (11, process("nginx"))]),
        ..Memory::default()
    };
    let (a, b, unknown) = (row("tcp", 80, 1), row("tcp", 80, 2), row("tcp", 80, 3));
    let one = assets(&[unknown.clone(), a.clone(), b.clone()], &memory);
    assert_eq!(one, assets(&[b, a, unknown], &memory));
    assert_eq!(one.len(), 1);
    let Details::ListeningSocket(socket) = &one[0].details else { panic!("no socket") };
    assert_eq!((socket.program.as_str(), socket.executable.as_str()), ("nginx", "/usr/sbin/nginx"));
    assert_eq!(one[0].natural_key, "tcp/0.0.0.0:80");
}

#[test]
fn holders_are_found_in_a_tree_of_proc() {
    let root = tempfile::tempdir().unwrap();
    write_process(root.path(), 1, b"systemd", "/usr/lib/systemd/systemd", &[5, 6]);
    write_process(root.path(), 40, b"sshd", "/usr/sbin/sshd (deleted)", &[5]);
    write_process(root.path(), 41, b"sshd", "/usr/sbin/sshd", &[5, 7]);
    write_process(root.path(), 42, b"caf\xe9\x07", "/opt/caf\u{e9}", &[9]);
    let host = HostRoot::new(root.path()).unwrap();
    let found = search_holders(&host, &HashSet::from([5, 6, 8])).unwrap();
    assert_eq!(found, (HashMap::from([(5, 40), (6, 1)]), false));

    // A holder that has become another program is looked for again.
    let mut memory = Memory {
        holders: HashMap::from([(5, 40)]),
        processes: HashMap::from([(40, process("old"))]),
        ..Memory::default()
    };
    let rows = [row("tcp", 22, 5), row("tcp", 23, 9)];
    memory.find_holders(&host, &rows).unwrap();
    assert_eq!(memory.process(&rows[0]), Some(&process("sshd")));

    // A program is whatever its name is, and so is its container.
    memory.processes.get_mut(&42).unwrap().container = Some("pod/app".to_owned());
    let found = assets(&rows, &memory);
    let Details::ListeningSocket(socket) = &found[1].details else { panic!("no socket") };
    assert_eq!((socket.program.as_str(), socket.container.as_str()), ("caf\u{fffd}", "pod/app"));
    assert!(found[0].relations.is_empty());
    let relation = &found[1].relations[0];
    assert_eq!((relation.r#type(), relation.kind()), (RelationType::RunsIn, AssetKind::Container));
    assert_eq!(relation.natural_key, "pod/app");

    // Without a program is only what the kernel holds, unless a look was denied.
    let kernels = [row("udp", 111, 0), row("udp", 2049, 77)];
    assert_eq!(memory.warning(&kernels), None);
    let denied = Memory { is_denied: true, ..Memory::default() };
    let expected = "programs of 1 sockets: permission denied, needs root and CAP_SYS_PTRACE";
    assert_eq!(denied.warning(&kernels).as_deref(), Some(expected));

    // A second look changes nothing.
    memory.find_holders(&host, &rows).unwrap();
    assert_eq!(assets(&rows, &memory), found);
}

#[test]
fn what_cannot_be_read_fails_the_probe() {
    let line = "  sl\n0: 00000000:1F90 00000000:0000 0A 0:0 0:0 0 0 0 5 1\n";
    let tree = || {
        let root = tempfile::tempdir().unwrap();
        write_process(root.path(), 7, b"app", "/usr/bin/app", &[5]);
        for (path, text) in [
            ("proc/1/net/tcp", line),
            ("proc/self/net/tcp", "  sl\n0: 00000000:1F91 00000000:0000 0A 0:0 0:0 0 0 0 6 1\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    };
    let scan = |root: &tempfile::TempDir| {
        let containers = Containers::new(&Context::forgetful(ProbeArgs::default()));
        Sockets::new([], containers).scan(&HostRoot::new(root.path()).unwrap())
    };
    assert_eq!(scan(&tree()).unwrap().assets.len(), 1);
    // ENAMETOOLONG, as any error that is no word on what is there.
    for path in ["proc/1/net/tcp", "proc/sys/net/ipv4/ip_local_port_range", "proc/7/comm", "proc/7/fd"] {
        let root = tree();
        let link = root.path().join(path);
        let _ = std::fs::remove_file(&link);
        let _ = std::fs::remove_dir_all(&link);
        std::os::unix::fs::symlink("x".repeat(300), link).unwrap();
        let error = scan(&root).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {path}:")), "{error}");
    }
    let root = tree();
    std::fs::write(root.path().join("proc/sys/net/ipv4/ip_local_port_range"), "x\n").unwrap();
    assert!(scan(&root).is_err());
    // Process 1 is hidden, or there is none.
    std::fs::remove_file(root.path().join("proc/sys/net/ipv4/ip_local_port_range")).unwrap();
    std::fs::remove_dir_all(root.path().join("proc/1")).unwrap();
    assert_eq!(scan(&root).unwrap().assets[0].natural_key, "tcp/0.0.0.0:8081");
}

#[test]
fn a_hundred_thousand_sockets_are_read_and_more_are_told() {
    use std::fmt::Write as _;
    let root = tempfile::tempdir().unwrap();
    write_process(root.path(), 7, b"many", "/usr/bin/many", &[1, 2, 3]);
    std::fs::create_dir_all(root.path().join("proc/1/net")).unwrap();
    let mut table = String::from("  sl  local_address\n");
    for number in 0..MAX_ROWS + 5 {
        // 10.0.x.y, each with three ports, little-endian as the kernel prints it.
        let address = u32::from_be_bytes([10, 0, 0, 0]) + u32::try_from(number / 3).unwrap();
        let (address, port) = (address.swap_bytes(), 1000 + number % 3);
        writeln!(table, "{number}: {address:08X}:{port:04X} 00000000:0000 0A 0:0 0:0 0 0 0 {}", number + 1)
            .unwrap();
    }
    std::fs::write(root.path().join("proc/1/net/tcp"), table).unwrap();
    let host = HostRoot::new(root.path()).unwrap();
    let sockets = Sockets::new([], Containers::new(&Context::forgetful(ProbeArgs::default())));
    let scan = sockets.scan(&host).unwrap();
    assert_eq!(scan.assets.len(), MAX_ROWS);
    assert_eq!(scan.warnings, ["proc/1/net/tcp: 5 lines could not be read or are too many"]);
    let memory = sockets.memory.lock().unwrap();
    assert_eq!((memory.holders.len(), memory.processes.len(), memory.seen.len()), (3, 1, 0));
}

#[test]
fn reads_links_and_ranges() {
    assert_eq!(socket_inode("socket:[12]"), Some(12));
    for target in ["pipe:[12]", "socket:[]", "socket:[x]", "/dev/null", ""] {
        assert_eq!(socket_inode(target), None);
    }
    assert_eq!(parse_port_range("32768\t60999"), Some((32768, 60999)));
    assert_eq!(parse_port_range("garbage"), None);
}
