//! The private servers of one run of tests or measurements.

use std::fs::File;

use crate::{
    checkout::Checkout,
    error::Error,
    instance::Instance,
    interrupt::Interrupt,
    progress::Progress,
    reset,
    servers::{Durability, Given, Urls},
    system,
};

/// Servers, and whatever else runs in a directory of its own in `.local/`. All of
/// it is stopped, and its data removed, when this value goes, also by an error or a
/// panic.
pub struct Session {
    pub instance: Instance,
    pub urls: Urls,
    _lock: File,
}

impl Session {
    /// Starts the servers that are not given, in `.local/<name>/`, on nothing: what
    /// an earlier run left is stopped and wiped.
    pub fn start(
        checkout: &Checkout,
        name: &str,
        given: Given,
        durability: Durability,
        interrupt: &Interrupt,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let mut instance = Instance::open(&checkout.local()?.join(name))?;
        let lock = instance.lock()?;
        system::stop(&mut instance)?;
        reset::wipe(&mut instance)?;
        match given.start(&mut instance, durability, interrupt, progress) {
            Ok(urls) => Ok(Self { instance, urls, _lock: lock }),
            Err(error) => {
                clean_up(&mut instance);
                Err(error)
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        clean_up(&mut self.instance);
    }
}

fn clean_up(instance: &mut Instance) {
    if let Err(error) = system::stop(instance).and_then(|()| reset::wipe_data(instance)) {
        eprintln!("cannot clean up after the run: {error}");
    }
}
