//! What is in an image that a container runs from: its layers are read, or,
//! where the runtime does not stack them, the running container.

use std::io;

use contracts::v1::ImageContentSource;

use super::cgroup::{self, Member};
use super::layers::{Layers, root_overlay};
use crate::host::HostRoot;
use crate::probe::ImageContents;
use crate::probe::packages::{self, Files};

const MAX_MOUNTS: u64 = 4 * 1024 * 1024;

/// Reads the packages in the image of a running container. What was left out of
/// them is added to `warnings`.
///
/// # Errors
/// Why they cannot be read, for a person.
pub(super) fn read(
    host: &HostRoot,
    member: &Member,
    tasks: &[String],
    image_digest: &str,
    warnings: &mut Vec<String>,
) -> Result<ImageContents, String> {
    let pid = member.pid.ok_or("no process of it can be seen")?;
    let (files, source) = match open_layers(host, pid) {
        Ok(Some(layers)) => (Box::new(layers) as Box<dyn Files>, ImageContentSource::Layers),
        // Another snapshotter, or layers of another mount namespace.
        Ok(None) | Err(_) => {
            let belongs = |file: &[u8]| {
                cgroup::placement(host, file, tasks).is_some_and(|there| there.id == member.placement.id)
            };
            let root = host.process_root(pid, belongs).map_err(|error| describe(&error))?;
            (Box::new(root) as Box<dyn Files>, ImageContentSource::Container)
        }
    };
    let (packages, left_out) = packages::read_all(files.as_ref()).map_err(|error| error.to_string())?;
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
