//! Where it is measured, and with which versions.

use std::{fs, process::Command, thread};

use crate::{bench::figures::Machine, checkout::Checkout, command, error::Error};

/// This machine, without its name.
pub fn describe() -> Machine {
    // What cannot be read is left empty: it decides nothing.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Machine {
        processor: field(&read("/proc/cpuinfo"), "model name"),
        cores: thread::available_parallelism().map_or(0, usize::from),
        memory_mib: memory_mib(&read("/proc/meminfo")),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
    }
}

/// The commit that is checked out, with `-dirty` where files differ from it.
/// Earlier results do not count.
pub fn commit(checkout: &Checkout) -> Result<String, Error> {
    let git = |words: &[&str]| command::output(Command::new("git").args(words).current_dir(checkout.root()));
    let commit = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--", ".", ":(exclude)bench/results"])?;
    let mark = if changed.trim().is_empty() { "" } else { "-dirty" };
    Ok(format!("{}{mark}", commit.trim()))
}

/// Versions of Debian packages; those that are not installed are left out.
pub fn versions(packages: &[&str]) -> Vec<(String, String)> {
    let version = |package: &str| {
        let mut query = Command::new("dpkg-query");
        command::output(query.args(["--show", "--showformat=${Version}", package])).ok()
    };
    packages
        .iter()
        .filter_map(|package| Some(((*package).to_owned(), version(package)?)))
        .filter(|(_, version)| !version.is_empty())
        .collect()
}

/// Value of the first `label : value`, as /proc/cpuinfo has them.
fn field(text: &str, label: &str) -> String {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let value = values.into_iter().find(|(name, _)| name.trim() == label).map(|(_, value)| value.trim());
    value.unwrap_or_default().to_owned()
}

fn memory_mib(meminfo: &str) -> u64 {
    let total = field(meminfo, "MemTotal");
    total.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}

#[cfg(test)]
mod tests {
    use super::{field, memory_mib};

    #[test]
    fn the_machine_is_read_from_proc() {
        let cpuinfo =
            "processor\t: 0\nmodel name\t: Some CPU @ 2.10GHz\nprocessor\t: 1\nmodel name\t: Other\n";
        assert_eq!(field(cpuinfo, "model name"), "Some CPU @ 2.10GHz");
        assert_eq!(field("", "model name"), "");
        assert_eq!(memory_mib("MemTotal:       24684092 kB\nMemFree: 1 kB\n"), 24_105);
        assert_eq!(memory_mib("garbage"), 0);
    }
}
