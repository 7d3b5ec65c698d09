//! Listening sockets: the tables of `/proc/net` in the network namespace of
//! process 1, and the processes that hold them by `/proc/*/fd`.

mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::BufReader;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use contracts::v1::{AssetKind, ListeningSocketDetails, RelationType, asset_details::Details};

use self::table::{Row, read_table};
use super::containers::Containers;
use super::packages::Owners;
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const PROTOCOLS: [&str; 4] = ["tcp", "tcp6", "udp", "udp6"];
const PORT_RANGE: &str = "proc/sys/net/ipv4/ip_local_port_range";

pub(super) const WATCHED: &[&str] = &[];

/// Age from which a UDP socket on a port that the kernel chose counts as a
/// service: a client that asks one question has gone long before.
const STEADY_AGE: Duration = Duration::from_secs(60);

/// The probe, with what it remembers from scan to scan.
pub(super) struct Sockets {
    memory: Mutex<Memory>,
    containers: Containers,
}

#[derive(Default)]
struct Memory {
    /// Inode → holder, so that the costly look into all processes happens only
    /// when there is a socket whose holder is not known.
    owners: HashMap<u64, Owner>,
    /// UDP sockets on ports that the kernel chose, since when.
    seen: HashMap<u64, Instant>,
    /// Natural keys recorded before this process began; steady at first sight.
    known: BTreeSet<String>,
    /// Which packages installed the programs.
    packages: Owners,
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    pid: u32,
    program: String,
    executable: String,
}

impl Sockets {
    pub(super) fn new(known: impl IntoIterator<Item = String>, containers: Containers) -> Self {
        let memory = Memory { known: known.into_iter().collect(), ..Memory::default() };
        Self { memory: Mutex::new(memory), containers }
    }

    pub(super) fn scan(&self, host: &HostRoot) -> Result<Scan, ProbeError> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scan = Scan::default();
        let mut rows = read_rows(host, &mut scan.warnings)?;
        let range = host.line(PORT_RANGE).as_deref().and_then(parse_port_range);
        memory.drop_passing(&mut rows, range, Instant::now());
        memory.find_owners(host, &rows);
        let holders = memory.owners.values().map(|owner| owner.pid).collect();
        let containers = self.containers.of_processes(host, &holders);
        scan.assets = assets(&rows, &memory.owners, &containers);
        memory.packages.attribute(host, &mut scan);
        Ok(scan)
    }
}

fn read_rows(host: &HostRoot, warnings: &mut Vec<String>) -> Result<Vec<Row>, ProbeError> {
    let mut rows = Vec::new();
    for protocol in PROTOCOLS {
        let path = format!("proc/1/net/{protocol}");
        let file = match host.open(&path).or_else(|_| host.open(format!("proc/self/net/{protocol}"))) {
            Ok(file) => file,
            // A kernel without IPv6 has no such tables; /proc itself must be there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && protocol != "tcp" => continue,
            Err(error) => return Err(ProbeError::read(&path)(error)),
        };
        let (found, unreadable) =
            read_table(BufReader::new(file), protocol).map_err(ProbeError::read(&path))?;
        rows.extend(found);
        if unreadable > 0 {
            warnings.push(format!("{path}: {unreadable} lines could not be read"));
        }
    }
    Ok(rows)
}

impl Memory {
    /// Leaves out UDP sockets that are likely a client's: bound to a port from
    /// the kernel's own range, and not there for long.
    fn drop_passing(&mut self, rows: &mut Vec<Row>, range: Option<(u16, u16)>, now: Instant) {
        let Some((first, last)) = range else { return };
        let mut seen = HashMap::new();
        rows.retain(|row| {
            if !row.protocol.starts_with("udp") || !(first..=last).contains(&row.port) {
                return true;
            }
            let since = self.seen.get(&row.inode).copied().unwrap_or(now);
            seen.insert(row.inode, since);
            now.duration_since(since) >= STEADY_AGE || self.known.contains(&row.natural_key())
        });
        self.seen = seen;
    }

    fn find_owners(&mut self, host: &HostRoot, rows: &[Row]) {
        let wanted: BTreeSet<u64> = rows.iter().map(|row| row.inode).filter(|inode| *inode != 0).collect();
        self.owners.retain(|inode, owner| {
            wanted.contains(inode) && read_owner(host, owner.pid).as_ref() == Some(owner)
        });
        if wanted.iter().any(|inode| !self.owners.contains_key(inode)) {
            self.owners = search_owners(host, &wanted);
        }
    }
}

/// Looks through the open files of all processes. Of several holders the one
/// with the lowest PID counts, as that is the master of its workers; but not
/// process 1, which holds the sockets of the services that it starts.
fn search_owners(host: &HostRoot, wanted: &BTreeSet<u64>) -> HashMap<u64, Owner> {
    let mut holders: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for name in host.list("proc").unwrap_or_default() {
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Gone meanwhile, or not ours to look into: its sockets have no program.
        for (_, target) in host.links(format!("proc/{pid}/fd")).unwrap_or_default() {
            if let Some(inode) = target.to_str().and_then(socket_inode).filter(|inode| wanted.contains(inode))
            {
                holders.entry(inode).or_default().push(pid);
            }
        }
    }
    holders
        .into_iter()
        .filter_map(|(inode, pids)| {
            let pid = pids.into_iter().min_by_key(|pid| (*pid == 1, *pid))?;
            Some((inode, read_owner(host, pid)?))
        })
        .collect()
}

fn read_owner(host: &HostRoot, pid: u32) -> Option<Owner> {
    let program = host.line(format!("proc/{pid}/comm"))?;
    let executable = host.read_link(format!("proc/{pid}/exe")).ok();
    let executable = executable.map(|path| clean(path.as_os_str().as_encoded_bytes())).unwrap_or_default();
    // After an upgrade the old file is gone, but the program is the same.
    let executable = executable.strip_suffix(" (deleted)").map(str::to_owned).unwrap_or(executable);
    Some(Owner { pid, program, executable })
}

/// Inode in `socket:[12345]`.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn parse_port_range(line: &str) -> Option<(u16, u16)> {
    let (first, last) = line.split_once(char::is_whitespace)?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// One asset a natural key: sockets that share one (SO_REUSEPORT) are ordered by
/// what is reported of them, so that the same one is always kept.
fn assets(
    rows: &[Row],
    owners: &HashMap<u64, Owner>,
    containers: &BTreeMap<u32, String>,
) -> Vec<ScannedAsset> {
    let mut by_key: BTreeMap<String, (u32, String, String, String, &Row)> = BTreeMap::new();
    for row in rows {
        let owner = owners.get(&row.inode);
        let program = owner.map(|owner| owner.program.clone()).unwrap_or_default();
        let executable = owner.map(|owner| owner.executable.clone()).unwrap_or_default();
        let container = owner.and_then(|owner| containers.get(&owner.pid).cloned()).unwrap_or_default();
        let candidate = (row.uid, program, executable, container, row);
        let before = by_key.get(&row.natural_key());
        // One whose program is known tells more.
        let rank = |(uid, program, executable, container, _): &(u32, String, String, String, &Row)| {
            (program.is_empty(), *uid, program.clone(), executable.clone(), container.clone())
        };
        if before.is_none_or(|before| rank(&candidate) < rank(before)) {
            by_key.insert(row.natural_key(), candidate);
        }
    }
    by_key
        .into_iter()
        .map(|(key, (uid, program, executable, container, row))| {
            let details = ListeningSocketDetails {
                protocol: row.protocol.to_owned(),
                address: row.address.to_string(),
                port: u32::from(row.port),
                program,
                executable,
                uid,
                container: container.clone(),
                ..ListeningSocketDetails::default()
            };
            let asset = ScannedAsset::new(key.clone(), key, Details::ListeningSocket(details));
            if container.is_empty() {
                return asset;
            }
            asset.related(RelationType::RunsIn, AssetKind::Container, container)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn row(protocol: &'static str, port: u16, inode: u64) -> Row {
        Row { protocol, address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port, uid: 7, inode }
    }

    fn owner(pid: u32, program: &str) -> Owner {
        Owner { pid, program: program.into(), executable: format!("/usr/sbin/{program}") }
    }

    #[test]
    fn clients_are_left_out_and_services_stay() {
        let mut memory =
            Memory { known: BTreeSet::from(["udp/0.0.0.0:41641".to_owned()]), ..Memory::default() };
        let start = Instant::now();
        let all =
            || vec![row("udp", 53, 1), row("udp", 40000, 2), row("tcp", 40000, 3), row("udp", 41641, 4)];
        let ports = |memory: &mut Memory, rows: &mut Vec<Row>, now| {
            memory.drop_passing(rows, Some((32768, 60999)), now);
            rows.iter().map(|row| (row.protocol, row.port)).collect::<Vec<_>>()
        };
        let settled = [("udp", 53), ("tcp", 40000), ("udp", 41641)];
        assert_eq!(ports(&mut memory, &mut all(), start), settled);
        assert_eq!(ports(&mut memory, &mut all(), start + STEADY_AGE / 2), settled);
        assert_eq!(ports(&mut memory, &mut all(), start + STEADY_AGE).len(), 4);
        // The same port held by another socket begins anew.
        let mut other = vec![row("udp", 40000, 9)];
        assert!(ports(&mut memory, &mut other, start + STEADY_AGE).is_empty());
    }

    #[test]
    fn sockets_that_share_an_address_are_one_asset() {
        let owners = HashMap::from([(1, owner(10, "nginx")), (2, owner(11, "nginx"))]);
        let (a, b, unknown) = (row("tcp", 80, 1), row("tcp", 80, 2), row("tcp", 80, 3));
        let containers = BTreeMap::from([(10, "pod/web".to_owned()), (11, "pod/web".to_owned())]);
        let one = assets(&[unknown.clone(), a.clone(), b.clone()], &owners, &containers);
        assert_eq!(one, assets(&[b, a, unknown], &owners, &containers));
        assert_eq!(one.len(), 1);
        let Details::ListeningSocket(socket) = &one[0].details else { panic!("no socket") };
        assert_eq!((socket.program.as_str(), socket.executable.as_str()), ("nginx", "/usr/sbin/nginx"));
        assert_eq!(one[0].natural_key, "tcp/0.0.0.0:80");
        assert_eq!((socket.container.as_str(), one[0].relations.len()), ("pod/web", 1));
    }

    #[test]
    fn holders_are_found_in_a_tree_of_proc() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let process = |pid: u32, comm: &str, exe: &str, inodes: &[u64]| {
            let folder = root.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(folder.join("fd")).unwrap();
            std::fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
            symlink(exe, folder.join("exe")).unwrap();
            for inode in inodes {
                symlink(format!("socket:[{inode}]"), folder.join(format!("fd/{inode}"))).unwrap();
            }
        };
        process(1, "systemd", "/usr/lib/systemd/systemd", &[5, 6]);
        process(40, "sshd", "/usr/sbin/sshd (deleted)", &[5]);
        process(41, "sshd", "/usr/sbin/sshd", &[5, 7]);
        let host = HostRoot::new(root.path()).unwrap();
        let owners = search_owners(&host, &BTreeSet::from([5, 6, 8]));
        assert_eq!(owners.len(), 2);
        assert_eq!(owners[&5], owner(40, "sshd"));
        assert_eq!(owners[&6].program, "systemd");

        // A holder that has become another program is looked for again.
        let mut memory = Memory { owners: HashMap::from([(5, owner(40, "old"))]), ..Memory::default() };
        memory.find_owners(&host, &[row("tcp", 22, 5)]);
        assert_eq!(memory.owners[&5], owner(40, "sshd"));
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
}
