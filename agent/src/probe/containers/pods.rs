//! Pods: the sandboxes that are ready, by the runtime; or what cgroups and the
//! kubelet's links tell of them.

use std::collections::{BTreeMap, HashMap};

use contracts::v1::{NodeLabel, PodDetails, asset_details::Details};
use futures::{StreamExt, stream};

use super::{Containers, cgroup, logs, task_folders, time};
use crate::asset::ScannedAsset;
use crate::cri::{self, Answer, v1};
use crate::host::HostRoot;
use crate::probe::{ProbeError, Scan};

/// The kubelet repeats name, namespace and UID in labels of these names.
const OWN_LABELS: [&str; 3] =
    ["io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"];

impl Containers {
    /// Pods that have a sandbox.
    pub(in crate::probe) fn pods(&self, host: &HostRoot) -> Result<Scan, ProbeError> {
        let answer = self.ask(host, async |client| {
            let sandboxes = client.sandboxes().await?;
            let mut pods = Vec::new();
            let mut answers = stream::iter(newest(&sandboxes))
                .map(|sandbox| {
                    let mut client = client.clone();
                    async move { (sandbox, client.sandbox(&sandbox.id).await) }
                })
                .buffered(cri::SIDE_BY_SIDE);
            while let Some((sandbox, status)) = answers.next().await {
                // Gone meanwhile.
                if let Some(status) = status? {
                    pods.push(from_cri(sandbox, &status));
                }
            }
            Ok(pods)
        })?;
        match answer {
            Answer::Told(assets) => Ok(Scan { assets, ..Scan::default() }),
            Answer::Absent(why) => self.pods_by_cgroups(host, why),
            Answer::Refused(why) => self.pods_by_cgroups(host, Some(why)),
        }
    }

    fn pods_by_cgroups(&self, host: &HostRoot, why: Option<String>) -> Result<Scan, ProbeError> {
        let mut scan = Scan::default();
        scan.warnings.extend(why.map(|why| format!("{why}; pods are found by their cgroups")));
        let members = cgroup::running(host, &task_folders(&self.settings))?;
        let names = logs::names(host, &mut scan.warnings)?;
        // The agent's own is the node's, too, where process 1 may not be traced.
        let network = host.read_link("proc/1/ns/net").or_else(|_| host.read_link("proc/self/ns/net"));
        let node_network = network.ok();
        let mut pods: BTreeMap<String, PodDetails> = BTreeMap::new();
        for member in &members {
            let named = names.get(&member.placement.id);
            let uid = match &member.placement.pod_uid {
                uid if uid.is_empty() => named.map(|named| named.pod_uid.clone()).unwrap_or_default(),
                uid => uid.clone(),
            };
            if uid.is_empty() {
                continue;
            }
            let pod = pods.entry(uid.clone()).or_default();
            pod.uid = uid;
            if let Some(named) = named {
                (pod.pod, pod.namespace) = (named.pod.clone(), named.namespace.clone());
            }
            // Seen by root alone; all containers of a pod share its network.
            let network = member.pid.and_then(|pid| host.read_link(format!("proc/{pid}/ns/net")).ok());
            pod.host_network |= network.is_some() && network == node_network;
        }
        scan.assets = pods.into_values().map(into_asset).collect();
        Ok(scan)
    }
}

/// Natural key of a pod. Only what is made by hand has no UID.
pub(super) fn key(sandbox: &v1::PodSandbox) -> String {
    let metadata = sandbox.metadata.clone().unwrap_or_default();
    if metadata.uid.is_empty() { format!("{}/{}", metadata.namespace, metadata.name) } else { metadata.uid }
}

/// Of each pod the newest sandbox, if it is ready.
fn newest(sandboxes: &[v1::PodSandbox]) -> Vec<&v1::PodSandbox> {
    let mut newest: HashMap<String, &v1::PodSandbox> = HashMap::new();
    for sandbox in sandboxes {
        if sandbox.state() != v1::PodSandboxState::SandboxReady {
            continue;
        }
        let place = newest.entry(key(sandbox)).or_insert(sandbox);
        if sandbox.created_at > place.created_at {
            *place = sandbox;
        }
    }
    newest.into_values().collect()
}

fn from_cri(sandbox: &v1::PodSandbox, status: &v1::PodSandboxStatus) -> ScannedAsset {
    let metadata = sandbox.metadata.clone().unwrap_or_default();
    let options = status.linux.as_ref().and_then(|linux| linux.namespaces.as_ref()?.options);
    let host_network = options.is_some_and(|options| options.network() == v1::NamespaceMode::Node);
    let network = status.network.clone().unwrap_or_default();
    let mut addresses: Vec<String> = network.additional_ips.into_iter().map(|address| address.ip).collect();
    addresses.push(network.ip);
    addresses.retain(|address| !address.is_empty());
    addresses.sort();
    addresses.dedup();
    let mut labels: Vec<NodeLabel> = sandbox
        .labels
        .iter()
        .filter(|(key, _)| !OWN_LABELS.contains(&key.as_str()))
        .map(|(key, value)| NodeLabel { key: key.clone(), value: value.clone() })
        .collect();
    labels.sort_by(|one, other| one.key.cmp(&other.key));
    let details = PodDetails {
        uid: metadata.uid,
        pod: metadata.name,
        namespace: metadata.namespace,
        labels,
        addresses: if host_network { Vec::new() } else { addresses },
        host_network,
        runtime_handler: sandbox.runtime_handler.clone(),
        sandbox_create_time: time(sandbox.created_at),
    };
    ScannedAsset { natural_key: key(sandbox), ..into_asset(details) }
}

fn into_asset(pod: PodDetails) -> ScannedAsset {
    let name = if pod.pod.is_empty() { pod.uid.clone() } else { format!("{}/{}", pod.namespace, pod.pod) };
    ScannedAsset::new(pod.uid.clone(), name, Details::Pod(pod))
}
