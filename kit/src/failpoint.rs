//! Places at which a test can have the process die as by `kill -9`. They are
//! not there in a release build.

/// Dies here if `ASSETTRACK_FAILPOINT` is `<name>:<n>` and this is the n-th pass
/// of any place with this name, from 1.
#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};

    // One place is armed at a time, so one counter serves all.
    static PASSES: AtomicU32 = AtomicU32::new(0);
    let Ok(armed) = std::env::var("ASSETTRACK_FAILPOINT") else { return };
    let Some((place, nth)) = armed.split_once(':') else { return };
    if place == name && Ok(PASSES.fetch_add(1, Ordering::Relaxed) + 1) == nth.parse() {
        // Never returns: SIGKILL cannot be handled.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn pass(_name: &str) {}
