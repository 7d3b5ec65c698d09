//! Reading the small files of `/sys` and `/proc/sys` so that an absence is told
//! from a failure.

mod object;

use std::io;
use std::path::Path;

use super::{ProbeError, is_absent};
use crate::host::HostRoot;
use crate::text::clean;

pub(super) use object::{Object, attached_to, attachment, if_given, link, pci_slot};

/// An attribute is at most one page, which has 64 KiB on some machines.
const MAX_BYTES: u64 = 64 * 1024;

/// One attribute, trimmed and cleaned; empty when it is absent, when the device
/// does not support it, or has gone meanwhile.
pub(super) fn attribute(host: &HostRoot, path: &str) -> Result<String, ProbeError> {
    given_attribute(host, path).map(Option::unwrap_or_default)
}

/// As [`attribute`], but `None` when nothing has that name.
pub(super) fn given_attribute(host: &HostRoot, path: &str) -> Result<Option<String>, ProbeError> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match host.read(path, MAX_BYTES) {
        Ok(bytes) => Ok(Some(clean(&bytes).trim().to_owned())),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        Err(error) if is_absent(&error) || is_unsupported(&error) => Ok(Some(String::new())),
        Err(error) => Err(ProbeError::read(path)(error)),
    }
}

/// A decimal attribute; `None` when it is absent or no such number.
pub(super) fn number<T: std::str::FromStr>(host: &HostRoot, path: &str) -> Result<Option<T>, ProbeError> {
    Ok(attribute(host, path)?.parse().ok())
}

/// A hexadecimal attribute, such as `0x8086` or `8086`; `None` as with [`number`].
pub(super) fn hexadecimal(host: &HostRoot, path: &str) -> Result<Option<u32>, ProbeError> {
    let text = attribute(host, path)?;
    Ok(u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok())
}

/// Last name of a link's target, such as the name of a driver; empty without one.
pub(super) fn link_name(host: &HostRoot, path: &str) -> Result<String, ProbeError> {
    match host.read_link(path) {
        Ok(target) => Ok(target.file_name().map(|name| clean(name.as_encoded_bytes())).unwrap_or_default()),
        Err(error) if is_absent(&error) || is_unsupported(&error) => Ok(String::new()),
        Err(error) => Err(ProbeError::read(path)(error)),
    }
}

/// Names in a folder, cleaned and sorted; none when it is absent.
pub(super) fn names(host: &HostRoot, path: &str) -> Result<Vec<String>, ProbeError> {
    let names = super::unless_absent(path, host.list(path))?;
    Ok(names.iter().map(|name| clean(name.as_encoded_bytes())).collect())
}

/// Names and targets of the links in a folder, cleaned and sorted by name; none
/// when it is absent.
pub(super) fn links(host: &HostRoot, path: &str) -> Result<Vec<(String, String)>, ProbeError> {
    let links = super::unless_absent(path, host.links(path))?;
    let mut links: Vec<(String, String)> = links
        .iter()
        .map(|(name, target)| (clean(name.as_encoded_bytes()), clean(target.as_encoded_bytes())))
        .collect();
    links.sort();
    Ok(links)
}

/// The slots of PCI devices in the target of a link into `/sys/devices`, from
/// the bus to the device.
pub(super) fn pci_slots(target: &str) -> impl DoubleEndedIterator<Item = &str> {
    Path::new(target).iter().filter_map(std::ffi::OsStr::to_str).filter(|name| is_pci_slot(name))
}

/// Whether a name has the form `0000:00:1f.2`; the domain of some hosts has more
/// digits.
pub(super) fn is_pci_slot(name: &str) -> bool {
    let Some((device, function)) = name.rsplit_once('.') else { return false };
    let parts: Vec<&str> = device.split(':').collect();
    let hexadecimal =
        |part: &str, digits: usize| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let [domain, bus, device] = parts[..] else { return false };
    domain.len() >= 4
        && hexadecimal(domain, domain.len())
        && hexadecimal(bus, 2)
        && hexadecimal(device, 2)
        && hexadecimal(function, 1)
}

/// What drivers answer for an attribute that their device has not, or has no
/// longer.
fn is_unsupported(error: &io::Error) -> bool {
    use nix::libc::{ENODATA, ENODEV, ENXIO, EOPNOTSUPP};
    error.raw_os_error().is_some_and(|code| [ENODATA, ENODEV, ENXIO, EOPNOTSUPP].contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_told_from_a_failure() {
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path()).unwrap();
        std::fs::write(root.path().join("value"), " 0x1F\n").unwrap();
        std::fs::write(root.path().join("large"), vec![b'1'; 70_000]).unwrap();
        assert_eq!(attribute(&host, "value").unwrap(), "0x1F");
        assert_eq!(hexadecimal(&host, "value").unwrap(), Some(31));
        assert_eq!(number::<u32>(&host, "value").unwrap(), None);
        assert_eq!(attribute(&host, "none").unwrap(), "");
        assert_eq!(link_name(&host, "value").unwrap(), "", "no link");
        assert_eq!(names(&host, "none").unwrap(), Vec::<String>::new());
        assert!(attribute(&host, "large").is_err());
    }

    #[test]
    fn knows_slots() {
        for (name, expected) in [
            ("0000:00:1f.2", true),
            ("10000:e0:00.0", true),
            ("pci0000:00", false),
            ("0000:00.1f.2", false),
            ("0000:00:1f", false),
            ("0000:zz:1f.2", false),
            ("::.", false),
            ("", false),
        ] {
            assert_eq!(is_pci_slot(name), expected, "{name}");
        }
        let target = "../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/usb1/1-1";
        assert_eq!(pci_slots(target).collect::<Vec<_>>(), ["0000:00:01.0", "0000:01:00.0"]);
    }
}
