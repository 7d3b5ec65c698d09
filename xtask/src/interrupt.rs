//! Ctrl-C and SIGTERM, as a value that is passed to whatever waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use crate::error::{Context, Error};

/// Whether the user wants this command to end. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP from here on.
    pub fn listen() -> Result<Self, Error> {
        let raised = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&raised)).trying(|| format!("listen for signal {signal}"))?;
        }
        Ok(Self(raised))
    }

    /// Whether one of the signals has come.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once one of the signals has come.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Ends what others do on behalf of this command, when a part of it failed.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Waits a moment between two looks at something; fails as [`Self::check`].
    pub fn pause(&self, time: Duration) -> Result<(), Error> {
        self.check()?;
        thread::sleep(time);
        self.check()
    }
}
