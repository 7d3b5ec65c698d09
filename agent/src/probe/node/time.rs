//! When the node booted, how long ago that was, and which clock it shows.

use std::path::Path;

use crate::host::HostRoot;
use crate::probe::{ProbeError, exists};
use crate::text::clean;

const LOCALTIME: &str = "etc/localtime";
const TIMEZONE: &str = "etc/timezone";

const DAY: u64 = 24 * 60 * 60;

/// `btime` of `/proc/stat`, in seconds since the epoch.
pub(super) fn parse_boot_time(text: &[u8]) -> Option<i64> {
    clean(text).lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// How long the node has been up, by `/proc/uptime` (proc_uptime(5)): that is the
/// time since `btime`, whatever was done to the clock meanwhile.
pub(super) fn uptime_class(host: &HostRoot) -> &'static str {
    let uptime = host.line("proc/uptime").unwrap_or_default();
    match uptime.split(['.', ' ']).next().and_then(|seconds| seconds.parse().ok()) {
        Some(seconds) => class_of(seconds),
        None => "",
    }
}

fn class_of(seconds: u64) -> &'static str {
    match seconds / DAY {
        0 => "day",
        1..7 => "week",
        7..30 => "month",
        30..90 => "quarter",
        _ => "longer",
    }
}

/// As localtime(5): the link into the time zone database says it. Debian's
/// `/etc/timezone` says it where the file is a copy; a copy that nothing names
/// has no name.
pub(super) fn time_zone(host: &HostRoot) -> Result<String, ProbeError> {
    if let Some(zone) = host.read_link(LOCALTIME).ok().and_then(|target| zone_of(&target)) {
        return Ok(zone);
    }
    Ok(match host.line(TIMEZONE) {
        Some(text) => text.lines().next().unwrap_or_default().trim().to_owned(),
        None if exists(host, LOCALTIME)? => String::new(),
        None => "UTC".to_owned(),
    })
}

/// `../usr/share/zoneinfo/Europe/Vienna`; with leap seconds, or expressly
/// without, it is the same zone.
fn zone_of(target: &Path) -> Option<String> {
    let target = clean(target.as_os_str().as_encoded_bytes());
    let zone = target.split_once("zoneinfo/")?.1.trim_matches('/');
    let zone = zone.strip_prefix("posix/").or_else(|| zone.strip_prefix("right/")).unwrap_or(zone);
    (!zone.is_empty()).then(|| zone.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn reads_the_boot_time() {
        assert_eq!(parse_boot_time(b"cpu 1 2\nbtime 1795449368\n"), Some(1_795_449_368));
        assert_eq!(parse_boot_time(b"btime\n"), None);
    }

    #[test]
    fn a_long_uptime_changes_seldom() {
        for (seconds, expected) in [
            (0, "day"),
            (DAY - 1, "day"),
            (DAY, "week"),
            (7 * DAY - 1, "week"),
            (7 * DAY, "month"),
            (30 * DAY, "quarter"),
            (90 * DAY, "longer"),
            (u64::MAX, "longer"),
        ] {
            assert_eq!(class_of(seconds), expected, "{seconds}");
        }
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path()).unwrap();
        assert_eq!(uptime_class(&host), "");
        fs::create_dir(root.path().join("proc")).unwrap();
        for (text, expected) in [("350735.47 234388.90\n", "week"), ("garbage", ""), ("-1.0 0", "")] {
            fs::write(root.path().join("proc/uptime"), text).unwrap();
            assert_eq!(uptime_class(&host), expected);
        }
    }

    #[test]
    fn the_zone_is_that_of_the_link() {
        for (link, timezone, expected) in [
            (Some("/usr/share/zoneinfo/Europe/Vienna"), Some("Etc/UTC\n"), "Europe/Vienna"),
            (
                Some("../usr/share/zoneinfo/posix/America/Argentina/Ushuaia"),
                None,
                "America/Argentina/Ushuaia",
            ),
            (Some("/somewhere/else"), Some("Asia/Tokyo\n"), "Asia/Tokyo"),
            (Some("/usr/share/zoneinfo/"), None, "UTC"),
            (None, Some("Asia/Tokyo\nmore\n"), "Asia/Tokyo"),
            (None, None, "UTC"),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("etc")).unwrap();
            if let Some(link) = link {
                symlink(link, root.path().join(LOCALTIME)).unwrap();
            }
            if let Some(timezone) = timezone {
                fs::write(root.path().join(TIMEZONE), timezone).unwrap();
            }
            assert_eq!(
                time_zone(&HostRoot::new(root.path()).unwrap()).unwrap(),
                expected,
                "{link:?} {timezone:?}"
            );
        }
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join(LOCALTIME), "TZif2").unwrap();
        assert_eq!(time_zone(&HostRoot::new(root.path()).unwrap()).unwrap(), "", "a copy has no name");
    }
}
