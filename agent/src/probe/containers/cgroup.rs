//! Containers by the cgroups that they run in (cgroups(7)): where a path says
//! that it is a container's, and the first process of each. Both hierarchies,
//! and both ways of naming: systemd's slices and scopes, and plain folders.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::process;
use crate::host::HostRoot;
use crate::probe::{ProbeError, exists, is_absent, unless_absent};
use crate::text::clean;

const ROOT: &str = "sys/fs/cgroup";
/// Hierarchies of version 1 in which each container has a folder, the surest first.
const V1: [&str; 5] = ["systemd", "pids", "memory", "cpu", "unified"];
/// Folders of cgroups that are looked through; a node has some hundreds.
const MAX_FOLDERS: usize = 20_000;
const MAX_DEPTH: usize = 12;
/// Most bytes of a process's cgroup file.
pub(super) const MAX_FILE: u64 = 64 * 1024;

/// What the path of a cgroup says of the container in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// Who keeps it: `kubernetes`, `crio`, `docker`, `podman`, or a namespace
    /// of containerd.
    pub(super) manager: String,
    /// The runtime's ID.
    pub(super) id: String,
    /// UID of its pod; empty outside of one, or if it is not in the path.
    pub(super) pod_uid: String,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) placement: Placement,
    /// Its first process; `None` if its processes cannot be seen from here.
    pub(super) pid: Option<u32>,
    /// When that began, in ticks since the node's boot.
    pub(super) started: u64,
}

/// The container that a path of a cgroup belongs to: the outermost one, as what
/// runs inside a container is a part of it.
pub(super) fn parse_path(path: &str) -> Option<Placement> {
    let mut pod_uid = String::new();
    let mut before = "";
    for name in path.split('/').filter(|name| !name.is_empty() && *name != "..") {
        // containerd without SystemdCgroup under a kubelet with it:
        // `kubepods-pod….slice:cri-containerd:<id>`.
        let mut parts = name.rsplitn(3, ':');
        if let (Some(id), Some(_), Some(slice)) = (parts.next(), parts.next(), parts.next())
            && is_id(id)
        {
            return Some(Placement {
                manager: "kubernetes".into(),
                id: id.into(),
                pod_uid: pod_of(slice).unwrap_or_default(),
            });
        }
        if let Some(uid) = pod_of(name) {
            pod_uid = uid;
        } else if let Some((manager, id)) = container_of(name, before, &pod_uid) {
            return Some(Placement { manager, id: id.to_owned(), pod_uid });
        }
        before = name;
    }
    None
}

/// Whether a folder of cgroups with this name comes and goes with a container
/// or a pod.
pub(super) fn is_ours(name: &str) -> bool {
    pod_of(name).is_some()
        || container_of(name, "", "").is_some()
        || name.rsplit(':').next().is_some_and(is_id)
}

/// UID in `kubepods-burstable-pod12_34.slice` or `pod12-34`.
fn pod_of(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        // systemd takes `-` for a level (systemd.slice(5)), so UIDs have `_` there.
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let is_uid = uid.len() >= 8 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

fn container_of<'a>(name: &'a str, before: &str, pod_uid: &str) -> Option<(String, &'a str)> {
    const PREFIXES: [(&str, &str); 5] = [
        ("cri-containerd-", "kubernetes"),
        ("crio-", "crio"),
        ("docker-", "docker"),
        ("libpod-", "podman"),
        ("nerdctl-", "nerdctl"),
    ];
    let scope = name.strip_suffix(".scope").unwrap_or(name);
    for (prefix, manager) in PREFIXES {
        // `crio-conmon-<id>` is the process that looks after the container.
        if let Some(id) = scope.strip_prefix(prefix).filter(|id| is_id(id)) {
            let manager = if pod_uid.is_empty() { manager } else { "kubernetes" };
            return Some((manager.to_owned(), id));
        }
    }
    let manager = match before {
        _ if !pod_uid.is_empty() => "kubernetes",
        "" => "container",
        before => before,
    };
    is_id(name).then(|| (manager.to_owned(), name))
}

/// 64 hexadecimal digits, as all runtimes give them.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The paths in a process's cgroup file, `number:controllers:path` a line.
pub(super) fn paths(file: &[u8]) -> Vec<String> {
    let lines = file.split(|&byte| byte == b'\n');
    let mut paths: Vec<String> = lines
        .filter_map(|line| {
            let path = line.splitn(3, |&byte| byte == b':').nth(2)?;
            Some(clean(path))
        })
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Namespace and name in the last two parts of a path, as containerd's own
/// tools place what people name: `/default/web`.
fn named(path: &str) -> Option<(&str, &str)> {
    let (rest, name) = path.rsplit_once('/')?;
    let namespace = rest.rsplit('/').next()?;
    (!namespace.is_empty() && !name.is_empty() && namespace != ".." && name != "..")
        .then_some((namespace, name))
}

/// Where a process belongs; `tasks` are the folders of containerd's tasks.
///
/// # Errors
/// Whether there is a task cannot be told now.
pub(super) fn placement(
    host: &HostRoot,
    file: &[u8],
    tasks: &[String],
) -> Result<Option<Placement>, ProbeError> {
    let paths = paths(file);
    if let Some(found) = paths.iter().find_map(|path| parse_path(path)) {
        return Ok(Some(found));
    }
    for path in &paths {
        let Some((namespace, name)) = named(path) else { continue };
        // Any cgroup may have such a path; only a task of that name makes it a
        // container's.
        for folder in tasks {
            let task = format!("{folder}/{namespace}/{name}");
            let is_task = match host.handle(&task) {
                Ok(_) => true,
                // Without the right to look there, no task was ever known. The
                // name is anyone's choice, and longer for having been cleaned.
                Err(error)
                    if is_absent(&error)
                        || error.kind() == io::ErrorKind::PermissionDenied
                        || error.raw_os_error() == Some(nix::libc::ENAMETOOLONG) =>
                {
                    false
                }
                Err(error) => return Err(ProbeError::read(&task)(error)),
            };
            if is_task {
                return Ok(Some(Placement {
                    manager: namespace.to_owned(),
                    id: name.to_owned(),
                    pod_uid: String::new(),
                }));
            }
        }
    }
    Ok(None)
}

/// Folders of tasks but those that are not there: few nodes have more than one.
pub(super) fn kept(host: &HostRoot, tasks: &[String]) -> Vec<String> {
    let is_kept = |folder: &&String| !host.handle(folder).is_err_and(|error| is_absent(&error));
    tasks.iter().filter(is_kept).cloned().collect()
}

/// The containers that run, by manager and ID.
///
/// A process's cgroup file shows paths as the reader's cgroup namespace has
/// them: for a reader in a container, what is above it is `..`. The tree of
/// cgroups does not, so it tells of pods; processes are only seen in /proc, as
/// `cgroup.procs` leaves out those of other PID namespaces.
pub(super) fn running(host: &HostRoot, tasks: &[String]) -> Result<Vec<Member>, ProbeError> {
    let mut found: BTreeMap<String, Member> = BTreeMap::new();
    let tasks = kept(host, tasks);
    // What is not in a container's cgroup shares its cgroup with many.
    let mut outside: HashSet<Box<[u8]>> = HashSet::new();
    for name in host.list("proc").map_err(ProbeError::read("proc"))? {
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Gone meanwhile, or hidden.
        let Ok(file) = host.read(format!("proc/{pid}/cgroup"), MAX_FILE) else { continue };
        if outside.contains(file.as_slice()) {
            continue;
        }
        let Some(placement) = placement(host, &file, &tasks)? else {
            outside.insert(file.into());
            continue;
        };
        let Some(started) = process::started(host, pid) else { continue };
        let is_first = found
            .get(&placement.id)
            .is_none_or(|member| (started, pid) < (member.started, member.pid.unwrap_or(u32::MAX)));
        if is_first {
            found.insert(placement.id.clone(), Member { placement, pid: Some(pid), started });
        }
    }
    for (placement, populated) in tree(host)? {
        match found.get_mut(&placement.id) {
            Some(member) if member.placement.pod_uid.is_empty() => member.placement = placement,
            Some(_) => {}
            None if populated => {
                found.insert(placement.id.clone(), Member { placement, pid: None, started: 0 });
            }
            None => {}
        }
    }
    Ok(found.into_values().collect())
}

/// Containers that have a folder in the tree of cgroups, and whether any
/// process is in it.
fn tree(host: &HostRoot) -> Result<Vec<(Placement, bool)>, ProbeError> {
    let is_v2 = exists(host, &format!("{ROOT}/cgroup.controllers"))?;
    let mut root = is_v2.then(|| ROOT.to_owned());
    for name in V1 {
        // A hybrid has a tree of version 2 beside, without containers.
        if root.is_none() && exists(host, &format!("{ROOT}/{name}/cgroup.procs"))? {
            root = Some(format!("{ROOT}/{name}"));
        }
    }
    let Some(root) = root else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut pending = vec![(String::new(), 0)];
    let mut folders = 0;
    while let Some((path, depth)) = pending.pop() {
        folders += 1;
        if folders > MAX_FOLDERS {
            let problem = format!("more than {MAX_FOLDERS} cgroups");
            return Err(ProbeError::Malformed { path: root, problem });
        }
        let folder = format!("{root}{path}");
        for name in unless_absent(&folder, host.folders(&folder))? {
            let path = format!("{path}/{}", clean(name.as_encoded_bytes()));
            match parse_path(&path) {
                Some(placement) => {
                    found.push((placement, is_populated(host, &format!("{root}{path}"), is_v2)?));
                }
                None if depth < MAX_DEPTH => pending.push((path, depth + 1)),
                None => {}
            }
        }
    }
    Ok(found)
}

fn is_populated(host: &HostRoot, folder: &str, is_v2: bool) -> Result<bool, ProbeError> {
    if is_v2 {
        let path = format!("{folder}/cgroup.events");
        let events = unless_absent(&path, host.read(&path, MAX_FILE))?;
        return Ok(events.split(|&byte| byte == b'\n').any(|line| line == b"populated 1"));
    }
    let path = format!("{folder}/cgroup.procs");
    match host.read(&path, MAX_FILE) {
        Ok(processes) => Ok(!processes.is_empty()),
        // So many that they do not fit.
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => Ok(true),
        Err(error) if is_absent(&error) || error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(false),
        Err(error) => Err(ProbeError::read(&path)(error)),
    }
}

#[cfg(test)]
mod tests;
