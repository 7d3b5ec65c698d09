//! Processes of which nothing but their ID is at hand: they outlive the command
//! that started them.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{kill, killpg},
    unistd::{Pid, SysconfVar, sysconf},
};
use serde::{Deserialize, Serialize};

pub use nix::sys::signal::Signal;

/// Time between two looks at a process that should end.
const LOOK: Duration = Duration::from_millis(50);

/// A process, told apart from a later one with the same number by its start.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProcessId {
    pub pid: u32,
    /// Start of the process in clock ticks since boot (proc(5), stat, field 22).
    start_ticks: u64,
}

/// What `/proc` tells about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    group: u32,
    start_ticks: u64,
}

impl ProcessId {
    /// Identifies a process that was just started.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = read_stat(pid)?;
        Some(Self { pid, start_ticks: stat.start_ticks })
    }

    /// Whether this very process still runs. One that ended and was not yet
    /// waited for does not.
    pub fn is_running(self) -> bool {
        read_stat(self.pid)
            .is_some_and(|stat| stat.start_ticks == self.start_ticks && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Resident memory of its process group in bytes: RabbitMQ's server is the
    /// child of a shell script.
    pub fn memory(self) -> u64 {
        let mut bytes = 0;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if read_stat(pid).is_some_and(|stat| stat.group == self.pid) {
                bytes += resident(pid).unwrap_or_default();
            }
        }
        bytes
    }

    /// Asks the process to end by `signal`, waits for at most `grace`, then kills
    /// its whole process group. Answers whether it ended by itself.
    pub fn stop(self, signal: Signal, grace: Duration) -> bool {
        if !self.is_running() {
            return true;
        }
        // An error means that it has just ended, which the loop finds out.
        let _ = kill(pid(self.pid), signal);
        let asked = Instant::now();
        while self.is_running() {
            if asked.elapsed() > grace {
                signal_group(self.pid, Signal::SIGKILL);
                // Not every process leads a group.
                let _ = kill(pid(self.pid), Signal::SIGKILL);
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

/// Signals all processes of a group; one that is gone is no matter.
pub fn signal_group(leader: u32, signal: Signal) {
    let _ = killpg(pid(leader), signal);
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed())
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses `/proc/<pid>/stat`. The command's name, in parentheses, may itself
/// hold spaces and parentheses, so fields count from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    // The field after the name is number 3, the group number 5, the start number 22.
    let group = fields.nth(1)?.parse().ok()?;
    let start_ticks = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, group, start_ticks })
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// How long a process has been running.
pub fn uptime(process: ProcessId) -> Option<Duration> {
    let ticks_per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let boot: f64 = fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
    let started = process.start_ticks / ticks_per_second;
    Some(Duration::from_secs((boot as u64).saturating_sub(started)))
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt,
        process::{Command, id},
        time::Duration,
    };

    use super::{ProcessId, Signal, Stat, parse_stat};

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b (c)) S 1 43 42 0 -1 4194560 1 0 0 0 7 8 0 0 20 0 1 0 991 100 200 184 0 0";
        assert_eq!(parse_stat(line), Some(Stat { state: 'S', group: 43, start_ticks: 991 }));
        assert_eq!(parse_stat("42 (cut) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn another_process_with_the_same_number_is_not_taken_for_it() {
        let this = ProcessId::of(id()).unwrap();
        assert!(this.is_running());
        let earlier = ProcessId { start_ticks: this.start_ticks - 1, ..this };
        assert!(!earlier.is_running());
        assert!(earlier.stop(Signal::SIGKILL, Duration::ZERO), "the test itself was killed");
    }

    #[test]
    fn a_process_that_ignores_the_polite_signal_is_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; sleep 600 & wait; wait"])
            .process_group(0)
            .spawn()
            .unwrap();
        let process = ProcessId::of(child.id()).unwrap();
        // Until the shell has set its trap, the signal would end it.
        let ignores = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
            // Others may be ignored from the start, as under nohup(1).
            let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap_or_default();
            ignored & 1 << (Signal::SIGTERM as u32 - 1) != 0
        };
        while !ignores() {
            std::thread::yield_now();
        }
        assert!(process.memory() > 0);
        assert!(!process.stop(Signal::SIGTERM, Duration::from_millis(100)));
        assert_eq!(child.wait().unwrap().code(), None);
        assert!(!process.is_running());
    }
}
