//! What is in an image that a container runs from: its layers are read, or,
//! where the runtime does not stack them, the running container.

use std::io;

use contracts::v1::ImageContentSource;

use super::cgroup::{self, Member};
use super::layers::{Layers, root_overlay};
use crate::host::HostRoot;
use crate::probe::packages::{self, Files};
use crate::probe::{ImageContents, ProbeError, is_absent};

const MAX_MOUNTS: u64 = 4 * 1024 * 1024;

/// Why the packages of an image are not known.
#[derive(Debug)]
pub(super) struct Problem {
    /// For a person.
    pub(super) text: String,
    /// It is the image's own, so that there is no use in another attempt.
    pub(super) is_lasting: bool,
}

impl Problem {
    fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_lasting: false }
    }
}

/// Reads the packages in the image of a running container. What was left out of
/// them is added to `warnings`.
///
/// # Errors
/// They cannot be read, or are too many.
pub(super) fn read(
    host: &HostRoot,
    member: &Member,
    tasks: &[String],
    image_digest: &str,
    warnings: &mut Vec<String>,
) -> Result<ImageContents, Problem> {
    let pid = member.pid.ok_or_else(|| Problem::passing("no process of it can be seen"))?;
    let layers = match open_layers(host, pid) {
        Ok(layers) => layers,
        // Layers of another mount namespace, or hidden ones.
        Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::PermissionDenied => None,
        // No descriptor left, say: what the container wrote may not stand for
        // its image because of that, as an image is read only once.
        Err(error) => return Err(Problem::passing(describe(&error))),
    };
    let (files, source) = match layers {
        Some(layers) => (Box::new(layers) as Box<dyn Files>, ImageContentSource::Layers),
        // Another snapshotter.
        None => {
            let belongs = |file: &[u8]| {
                let placement = cgroup::placement(host, file, tasks);
                placement.is_ok_and(|there| there.is_some_and(|there| there.id == member.placement.id))
            };
            let root = host.process_root(pid, belongs);
            let root = root.map_err(|error| Problem::passing(describe(&error)))?;
            (Box::new(root) as Box<dyn Files>, ImageContentSource::Container)
        }
    };
    let read = packages::read_within(files.as_ref(), packages::Limits::IMAGE);
    let (packages, left_out) = read.map_err(|error| Problem {
        // Layers never change.
        is_lasting: source == ImageContentSource::Layers && matches!(error, ProbeError::Malformed { .. }),
        text: error.to_string(),
    })?;
    warnings.extend(left_out.into_iter().map(|warning| format!("{image_digest}: {warning}")));
    Ok(ImageContents { image_digest: image_digest.to_owned(), packages, source })
}

fn open_layers(host: &HostRoot, pid: u32) -> io::Result<Option<Layers>> {
    let mounts = host.read(format!("proc/{pid}/mountinfo"), MAX_MOUNTS)?;
    let Some(overlay) = root_overlay(&mounts) else { return Ok(None) };
    Layers::open(host, &overlay).map(Some)
}

fn describe(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return "permission denied, needs root, or CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE".to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::containers::cgroup::Placement;
    use std::fs;

    #[test]
    fn a_passing_error_does_not_make_the_container_stand_for_its_image() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("proc/7")).unwrap();
        let mounts = fs::File::create(folder.path().join("proc/7/mountinfo")).unwrap();
        mounts.set_len(MAX_MOUNTS + 1).unwrap();
        let host = HostRoot::new(folder.path()).unwrap();
        let placement = Placement { manager: "docker".into(), id: "a".repeat(64), pod_uid: String::new() };
        let member = Member { placement, pid: Some(7), started: 0 };
        let read = |host: &HostRoot| read(host, &member, &[], "sha256:1", &mut Vec::new()).unwrap_err();
        let problem = read(&host);
        // Where the container is looked at, it is no folder of procfs.
        let looked_at = io::Error::from_raw_os_error(nix::libc::ENOTSUP).to_string();
        assert_ne!(problem.text, looked_at);
        assert!(!problem.is_lasting);
        // Nothing of its mounts can be said: then it is looked at.
        fs::remove_file(folder.path().join("proc/7/mountinfo")).unwrap();
        assert_eq!(read(&host).text, looked_at);
    }

    #[test]
    fn an_image_with_more_packages_than_any_has_is_told_once_and_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("proc/7")).unwrap();
        fs::create_dir_all(root.join("layers/1/var/lib/dpkg")).unwrap();
        let mounts = "22 1 0:1 / / rw - overlay overlay rw,lowerdir=/layers/1,upperdir=/layers/2\n";
        fs::write(root.join("proc/7/mountinfo"), mounts).unwrap();
        let host = HostRoot::new(root).unwrap();
        let placement = Placement { manager: "docker".into(), id: "a".repeat(64), pod_uid: String::new() };
        let member = Member { placement, pid: Some(7), started: 0 };
        let write = |count: u32| {
            let package = |number| {
                format!("Package: p{number}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n")
            };
            let status: String = (0..count).map(package).collect();
            fs::write(root.join("layers/1/var/lib/dpkg/status"), status).unwrap();
        };
        write(10_000);
        let contents = read(&host, &member, &[], "sha256:1", &mut Vec::new()).unwrap();
        assert_eq!((contents.packages.len(), contents.source), (10_000, ImageContentSource::Layers));
        write(20_001);
        let problem = read(&host, &member, &[], "sha256:1", &mut Vec::new()).unwrap_err();
        assert!(problem.text.contains("more than") && problem.is_lasting, "{problem:?}");
    }
}
