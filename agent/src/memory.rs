//! How memory is asked for.
//!
//! glibc gives each thread a heap of its own and keeps what was freed in it, for
//! speed that the agent has no use for: its threads come and go, one scan at a
//! time, and between scans it shall be small. One heap that is given back to the
//! system makes the difference of three megabytes. There is no safe way to say
//! so from within (`mallopt`); glibc reads it from the environment when a program
//! starts (mallopt(3), Environment variables).

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// One heap; what is free at its end is given back from 128 KiB on, and larger
/// pieces are taken from the system one by one.
const SETTINGS: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// Starts this program anew in its own place, with the settings above; the same
/// process, arguments and environment otherwise. To be called before anything
/// else is done. Comes back where somebody has made settings, so also in the new
/// program, and where it cannot be done: then it only takes more memory.
pub fn make_thrifty() {
    if !cfg!(target_env = "gnu") || is_set(|name| env::var_os(name)) {
        return;
    }
    let mut arguments = env::args_os();
    let Ok(program) = env::current_exe() else { return };
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let _ = command.args(arguments).envs(SETTINGS).exec();
}

fn is_set(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    // The newer way to say the same.
    SETTINGS.iter().map(|(name, _)| *name).chain(["GLIBC_TUNABLES"]).any(|name| variable(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_made_once_and_never_over_those_of_others() {
        assert!(!is_set(|_| None));
        for name in ["MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"] {
            assert!(is_set(|asked| (asked == name).then(OsString::new)), "{name}");
        }
    }
}
