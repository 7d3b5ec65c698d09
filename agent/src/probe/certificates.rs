//! X.509 certificates in the folders where Kubernetes, container runtimes and
//! the system keep those that they use. Only certificates are decoded: a file
//! of a key is not opened where its name tells, and where a key stands beside a
//! certificate it is passed over.
//!
//! The authorities that the distribution brings (some 140 of ca-certificates)
//! are left out; those that were added by hand are reported.

mod details;
mod name;
mod pem;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use contracts::v1::asset_details::Details;

use self::details::parse_certificate;
use self::pem::{Block, kubeconfig_certificates, pem_certificates};
use super::{ProbeError, Scan, is_absent};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

/// Folders, and how many levels of folders below them are looked into.
const FOLDERS: [(&str, usize); 23] = [
    ("etc/containerd", 4),
    ("etc/docker", 3),
    ("etc/etcd", 3),
    ("etc/haproxy", 2),
    ("etc/kubernetes/pki", 3),
    ("etc/kubernetes/ssl", 3),
    // Links to ../archive, where each is kept that ever was.
    ("etc/letsencrypt/live", 2),
    ("etc/nginx", 2),
    ("etc/pki/ca-trust/source/anchors", 1),
    ("etc/pki/tls/certs", 1),
    ("etc/pki/tls/private", 1),
    ("etc/rabbitmq", 2),
    ("etc/ssl/certs", 0),
    ("etc/ssl/private", 1),
    ("usr/local/share/ca-certificates", 2),
    ("var/lib/kubelet/pki", 1),
    // Not below: that is its data.
    ("var/lib/rabbitmq", 0),
    // Not below: beside them is the folder of the runtime, with all containers.
    ("var/lib/rancher/k3s/agent", 0),
    ("var/lib/rancher/k3s/agent/tls", 2),
    ("var/lib/rancher/k3s/server/tls", 3),
    ("var/lib/rancher/rke2/agent", 0),
    ("var/lib/rancher/rke2/agent/tls", 2),
    ("var/lib/rancher/rke2/server/tls", 3),
];

/// Folders whose `*.conf` are kubeconfigs, and kubeconfigs elsewhere.
const KUBECONFIG_FOLDER: &str = "etc/kubernetes";
const KUBECONFIGS: [&str; 2] = ["etc/rancher/k3s/k3s.yaml", "etc/rancher/rke2/rke2.yaml"];

/// What the distribution brings, wherever a link to it stands.
const DISTRIBUTION: [&str; 5] = [
    "etc/pki/ca-trust/extracted",
    "etc/ca-certificates/extracted",
    "usr/share/ca-certificates",
    "usr/share/pki",
    "var/lib/ca-certificates",
];
/// The same as one file, made by update-ca-certificates(8).
const BUNDLES: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/tls/certs/ca-bundle.trust.crt",
    "etc/ssl/certs/ca-bundle.crt",
];

/// Also files that `kubeadm certs renew` writes in place, which no folder shows.
pub(super) const WATCHED: &[&str] = &[
    "etc/docker/certs.d",
    "etc/etcd",
    "etc/kubernetes",
    "etc/kubernetes/admin.conf",
    "etc/kubernetes/controller-manager.conf",
    "etc/kubernetes/kubelet.conf",
    "etc/kubernetes/pki",
    "etc/kubernetes/pki/apiserver.crt",
    "etc/kubernetes/pki/apiserver-kubelet-client.crt",
    "etc/kubernetes/pki/etcd",
    "etc/kubernetes/pki/etcd/server.crt",
    "etc/kubernetes/pki/front-proxy-client.crt",
    "etc/kubernetes/scheduler.conf",
    "etc/kubernetes/ssl",
    "etc/pki/ca-trust/source/anchors",
    "etc/pki/tls/certs",
    "etc/rabbitmq",
    "etc/ssl/certs",
    "etc/ssl/private",
    "usr/local/share/ca-certificates",
    "var/lib/kubelet/pki",
    "var/lib/rancher/k3s/agent",
    "var/lib/rancher/k3s/server/tls",
    "var/lib/rancher/rke2/agent",
    "var/lib/rancher/rke2/server/tls",
];

const SUFFIXES: [&str; 5] = [".crt", ".pem", ".cer", ".cert", ".der"];

const MAX_BYTES: u64 = 1024 * 1024;
const MAX_FILES: usize = 2000;
/// Entries of folders that are looked at.
const MAX_VISITED: usize = 20_000;
const MAX_CERTIFICATES: usize = 5000;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut search = Search { host, scan: Scan::default(), files: 0, visited: 0, cut: false };
    for (folder, levels) in FOLDERS {
        if let Some(target) = search.target_of(folder)? {
            // `/etc/ssl/certs` is one to another folder in some distributions.
            if is_looked_into(&target) || is_of_distribution(&target) {
                continue;
            }
        }
        search.folder(folder, levels)?;
    }
    for name in search.names(KUBECONFIG_FOLDER)? {
        if name.ends_with(".conf") {
            search.file(&format!("{KUBECONFIG_FOLDER}/{name}"), kubeconfig_certificates)?;
        }
    }
    for path in KUBECONFIGS {
        search.file(path, kubeconfig_certificates)?;
    }
    if search.cut {
        search.scan.warnings.push("too many files or certificates, the rest is left out".to_owned());
    }
    Ok(search.scan)
}

struct Search<'a> {
    host: &'a HostRoot,
    scan: Scan,
    files: usize,
    visited: usize,
    cut: bool,
}

impl Search<'_> {
    /// Where a link leads, from the root; `None` for what is none or is absent.
    fn target_of(&mut self, path: &str) -> Result<Option<PathBuf>, ProbeError> {
        match self.host.read_link(path) {
            Ok(target) => Ok(Some(resolve(Path::new(path), &target))),
            Err(error) => self.left_out(path, error).map(|()| None),
        }
    }

    fn names(&mut self, folder: &str) -> Result<Vec<String>, ProbeError> {
        match self.host.list(folder) {
            Ok(names) => Ok(self.texts(folder, names)),
            Err(error) => self.left_out(folder, error).map(|()| Vec::new()),
        }
    }

    fn folder(&mut self, folder: &str, levels: usize) -> Result<(), ProbeError> {
        let (names, links) =
            match self.host.list(folder).and_then(|names| Ok((names, self.host.links(folder)?))) {
                Ok(found) => found,
                Err(error) => return self.left_out(folder, error),
            };
        let names = self.texts(folder, names);
        let links: HashMap<String, PathBuf> = links
            .into_iter()
            .filter_map(|(name, target)| {
                let name = name.into_string().ok()?;
                let target = resolve(Path::new(&format!("{folder}/{name}")), Path::new(&target));
                Some((name, target))
            })
            .collect();
        let superseded = |name: &str| names.iter().any(|current| is_older_than_current(name, current));
        for name in &names {
            self.visited += 1;
            if self.visited > MAX_VISITED {
                self.cut = true;
                return Ok(());
            }
            let path = format!("{folder}/{name}");
            let link = links.get(name);
            if has_suffix(name) {
                let elsewhere = link.is_some_and(|target| {
                    let found = is_looked_into(target) && has_suffix(&target.to_string_lossy());
                    is_of_distribution(target) || found && !name.ends_with("-current.pem")
                });
                if elsewhere || superseded(name) || BUNDLES.contains(&path.as_str()) {
                    continue;
                }
                self.file(&path, pem_certificates)?;
            }
            // A link to a folder may lead in a circle. A name with a suffix may
            // be a folder too: `certs.d/registry.crt`.
            if levels > 0 && link.is_none() && !is_key(name) {
                self.folder(&path, levels - 1)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, certificates: fn(&[u8]) -> Vec<Block>) -> Result<(), ProbeError> {
        if self.files == MAX_FILES {
            self.cut = true;
            return Ok(());
        }
        let text = match self.host.read(path, MAX_BYTES) {
            Ok(text) => text,
            Err(error) => return self.left_out(path, error),
        };
        self.files += 1;
        let path = format!("/{path}");
        for (index, block) in certificates(&text).into_iter().enumerate() {
            if self.scan.assets.len() == MAX_CERTIFICATES {
                self.cut = true;
                return Ok(());
            }
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let Some((name, details)) = block.der.and_then(|der| parse_certificate(&path, index, &der))
            else {
                self.scan
                    .warnings
                    .push(format!("{}: certificate {index} cannot be read", clean(path.as_bytes())));
                // It may just be written: what was known of the file stays until
                // it can be read.
                self.scan.unread.push(format!("{path}#"));
                continue;
            };
            let key = format!("{path}#{index}");
            let name = name.unwrap_or_else(|| key.clone());
            self.scan.assets.push(ScannedAsset::new(key, name, Details::Certificate(details)));
        }
        Ok(())
    }

    /// A name that is no text can neither be shown nor opened by what is shown.
    fn texts(&mut self, folder: &str, names: Vec<OsString>) -> Vec<String> {
        let mut texts = Vec::new();
        for name in names {
            match name.into_string() {
                Ok(name) => texts.push(name),
                Err(name) => {
                    let name = name.to_string_lossy();
                    if has_suffix(&name) || name.ends_with(".conf") {
                        let told = format!("/{folder}/{}: its name is no UTF-8", clean(name.as_bytes()));
                        self.scan.warnings.push(told);
                    }
                }
            }
        }
        texts
    }

    /// Absent is nothing. What the agent has no right to read and what is too
    /// large is told, and what was known of it or below it stays. What else
    /// fails says nothing of the node.
    fn left_out(&mut self, path: &str, error: io::Error) -> Result<(), ProbeError> {
        // EINVAL of readlink(2) is among what is absent: no link.
        if is_absent(&error) {
            return Ok(());
        }
        let why = match error.kind() {
            ErrorKind::PermissionDenied => "permission denied, needs root or CAP_DAC_READ_SEARCH".to_owned(),
            ErrorKind::FileTooLarge => error.to_string(),
            _ => return Err(ProbeError::read(path)(error)),
        };
        self.scan.warnings.push(format!("/{}: {why}", clean(path.as_bytes())));
        self.scan.unread.extend([format!("/{path}#"), format!("/{path}/")]);
        Ok(())
    }
}

fn has_suffix(name: &str) -> bool {
    SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) && !is_key(name)
}

/// `server.key`, `server-key.pem`: not even opened.
fn is_key(name: &str) -> bool {
    name.ends_with(".key") || name.ends_with("key.pem")
}

/// Whether this is one of the files that `kubelet-client-current.pem` or
/// `kubelet-server-current.pem` led to before: the kubelet keeps them, with the
/// time in their names, and uses the current one alone.
fn is_older_than_current(name: &str, current: &str) -> bool {
    current
        .strip_suffix("current.pem")
        .and_then(|prefix| name.strip_prefix(prefix))
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Whether a path, from the root, is found by itself.
fn is_looked_into(path: &Path) -> bool {
    FOLDERS.iter().any(|(folder, levels)| {
        path.strip_prefix(folder).is_ok_and(|rest| rest.components().count() <= levels + 1)
    })
}

fn is_of_distribution(path: &Path) -> bool {
    DISTRIBUTION.iter().any(|folder| path.starts_with(folder))
        || BUNDLES.iter().any(|bundle| path == Path::new(bundle))
}

/// Where a link leads by its text, from the root and without `..`.
fn resolve(link: &Path, target: &Path) -> PathBuf {
    let joined = link.parent().unwrap_or(Path::new("")).join(target);
    let mut path = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    path
}
