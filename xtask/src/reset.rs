//! `cargo xtask reset`.

use std::{fs, io::ErrorKind, path::Path};

use crate::{
    checkout::Checkout,
    error::{Context, Error},
    instance::Instance,
    system,
};

/// Stops the system and removes all that it stored. Installed tools stay.
pub fn run(checkout: &Checkout) -> Result<(), Error> {
    let mut instance = Instance::open(&checkout.local()?)?;
    let _lock = instance.lock()?;
    system::stop(&mut instance)?;
    wipe(&mut instance)?;
    println!("all data of this checkout's system is gone; `cargo xtask up` starts anew");
    Ok(())
}

/// Removes the data, logs and passwords of an instance that is stopped. Its
/// ports stay remembered.
pub fn wipe(instance: &mut Instance) -> Result<(), Error> {
    wipe_data(instance)?;
    for name in ["log", "credentials.json"] {
        remove(&instance.directory().join(name))?;
    }
    // Makes the directories anew.
    Instance::open(instance.directory()).map(drop)
}

/// Removes the data of an instance that is stopped; its logs stay.
pub fn wipe_data(instance: &mut Instance) -> Result<(), Error> {
    if let Some(data) = instance.state.data.take() {
        remove(&data)?;
    }
    for name in ["data", "agent"] {
        remove(&instance.directory().join(name))?;
    }
    instance.state.processes.clear();
    instance.save()
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).on("remove", path),
        _ => Ok(()),
    }
}
