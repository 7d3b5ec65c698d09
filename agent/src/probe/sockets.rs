//! Listening sockets: as the kernel tells of them (sock_diag(7)) where the agent
//! shares the node's network namespace, else the tables of `/proc/net` of process
//! 1; and the processes that hold them by `/proc/*/fd`. What listens in
//! a namespace of its own, as most containers do, is not reachable by the node's
//! addresses and is not the node's; what runs in a container with the node's
//! network is there, and says so.
//!
//! Programs that come and go would make most events of a busy machine, so a
//! socket on a port that the kernel chose (`ip_local_port_range`) has to prove
//! itself: one of UDP by its age, one of TCP by being there at a second look.
//! But what is there when the agent first looks, or was recorded by an earlier
//! one, counts at once.

pub(super) mod diag;
mod table;

#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, BufReader, ErrorKind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use contracts::v1::{AssetKind, ListeningSocketDetails, RelationType, asset_details::Details};

use self::table::{MAX_ROWS, Row, read_table};
use super::containers::Containers;
use super::packages::Owners;
use super::{ProbeError, Scan, is_absent, unless_absent};
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
    /// Inode → PID of its holder, so that the costly look into all processes
    /// happens only when there is a socket whose holder is not known.
    holders: HashMap<u64, u32>,
    /// PID → what was reported of the process.
    processes: HashMap<u32, Process>,
    /// Sockets on ports that the kernel chose, since when.
    seen: HashMap<u64, Instant>,
    /// Natural keys recorded before this process began; steady at first sight.
    known: BTreeSet<String>,
    has_looked: bool,
    /// Whether some processes did not let the agent see what they hold.
    is_denied: bool,
    /// Which packages installed the programs.
    packages: Owners,
}

/// A process that holds sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    program: String,
    executable: String,
    container: Option<String>,
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
        let range = port_range(host)?;
        memory.drop_passing(&mut rows, range, Instant::now());
        memory.find_holders(host, &rows)?;
        scan.warnings.extend(memory.warning(&rows));
        memory.find_packages(host);
        let containers = self.containers.of_processes(host, &memory.processes.keys().copied().collect());
        for (pid, process) in &mut memory.processes {
            process.container = containers.get(pid).cloned();
        }
        scan.assets = assets(&rows, &memory);
        memory.packages.attribute(host, &mut scan);
        Ok(scan)
    }
}

fn read_rows(host: &HostRoot, warnings: &mut Vec<String>) -> Result<Vec<Row>, ProbeError> {
    let mut rows = Vec::new();
    let is_own = host.shares_network().unwrap_or(false);
    for protocol in PROTOCOLS {
        // Where the kernel cannot tell so (a module that is not there, a sandbox),
        // its tables say the same.
        if is_own && let Ok((found, surplus)) = diag::read(protocol, MAX_ROWS - rows.len()) {
            rows.extend(found);
            if surplus > 0 {
                warnings.push(format!("{protocol}: {surplus} sockets are too many"));
            }
            continue;
        }
        let path = format!("proc/1/net/{protocol}");
        let opened = match host.open(&path) {
            // Hidden (proc(5), hidepid), or none there. Any other failure says
            // nothing of process 1, and the agent's own namespace is another.
            Err(error) if is_absent(&error) || error.kind() == ErrorKind::PermissionDenied => {
                host.open(format!("proc/self/net/{protocol}"))
            }
            opened => opened,
        };
        let file = match opened {
            Ok(file) => file,
            // A kernel without IPv6 has no such tables; /proc itself must be there.
            Err(error) if error.kind() == ErrorKind::NotFound && protocol != "tcp" => continue,
            Err(error) => return Err(ProbeError::read(&path)(error)),
        };
        let (found, unreadable) = read_table(BufReader::new(file), protocol, MAX_ROWS - rows.len())
            .map_err(ProbeError::read(&path))?;
        rows.extend(found);
        if unreadable > 0 {
            warnings.push(format!("{path}: {unreadable} lines could not be read or are too many"));
        }
    }
    Ok(rows)
}

impl Memory {
    /// Leaves out sockets on ports from the kernel's own range that have not
    /// proved themselves: of UDP likely a client's, of TCP those of a program
    /// that may be gone with the next look.
    fn drop_passing(&mut self, rows: &mut Vec<Row>, range: Option<(u16, u16)>, now: Instant) {
        let is_first_look = !std::mem::replace(&mut self.has_looked, true);
        let Some((first, last)) = range else { return };
        let mut seen = HashMap::new();
        rows.retain(|row| {
            if !(first..=last).contains(&row.port) {
                return true;
            }
            let before = self.seen.get(&row.inode).copied();
            let since = before.unwrap_or(now);
            seen.insert(row.inode, since);
            let steady = if row.protocol.starts_with("udp") {
                now.duration_since(since) >= STEADY_AGE
            } else {
                is_first_look || before.is_some()
            };
            steady || self.known.contains(&row.natural_key())
        });
        self.seen = seen;
    }

    fn find_holders(&mut self, host: &HostRoot, rows: &[Row]) -> Result<(), ProbeError> {
        let wanted: HashSet<u64> = rows.iter().map(|row| row.inode).filter(|inode| *inode != 0).collect();
        // Each process is looked at once, however many sockets it holds.
        let mut changed = Vec::new();
        for (&pid, known) in &self.processes {
            let now = read_process(host, pid)?;
            if now.is_none_or(|now| (&now.program, &now.executable) != (&known.program, &known.executable)) {
                changed.push(pid);
            }
        }
        for pid in changed {
            self.processes.remove(&pid);
        }
        self.holders.retain(|inode, pid| wanted.contains(inode) && self.processes.contains_key(pid));
        if wanted.iter().any(|inode| !self.holders.contains_key(inode)) {
            (self.holders, self.is_denied) = search_holders(host, &wanted)?;
            self.processes.clear();
            for &pid in self.holders.values() {
                if let Entry::Vacant(place) = self.processes.entry(pid)
                    && let Some(process) = read_process(host, pid)?
                {
                    place.insert(process);
                }
            }
        }
        Ok(())
    }

    /// Looks for the packages of all programs, which takes long, while it need not
    /// be known yet which of them run in containers. What fails here fails again,
    /// and is told, where the sockets get their packages.
    fn find_packages(&mut self, host: &HostRoot) {
        let executables = self.processes.values().map(|process| process.executable.clone());
        let executables = executables.filter(|executable| !executable.is_empty()).collect();
        let _ = self.packages.find(host, &executables);
    }

    /// Says of how many sockets the programs could not be seen, which takes the
    /// rights over them that ptrace(2) takes.
    fn warning(&self, rows: &[Row]) -> Option<String> {
        let unknown = rows.iter().filter(|row| row.inode != 0 && self.process(row).is_none()).count();
        let what = "permission denied, needs root and CAP_SYS_PTRACE";
        (self.is_denied && unknown > 0).then(|| format!("programs of {unknown} sockets: {what}"))
    }

    fn process(&self, row: &Row) -> Option<&Process> {
        self.processes.get(self.holders.get(&row.inode)?)
    }
}

/// Looks through the open files of all processes. Of several holders the one
/// with the lowest PID counts, as that is the master of its workers; but not
/// process 1, which holds the sockets of the services that it starts. Also tells
/// whether some did not let the agent look, of those that had to be looked at.
fn search_holders(host: &HostRoot, wanted: &HashSet<u64>) -> Result<(HashMap<u64, u32>, bool), ProbeError> {
    let (mut holders, mut is_denied) = (HashMap::<u64, u32>::new(), false);
    let names = host.list("proc").map_err(ProbeError::read("proc"))?;
    let mut pids: Vec<u32> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    pids.sort_unstable_by_key(|&pid| (pid == 1, pid));
    for pid in pids {
        // Those that follow would not count.
        if holders.len() == wanted.len() {
            break;
        }
        let path = format!("proc/{pid}/fd");
        let links = host.links(&path);
        is_denied |= links.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        for (_, target) in of_process(&path, links)?.unwrap_or_default() {
            if let Some(inode) = target.to_str().and_then(socket_inode).filter(|inode| wanted.contains(inode))
            {
                holders.entry(inode).or_insert(pid);
            }
        }
    }
    Ok((holders, is_denied))
}

/// What was read of a process; `None` if it is gone meanwhile or not ours to
/// look into: its sockets have no program.
fn of_process<T>(path: &str, read: io::Result<T>) -> Result<Option<T>, ProbeError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if is_absent(&error) || error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
        Err(error) => Err(ProbeError::read(path)(error)),
    }
}

fn read_process(host: &HostRoot, pid: u32) -> Result<Option<Process>, ProbeError> {
    let path = format!("proc/{pid}/comm");
    let program = of_process(&path, host.read(&path, 1024))?.unwrap_or_default();
    let program = clean(program.trim_ascii());
    if program.is_empty() {
        return Ok(None);
    }
    let path = format!("proc/{pid}/exe");
    let executable = of_process(&path, host.read_link(&path))?;
    let executable = executable.map(|path| clean(path.as_os_str().as_encoded_bytes())).unwrap_or_default();
    // After an upgrade the old file is gone, but the program is the same.
    let executable = executable.strip_suffix(" (deleted)").map(str::to_owned).unwrap_or(executable);
    Ok(Some(Process { program, executable, container: None }))
}

/// Inode in `socket:[12345]`.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Ports that the kernel chooses from; `None` where it does not say. Without
/// them all that passes would be taken for a service.
fn port_range(host: &HostRoot) -> Result<Option<(u16, u16)>, ProbeError> {
    let Some(text) = unless_absent(PORT_RANGE, host.read(PORT_RANGE, 1024).map(Some))? else {
        return Ok(None);
    };
    let malformed = || ProbeError::Malformed { path: PORT_RANGE.to_owned(), problem: "no range".to_owned() };
    parse_port_range(clean(&text).trim()).map(Some).ok_or_else(malformed)
}

fn parse_port_range(line: &str) -> Option<(u16, u16)> {
    let (first, last) = line.split_once(char::is_whitespace)?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// One asset a natural key: sockets that share one (SO_REUSEPORT) are ordered by
/// what is reported of them, so that the same one is always kept.
fn assets(rows: &[Row], memory: &Memory) -> Vec<ScannedAsset> {
    let nobody = Process::default();
    let holder = |row: &Row| memory.process(row).unwrap_or(&nobody);
    let mut by_place: BTreeMap<_, &Row> = BTreeMap::new();
    for row in rows {
        // One whose program is known tells more.
        let rank = |row: &Row| {
            let process = holder(row);
            (process.program.is_empty(), row.uid, process)
        };
        let kept = by_place.entry((row.protocol, row.address, row.port)).or_insert(row);
        if rank(row) < rank(kept) {
            *kept = row;
        }
    }
    by_place
        .into_values()
        .map(|row| {
            let process = holder(row).clone();
            let details = ListeningSocketDetails {
                protocol: row.protocol.to_owned(),
                address: row.address.to_string(),
                port: u32::from(row.port),
                program: process.program,
                executable: process.executable,
                uid: row.uid,
                container: process.container.clone().unwrap_or_default(),
                ..ListeningSocketDetails::default()
            };
            let key = row.natural_key();
            let asset = ScannedAsset::new(key.clone(), key, Details::ListeningSocket(details));
            match process.container {
                Some(container) => asset.related(RelationType::RunsIn, AssetKind::Container, container),
                None => asset,
            }
        })
        .collect()
}
