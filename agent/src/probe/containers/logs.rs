//! Names of containers from the links that the kubelet makes to their logs:
//! `var/log/containers/<pod>_<namespace>_<container>-<id>.log` to
//! `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<restarts>.log` (kubelet,
//! pkg/kubelet/kuberuntime/legacy.go). The logs themselves are never read.

use std::collections::HashMap;
use std::io;

use super::cgroup::is_id;
use crate::host::HostRoot;
use crate::probe::{ProbeError, is_absent};
use crate::text::clean;

const FOLDER: &str = "var/log/containers";

/// What the name and the target of a link say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) pod: String,
    pub(super) namespace: String,
    pub(super) container: String,
    /// Empty where the target does not say.
    pub(super) pod_uid: String,
    pub(super) restarts: u32,
}

/// Names by the runtime's ID.
pub(super) fn names(
    host: &HostRoot,
    warnings: &mut Vec<String>,
) -> Result<HashMap<String, Named>, ProbeError> {
    let links = match host.links(FOLDER) {
        Err(error) if is_absent(&error) => return Ok(HashMap::new()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            warnings.push(format!(
                "{FOLDER}: permission denied, needs root; containers are named by their program"
            ));
            return Ok(HashMap::new());
        }
        links => links.map_err(ProbeError::read(FOLDER))?,
    };
    let parsed = links.into_iter().filter_map(|(name, target)| {
        parse(&clean(name.as_encoded_bytes()), &clean(target.as_encoded_bytes()))
    });
    Ok(parsed.collect())
}

/// Pods and namespaces have no `_` in their names, IDs no `-`.
pub(super) fn parse(name: &str, target: &str) -> Option<(String, Named)> {
    let mut parts = name.strip_suffix(".log")?.splitn(3, '_');
    let (pod, namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (container, id) = rest.rsplit_once('-')?;
    if pod.is_empty() || namespace.is_empty() || container.is_empty() || !is_id(id) {
        return None;
    }
    let mut named = Named {
        pod: pod.to_owned(),
        namespace: namespace.to_owned(),
        container: container.to_owned(),
        ..Named::default()
    };
    let mut parts = target.rsplitn(4, '/');
    if let (Some(file), Some(_), Some(folder)) = (parts.next(), parts.next(), parts.next()) {
        named.restarts = file.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        named.pod_uid = folder.splitn(3, '_').nth(2).unwrap_or_default().to_owned();
    }
    Some((id.to_owned(), named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_targets() {
        let id = "0123456789abcdef".repeat(4);
        let target =
            "/var/log/pods/kube-system_kube-proxy-x7_123e4567-e89b-12d3-a456-426614174000/kube-proxy/3.log";
        let (found, named) =
            parse(&format!("kube-proxy-x7_kube-system_kube-proxy-{id}.log"), target).unwrap();
        assert_eq!(found, id);
        let expected = Named {
            pod: "kube-proxy-x7".into(),
            namespace: "kube-system".into(),
            container: "kube-proxy".into(),
            pod_uid: "123e4567-e89b-12d3-a456-426614174000".into(),
            restarts: 3,
        };
        assert_eq!(named, expected);
        let (_, bare) = parse(&format!("p_n_c-{id}.log"), "elsewhere").unwrap();
        assert_eq!((bare.container.as_str(), bare.pod_uid.as_str(), bare.restarts), ("c", "", 0));
        for name in ["", "p_n_c-12.log", "p_n.log", &format!("p_n_-{id}.log"), &format!("p_n_c-{id}")] {
            assert_eq!(parse(name, target), None, "{name}");
        }
    }
}
