//! What `/proc` tells of a running process (proc(5)), and how much processor
//! time programs took that have ended.

use std::{fs, time::Duration};

use nix::{
    sys::resource::{UsageWho, getrusage},
    sys::time::TimeValLike,
    unistd::{SysconfVar, sysconf},
};

use crate::error::{Context, Error};

/// Memory and processor time of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in bytes (`VmRSS`).
    pub resident: u64,
    /// Most of it at any time since the start (`VmHWM`).
    pub peak: u64,
    /// Resident memory with shared pages counted in parts, where the kernel tells (`Pss`).
    pub proportional: Option<u64>,
    /// Time on a processor since the start, children aside.
    pub processor: Duration,
}

impl Usage {
    /// Of a running process.
    pub fn of(pid: u32) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).on("read", path.as_ref())
        };
        let (status, stat) = (read("status")?, read("stat")?);
        let smaps = read("smaps_rollup").ok();
        Self::parse(&status, &stat, smaps.as_deref(), ticks_per_second()).ok_or_else(|| Error::Io {
            action: format!("understand what /proc tells of process {pid}"),
            source: std::io::ErrorKind::InvalidData.into(),
        })
    }

    fn parse(status: &str, stat: &str, smaps: Option<&str>, ticks_per_second: u64) -> Option<Self> {
        let ticks = processor_ticks(stat)?;
        Some(Self {
            resident: kib(status, "VmRSS:")? * 1024,
            peak: kib(status, "VmHWM:")? * 1024,
            proportional: smaps.and_then(|text| kib(text, "Pss:")).map(|kib| kib * 1024),
            processor: Duration::from_millis(ticks * 1000 / ticks_per_second.max(1)),
        })
    }
}

/// Time on a processor of all programs that this one has started and waited for,
/// and of those that they waited for.
pub fn ended_children() -> Result<Duration, Error> {
    let usage =
        getrusage(UsageWho::RUSAGE_CHILDREN).trying(|| "tell the time of ended programs".to_owned())?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(microseconds).unwrap_or_default()))
}

/// The number after a label, in lines such as `VmRSS:    15480 kB`.
fn kib(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time, fields 14 and 15; they count from the end of the
/// command's name, which may itself hold spaces and parentheses.
fn processor_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    // The field after the name is number 3.
    let mut times = fields.split(' ').skip(14 - 3);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

fn ticks_per_second() -> u64 {
    // Linux has had 100 on every architecture for long.
    sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::{Usage, ended_children};

    const STATUS: &str =
        "Name:\tagent\nVmPeak:\t  300000 kB\nVmHWM:\t   16000 kB\nVmRSS:\t   15480 kB\nThreads:\t2\n";
    const STAT: &str = "42 (a) b (c)) S 1 43 42 0 -1 4194560 1 0 0 0 70 8 900 900 20 0 1 0 991 100 200 0";
    const SMAPS: &str =
        "5594-7fff ---p 00000000 00:00 0    [rollup]\nRss:   15480 kB\nPss:   13896 kB\nPss_Anon: 1 kB\n";

    #[test]
    fn memory_and_time_are_read_from_proc() {
        let expected = Usage {
            resident: 15_480 * 1024,
            peak: 16_000 * 1024,
            proportional: Some(13_896 * 1024),
            processor: Duration::from_millis(780),
        };
        assert_eq!(Usage::parse(STATUS, STAT, Some(SMAPS), 100), Some(expected));
        let without = Usage { proportional: None, ..expected };
        assert_eq!(Usage::parse(STATUS, STAT, None, 100), Some(without));
    }

    #[test]
    fn what_is_cut_or_foreign_is_no_measurement() {
        for (status, stat) in [("", STAT), (STATUS, ""), (STATUS, "42 (a) S 1 2 3"), ("VmRSS:\tmuch\n", STAT)]
        {
            assert_eq!(Usage::parse(status, stat, None, 100), None, "{status:?} {stat:?}");
        }
    }

    #[test]
    fn this_process_can_be_measured_and_one_that_is_not_there_cannot() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 0 && usage.peak >= usage.resident);
        assert!(Usage::of(u32::MAX).is_err());
    }

    #[test]
    fn the_time_of_ended_programs_and_of_their_children_counts() {
        let before = ended_children().unwrap();
        let burn = "sh -c 'i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done'; true";
        assert!(Command::new("sh").args(["-c", burn]).status().unwrap().success());
        assert!(ended_children().unwrap() > before);
    }
}
