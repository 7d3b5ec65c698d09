//! What is remembered between two commands: `state.json` of an instance.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Context, Error},
    process::ProcessId,
};

/// Ports, data directory and running processes of an instance.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct State {
    /// Port by its use, such as `postgres` or `collector-1-admin`; kept from one
    /// start to the next.
    pub ports: BTreeMap<String, u16>,
    /// Where the servers' data is.
    pub data: Option<PathBuf>,
    /// In the order of their start.
    pub processes: Vec<Process>,
}

/// A process that we started.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Process {
    pub name: String,
    pub id: ProcessId,
    /// Port for its users, if it has one.
    pub port: Option<u16>,
    /// Port of `/readyz`, if it has one.
    pub admin_port: Option<u16>,
    /// Of its binary and settings, to see whether it would be started otherwise now.
    pub fingerprint: String,
}

impl State {
    /// Reads the state; an instance that never ran has an empty one.
    pub fn load(path: &Path) -> Result<Self, Error> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| Error::Damaged { path: path.display().to_string(), source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).on("read", path),
        }
    }

    /// Writes the state so that a reader sees the old or the new one, never a part.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        write_atomically(path, self)
    }

    pub fn process(&self, name: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.name == name)
    }
}

/// Writes a value as JSON by way of a file beside it.
pub fn write_atomically(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let new = path.with_extension("new");
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| Error::Damaged { path: path.display().to_string(), source })?;
    fs::write(&new, text).on("write", &new)?;
    fs::rename(&new, path).on("write", path)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process::id};

    use super::{Process, State};
    use crate::{error::Error, process::ProcessId};

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_told() {
        let path = env::temp_dir().join(format!("assettrack-state-{}.json", id()));
        assert!(State::load(&path).unwrap().processes.is_empty());

        let mut state = State::default();
        state.ports.insert("postgres".to_owned(), 20_001);
        let process = Process {
            name: "postgres".to_owned(),
            id: ProcessId::of(id()).unwrap(),
            port: Some(20_001),
            admin_port: None,
            fingerprint: String::new(),
        };
        state.processes.push(process.clone());
        state.save(&path).unwrap();
        let loaded = State::load(&path).unwrap();
        assert_eq!(loaded.process("postgres"), Some(&process));
        assert_eq!(loaded.ports, state.ports);

        fs::write(&path, "{").unwrap();
        assert!(matches!(State::load(&path), Err(Error::Damaged { .. })));
        fs::remove_file(&path).unwrap();
    }
}
