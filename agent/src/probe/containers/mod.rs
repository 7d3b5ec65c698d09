//! Pods, containers and images: from the container runtime over its CRI socket,
//! and from cgroups and /proc where there is none, and for containers that no
//! kubelet knows of.
//!
//! Natural keys: a pod has its UID, a container in a pod `<pod UID>/<name>`, an
//! image its digest. A container outside of pods has `<namespace>/<name>` where
//! containerd's tools gave it a name, else `<manager>/<program>`; further ones
//! with the same program get `~2`, `~3` and so on in the order of their start.
//! No runtime's ID is in any key.

mod cgroup;
mod contents;
mod follow;
mod images;
mod layers;
mod logs;
mod pods;
mod process;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contracts::v1::{AssetKind, ContainerDetails, RelationType, asset_details::Details};
use futures::{StreamExt, stream};
use prost_types::Timestamp;

use self::cgroup::{Member, Placement, is_id};
use self::logs::Named;
use super::{Context, ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::config::ProbeArgs;
use crate::cri::{self, Answer, v1};
use crate::host::HostRoot;

pub use follow::follow;

pub(super) const WATCHED: &[&str] = &[];

/// How long a runtime that answered before may be without its socket before it
/// counts as gone: it takes the socket away while it is restarted or upgraded,
/// and has none until the node has booted. With it all images would go.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a runtime that let the agent wait is left alone: three probes that
/// wait for it one after another would hold up all others.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// An answer that takes this long lets it wait.
const LONG: Duration = Duration::from_secs(2);

/// containerd keeps a folder a container below its state, in all of its
/// namespaces; k3s brings its own containerd.
const TASKS: &str = "io.containerd.runtime.v2.task";
const STATES: [&str; 3] = ["run/containerd", "run/k3s/containerd", "run/docker/containerd/daemon"];

/// The three probes, with what they share.
#[derive(Clone)]
pub(super) struct Containers {
    settings: ProbeArgs,
    knows_image: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    memory: Arc<Mutex<Memory>>,
    looked: Arc<Looked>,
}

/// Whether containers were looked for, with whatever success, and who waits for
/// that.
struct Looked {
    once: Mutex<bool>,
    now: Condvar,
}

impl Looked {
    fn wait(&self) {
        let once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.now.wait_while(once, |once| !*once));
    }
}

/// Lets those go on who wait, however the look ends.
struct Looking<'a>(&'a Looked);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        *self.0.once.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.now.notify_all();
    }
}

#[derive(Default)]
struct Memory {
    /// When the runtime last answered; when the agent began, if it did before
    /// that.
    answered: Option<Instant>,
    /// When it last let the agent wait for nothing, and what it was asked.
    hung: Option<(Instant, String)>,
    /// Natural keys of the containers that the last scan found, by the
    /// runtime's ID.
    keys: Arc<HashMap<String, String>>,
    /// Images of which no attempt will tell more than this.
    unreadable: HashMap<String, String>,
}

/// A container before it is an asset.
struct Found {
    id: String,
    details: ContainerDetails,
    key: String,
    pod_key: String,
}

impl Containers {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            settings: context.settings.clone(),
            knows_image: context.knows_image.clone(),
            memory: Arc::new(Mutex::new(Memory {
                answered: context.known_images.then(Instant::now),
                ..Memory::default()
            })),
            looked: Arc::new(Looked { once: Mutex::new(!context.sockets_wait), now: Condvar::new() }),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the runtime; one that answered before and has no socket now is
    /// taken for one that starts.
    fn ask<T>(
        &self,
        host: &HostRoot,
        question: impl AsyncFnOnce(&mut cri::Client) -> Result<T, ProbeError>,
    ) -> Result<Answer<T>, ProbeError> {
        let hung = self.memory().hung.clone().filter(|(at, _)| at.elapsed() < LEFT_ALONE);
        if let Some((_, problem)) = hung {
            let path = cri::socket(host, &self.settings).unwrap_or_default();
            return Err(ProbeError::Runtime { path, problem });
        }
        let began = Instant::now();
        let answer = cri::ask(host, &self.settings, question);
        let mut memory = self.memory();
        memory.hung = match &answer {
            Err(ProbeError::Runtime { problem, .. }) if began.elapsed() >= LONG => {
                Some((Instant::now(), problem.clone()))
            }
            _ => None,
        };
        let answer = answer?;
        match &answer {
            Answer::Told(_) => memory.answered = Some(Instant::now()),
            Answer::Absent(_) if memory.answered.is_some_and(|at| at.elapsed() < PATIENCE) => {
                return Err(ProbeError::Runtime {
                    path: cri::socket(host, &self.settings).unwrap_or_else(|| "run".to_owned()),
                    problem: "its socket is not there, as while it starts".to_owned(),
                });
            }
            Answer::Absent(_) | Answer::Refused(_) => {}
        }
        Ok(answer)
    }

    /// Containers that run.
    pub(super) fn containers(&self, host: &HostRoot) -> Result<Scan, ProbeError> {
        let _looking = Looking(&self.looked);
        let mut scan = Scan::default();
        let tasks = task_folders(&self.settings);
        let answer = self.ask(host, async |client| {
            // In this order: a container has its sandbox before it is there.
            let containers = client.containers().await?;
            let (sandboxes, images) = (client.sandboxes().await?, client.images().await?);
            let mut running = Vec::new();
            let mut answers = stream::iter(newest(&sandboxes, &containers))
                .map(|(container, pod)| {
                    let mut client = client.clone();
                    async move { (container, pod, client.container(&container.id).await) }
                })
                .buffered(cri::SIDE_BY_SIDE);
            while let Some((container, pod, status)) = answers.next().await {
                // Gone meanwhile, or no longer running.
                if let Some(status) = status?
                    && status.state() == v1::ContainerState::ContainerRunning
                {
                    running.push((container.clone(), status, pod.clone()));
                }
            }
            drop(answers);
            Ok((sandboxes, containers, images, running))
        })?;
        let members = cgroup::running(host, &tasks)?;
        let mut found = Vec::new();
        let mut outside: Vec<&Member> = members.iter().collect();
        let names = match answer {
            Answer::Told((sandboxes, containers, images, running)) => {
                for (container, status, pod) in &running {
                    found.push(from_cri(container, status, pod, &images));
                }
                let known: HashSet<&str> = containers
                    .iter()
                    .map(|container| container.id.as_str())
                    .chain(sandboxes.iter().map(|sandbox| sandbox.id.as_str()))
                    .collect();
                // The runtime decides for its own: what it does not list has
                // ended a moment ago, or will be in the next list.
                outside.retain(|member| {
                    let manager = member.placement.manager.as_str();
                    !known.contains(member.placement.id.as_str())
                        && member.placement.pod_uid.is_empty()
                        && !matches!(manager, "kubernetes" | "crio" | "k8s.io")
                });
                HashMap::new()
            }
            Answer::Absent(why) => {
                scan.warnings.extend(why.map(|why| format!("{why}; containers are found by their cgroups")));
                logs::names(host, &mut scan.warnings)?
            }
            Answer::Refused(why) => {
                scan.warnings.push(format!("{why}; containers are found by their cgroups"));
                logs::names(host, &mut scan.warnings)?
            }
        };
        found.extend(from_cgroups(host, &outside, &names));
        let by_id: HashMap<&str, &Member> =
            members.iter().map(|member| (member.placement.id.as_str(), member)).collect();
        for found in &mut found {
            if let Some(pid) = by_id.get(found.id.as_str()).and_then(|member| member.pid) {
                let process = process::read(host, pid);
                found.details.program = process.program;
                found.details.uid = process.uid;
                found.details.extra_capabilities = process.extra_capabilities;
            }
        }
        let keys = found.iter().map(|found| (found.id.clone(), found.key.clone())).collect();
        self.memory().keys = Arc::new(keys);
        scan.assets = found.into_iter().map(into_asset).collect();
        Ok(scan)
    }

    /// Natural keys of the containers that processes run in; those outside of
    /// any are left out. What the last scan found decides; what it did not find
    /// gets the key that it would have without a runtime that tells more.
    pub(super) fn of_processes(&self, host: &HostRoot, pids: &BTreeSet<u32>) -> BTreeMap<u32, String> {
        let tasks = cgroup::kept(host, &task_folders(&self.settings));
        self.looked.wait();
        // What follows reads files, and may hang: not with what all probes share.
        let keys = self.memory().keys.clone();
        let mut names = None;
        let mut found = BTreeMap::new();
        for &pid in pids {
            let Ok(file) = host.read(format!("proc/{pid}/cgroup"), cgroup::MAX_FILE) else { continue };
            let Ok(Some(placement)) = cgroup::placement(host, &file, &tasks) else { continue };
            let key = keys.get(&placement.id).cloned().unwrap_or_else(|| {
                let names = names.get_or_insert_with(|| logs::names(host, &mut Vec::new()));
                let named = names.as_ref().ok().and_then(|names| names.get(&placement.id));
                let program = host.line(format!("proc/{pid}/comm")).unwrap_or_default();
                let (place, name) = place_and_name(&placement, named, program);
                format!("{place}/{name}")
            });
            found.insert(pid, key);
        }
        found
    }
}

/// Folders that hold a folder a namespace of containerd.
fn task_folders(settings: &ProbeArgs) -> Vec<String> {
    let mut states: Vec<String> = STATES.map(str::to_owned).to_vec();
    // The socket lies in the state's folder, unless someone moved it.
    if let Some(folder) = settings.cri_socket.as_deref().and_then(std::path::Path::parent) {
        states.push(folder.to_string_lossy().trim_start_matches("unix://").to_owned());
    }
    states.into_iter().map(|state| format!("{state}/{TASKS}")).collect()
}

/// Of each container in each pod the newest attempt, if it runs, with its pod.
/// One whose sandbox is not in the list goes with it.
fn newest<'a>(
    sandboxes: &'a [v1::PodSandbox],
    containers: &'a [v1::Container],
) -> Vec<(&'a v1::Container, &'a v1::PodSandbox)> {
    let pods: HashMap<&str, (&v1::PodSandbox, String)> =
        sandboxes.iter().map(|sandbox| (sandbox.id.as_str(), (sandbox, pods::key(sandbox)))).collect();
    let mut newest: BTreeMap<(&str, &str), (&v1::Container, &v1::PodSandbox)> = BTreeMap::new();
    for container in containers {
        if container.state() != v1::ContainerState::ContainerRunning {
            continue;
        }
        let Some((pod, key)) = pods.get(container.pod_sandbox_id.as_str()) else { continue };
        let age = |container: &v1::Container| {
            (container.metadata.as_ref().map_or(0, |metadata| metadata.attempt), container.created_at)
        };
        let place = newest.entry((key, name_of(container))).or_insert((container, pod));
        if age(container) > age(place.0) {
            *place = (container, pod);
        }
    }
    newest.into_values().collect()
}

fn name_of(container: &v1::Container) -> &str {
    container.metadata.as_ref().map_or("", |metadata| metadata.name.as_str())
}

fn from_cri(
    container: &v1::Container,
    status: &v1::ContainerStatus,
    pod: &v1::PodSandbox,
    all_images: &[v1::Image],
) -> Found {
    let metadata = pod.metadata.clone().unwrap_or_default();
    let pod_key = pods::key(pod);
    let name = name_of(container);
    let listed = container.image.as_ref().map_or("", |image| image.image.as_str());
    let asked = status.image.as_ref().map_or("", |image| image.image.as_str());
    let digest = images::digest_of(all_images, &[&container.image_ref, &status.image_ref, listed, asked]);
    let details = ContainerDetails {
        container: name.to_owned(),
        pod_uid: metadata.uid,
        pod: metadata.name,
        namespace: metadata.namespace,
        image: if asked.is_empty() { listed } else { asked }.to_owned(),
        image_digest: digest.unwrap_or_default(),
        restarts: container.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        start_time: time(status.started_at),
        found_by: "cri".to_owned(),
        ..ContainerDetails::default()
    };
    Found { id: container.id.clone(), details, key: format!("{pod_key}/{name}"), pod_key }
}

/// Containers that no CRI tells of, oldest first where they would share a key.
fn from_cgroups(host: &HostRoot, members: &[&Member], names: &HashMap<String, Named>) -> Vec<Found> {
    let mut members = members.to_vec();
    members.sort_by_key(|member| (member.started, member.placement.id.clone()));
    let mut taken: HashMap<String, u32> = HashMap::new();
    let mut found = Vec::new();
    for member in members {
        let placement = &member.placement;
        let named = names.get(&placement.id);
        let program = member.pid.and_then(|pid| host.line(format!("proc/{pid}/comm"))).unwrap_or_default();
        let in_kubernetes =
            !placement.pod_uid.is_empty() || matches!(&*placement.manager, "kubernetes" | "k8s.io" | "crio");
        // The sandbox of a pod, which no log is kept of.
        if in_kubernetes && named.is_none() && program == "pause" {
            continue;
        }
        let (place, name) = place_and_name(placement, named, program);
        let named = named.cloned().unwrap_or_default();
        let pod_uid = if placement.pod_uid.is_empty() { named.pod_uid } else { placement.pod_uid.clone() };
        let mut key = format!("{place}/{name}");
        let count = taken.entry(key.clone()).or_default();
        *count += 1;
        if *count > 1 {
            key = format!("{key}~{count}");
        }
        let details = ContainerDetails {
            container: name,
            pod_uid,
            pod: named.pod,
            namespace: named.namespace,
            restarts: named.restarts,
            found_by: "cgroup".to_owned(),
            ..ContainerDetails::default()
        };
        found.push(Found { id: placement.id.clone(), pod_key: details.pod_uid.clone(), details, key });
    }
    found
}

/// The two parts of the key of a container that no CRI tells of.
fn place_and_name(placement: &Placement, named: Option<&Named>, program: String) -> (String, String) {
    let pod_uid = match named {
        Some(named) if placement.pod_uid.is_empty() => &named.pod_uid,
        _ => &placement.pod_uid,
    };
    let place = if pod_uid.is_empty() { &placement.manager } else { pod_uid };
    let name = match named {
        Some(named) => named.container.clone(),
        None if !is_id(&placement.id) => placement.id.clone(),
        None if program.is_empty() => "unknown".to_owned(),
        None => program,
    };
    (place.clone(), name)
}

fn into_asset(found: Found) -> ScannedAsset {
    let details = found.details;
    let name = if details.pod.is_empty() {
        details.container.clone()
    } else {
        format!("{}/{}/{}", details.namespace, details.pod, details.container)
    };
    let image = details.image_digest.clone();
    let mut asset = ScannedAsset::new(found.key, name, Details::Container(details));
    if !found.pod_key.is_empty() {
        asset = asset.related(RelationType::RunsIn, AssetKind::Pod, found.pod_key);
    }
    if !image.is_empty() {
        asset = asset.related(RelationType::CreatedFrom, AssetKind::ContainerImage, image);
    }
    asset
}

/// Nanoseconds since 1970; the runtime gives 0 for never.
fn time(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| Timestamp {
        seconds: nanoseconds / 1_000_000_000,
        nanos: i32::try_from(nanoseconds % 1_000_000_000).unwrap_or(0),
    })
}

/// Shows every parser the same bytes.
#[cfg(test)]
pub(super) fn parse_all(bytes: &[u8]) {
    for path in cgroup::paths(bytes) {
        let placement = cgroup::parse_path(&path);
        assert!(placement.is_none_or(|placement| is_id(&placement.id)));
    }
    process::parse(bytes);
    // What it names is opened below the host root, whatever it says.
    layers::root_overlay(bytes);
    let text = crate::text::clean(bytes);
    let (name, target) = text.split_once('\n').unwrap_or((&text, ""));
    logs::parse(name, target);
}

#[cfg(test)]
mod tests;
