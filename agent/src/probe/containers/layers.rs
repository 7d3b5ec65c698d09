//! The read-only layers of a container's root (kernel, filesystems/overlayfs),
//! read as one tree without mounting anything: what the image holds, without
//! what the container wrote.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::host::{Entry, HostRoot};
use crate::probe::filesystems::unescape;
use crate::probe::packages::Files;

/// Links followed for one path (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// overlayfs itself allows 500.
const MAX_LAYERS: usize = 500;

/// Where the layers of an overlay are, the topmost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlay {
    layers: Vec<String>,
    /// Folders that relative paths may begin at, the likeliest first.
    bases: Vec<String>,
}

/// The overlay that is mounted on `/` in a mountinfo (proc_pid_mountinfo(5));
/// `None` where something else is.
pub(super) fn root_overlay(mountinfo: &[u8]) -> Option<Overlay> {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    let mut root = None;
    for line in lines {
        let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let Some(separator) = words.iter().skip(6).position(|word| word == b"-").map(|at| at + 6) else {
            continue;
        };
        // A later mount hides what was there before.
        if words[4] == b"/" {
            let options = words.get(separator + 3).copied().unwrap_or_default();
            root = (words.get(separator + 1) == Some(&&b"overlay"[..])).then(|| parse_options(options));
        }
    }
    root.flatten()
}

fn parse_options(options: &[u8]) -> Option<Overlay> {
    let (mut layers, mut upper) = (Vec::new(), String::new());
    for option in options.split(|&byte| byte == b',') {
        let option = unescape(option);
        if let Some(list) = option.strip_prefix("lowerdir=") {
            layers.extend(split_layers(list));
        } else if let Some(layer) = option.strip_prefix("lowerdir+=") {
            // Linux 6.8 and later, where they were given one by one.
            layers.push(layer.to_owned());
        } else if let Some(path) = option.strip_prefix("upperdir=") {
            path.clone_into(&mut upper);
        }
    }
    if layers.is_empty() || layers.len() > MAX_LAYERS {
        return None;
    }
    // Many layers do not fit into a mount's options, so runtimes mount from
    // within the folder above all of them: `12/fs` of containerd and `l/ABC`
    // of Docker and CRI-O are relative to `…/snapshots` or `…/overlay2`, which
    // is two above the writable layer, `…/13/fs` or `…/<id>/diff`.
    let two_above = upper.rsplitn(3, '/').nth(2).filter(|base| !base.is_empty());
    let mut bases: Vec<String> = two_above.map(str::to_owned).into_iter().collect();
    bases.extend(
        [
            "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots",
            "/var/lib/docker/overlay2",
            "/var/lib/containers/storage/overlay",
        ]
        .map(str::to_owned),
    );
    Some(Overlay { layers, bases })
}

/// Splits at each `:` that no backslash stands before; what comes after `::`
/// holds data only, and no names.
fn split_layers(list: &str) -> Vec<String> {
    let (mut layers, mut layer) = (Vec::new(), String::new());
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => layer.extend(characters.next()),
            ':' => {
                layers.push(std::mem::take(&mut layer));
                if characters.peek() == Some(&':') {
                    return layers;
                }
            }
            other => layer.push(other),
        }
    }
    layers.push(layer);
    layers.retain(|layer| !layer.is_empty());
    layers
}

/// Layers as one tree.
pub(super) struct Layers {
    /// The topmost first.
    roots: Vec<HostRoot>,
}

enum Node {
    File(usize),
    /// With the layers that it is merged of.
    Folder(Vec<usize>),
    Link(OsString),
    Absent,
    Other,
}

impl Layers {
    /// Opens all layers.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub(super) fn open(host: &HostRoot, overlay: &Overlay) -> io::Result<Self> {
        let open = |layer: &String| {
            if layer.starts_with('/') {
                return host.below(layer);
            }
            let mut result = Err(io::ErrorKind::NotFound.into());
            for base in &overlay.bases {
                result = host.below(format!("{base}/{layer}"));
                if result.is_ok() {
                    break;
                }
            }
            result
        };
        Ok(Self { roots: overlay.layers.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// What `name` stands for in a folder without links, merged of `among`.
    fn look(&self, folder: &str, among: &[usize], name: &str) -> io::Result<Node> {
        let path = join(folder, name);
        let mut merged = Vec::new();
        for &layer in among {
            let root = &self.roots[layer];
            match root.entry(&path) {
                Ok(Entry::Folder) => {
                    merged.push(layer);
                    if is_opaque(root, &path) {
                        break;
                    }
                }
                // Below a folder it is hidden, and ends what is merged.
                Ok(_) if !merged.is_empty() => break,
                Ok(Entry::File) => return Ok(Node::File(layer)),
                Ok(Entry::Link) => return Ok(Node::Link(root.read_link(&path)?.into_os_string())),
                Ok(Entry::Whiteout) => return Ok(Node::Absent),
                Ok(Entry::Other) => return Ok(Node::Other),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            // As layers are packed (OCI image-spec, layer.md), and as
            // fuse-overlayfs keeps them.
            if root.entry(join(folder, &format!(".wh.{name}"))).is_ok() {
                break;
            }
        }
        Ok(if merged.is_empty() { Node::Absent } else { Node::Folder(merged) })
    }

    /// Follows links as if the tree were the root.
    fn resolve(&self, path: &str) -> io::Result<(String, Node)> {
        let mut walked: Vec<(String, Vec<usize>)> = vec![(String::new(), (0..self.roots.len()).collect())];
        let mut pending: Vec<String> = names_reversed(path);
        let mut links = 0;
        while let Some(name) = pending.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    if walked.len() > 1 {
                        walked.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let Some((folder, among)) = walked.last() else { break };
            let found = self.look(folder, among, &name)?;
            let path = join(folder, &name);
            match found {
                Node::Folder(among) => walked.push((path, among)),
                Node::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
                    }
                    let target = target.to_str().ok_or(io::ErrorKind::NotFound)?;
                    if target.starts_with('/') {
                        walked.truncate(1);
                    }
                    pending.extend(names_reversed(target));
                }
                Node::Absent => return Err(io::ErrorKind::NotFound.into()),
                found if pending.is_empty() => return Ok((path, found)),
                _ => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        let (path, among) = walked.pop().unwrap_or_default();
        Ok((path, Node::Folder(among)))
    }
}

impl Files for Layers {
    fn open(&self, path: &str) -> io::Result<File> {
        match self.resolve(path)? {
            (path, Node::File(layer)) => self.roots[layer].open(path),
            (_, Node::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<OsString>> {
        let (path, Node::Folder(among)) = self.resolve(path)? else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let (mut names, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        for layer in among {
            let root = &self.roots[layer];
            let mut hides = Vec::new();
            for name in root.list(&path)? {
                if let Some(gone) = name.as_bytes().strip_prefix(b".wh.") {
                    hides.push(OsString::from_vec(gone.to_vec()));
                } else if !hidden.contains(&name) {
                    let is_whiteout = name
                        .to_str()
                        .is_some_and(|name| matches!(root.entry(join(&path, name)), Ok(Entry::Whiteout)));
                    if is_whiteout {
                        hides.push(name);
                    } else {
                        names.insert(name);
                    }
                }
            }
            // A name hides those below its own layer.
            hidden.extend(hides);
        }
        Ok(names.into_iter().collect())
    }
}

/// Whether a folder hides what the layers below have in it. `trusted.…` can only
/// be seen with CAP_SYS_ADMIN; without it, what a later layer of the image threw
/// away with its whole folder may still be found.
fn is_opaque(root: &HostRoot, path: &str) -> bool {
    [c"trusted.overlay.opaque", c"user.overlay.opaque"]
        .iter()
        .any(|name| root.attribute(path, name).is_some_and(|value| value == b"y"))
        || root.entry(join(path, ".wh..wh..opq")).is_ok()
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn names_reversed(path: &str) -> Vec<String> {
    path.split('/').rev().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
