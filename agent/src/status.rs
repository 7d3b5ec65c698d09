//! What the agent is doing, gathered from its parts for those who ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use contracts::v1::{AgentStatus, ProbeStatus};
use prost_types::Timestamp;

use crate::store::Store;

/// Version of the agent.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The shared status. Cheap to clone.
#[derive(Clone)]
pub struct Status {
    start_time: Timestamp,
    parts: Arc<Mutex<Parts>>,
}

#[derive(Default)]
struct Parts {
    /// Why there is no connection; `None` while there is one.
    connection_error: Option<String>,
    last_confirm_time: Option<Timestamp>,
    identity_conflict: bool,
    /// Why commands cannot be received; `None` while they can.
    command_error: Option<String>,
    last_command_time: Option<Timestamp>,
    probes: BTreeMap<usize, ProbeStatus>,
}

impl Status {
    /// A status of probes that have not run and a broker not yet connected to.
    pub fn new(probes: impl IntoIterator<Item = &'static str>) -> Self {
        let waiting = |(place, name): (usize, &str)| {
            (place, ProbeStatus { probe: name.to_owned(), ..ProbeStatus::default() })
        };
        let parts = Parts {
            connection_error: Some("not connected yet".to_owned()),
            command_error: Some("not connected yet".to_owned()),
            probes: probes.into_iter().enumerate().map(waiting).collect(),
            ..Parts::default()
        };
        Self { start_time: kit::time::now(), parts: Arc::new(Mutex::new(parts)) }
    }

    /// The broker is connected.
    pub fn connected(&self) {
        self.parts().connection_error = None;
    }

    /// The broker is not connected, for this reason.
    pub fn disconnected(&self, reason: String) {
        let mut parts = self.parts();
        parts.command_error = Some("not connected to the broker".to_owned());
        parts.connection_error = Some(reason);
    }

    /// Commands can be received.
    pub fn commands_work(&self) {
        self.parts().command_error = None;
    }

    /// Commands cannot be received, for this reason.
    pub fn commands_fail(&self, reason: String) {
        self.parts().command_error = Some(reason);
    }

    /// A command was obeyed.
    pub fn obeyed(&self) {
        self.parts().last_command_time = Some(kit::time::now());
    }

    /// Another agent lives under the same identity, or none does any more.
    /// Answers whether that is news.
    pub fn set_identity_conflict(&self, conflict: bool) -> bool {
        std::mem::replace(&mut self.parts().identity_conflict, conflict) != conflict
    }

    /// Whether another agent lives under the same identity.
    pub fn has_identity_conflict(&self) -> bool {
        self.parts().identity_conflict
    }

    /// The broker has confirmed a batch.
    pub fn confirmed(&self) {
        self.parts().last_confirm_time = Some(kit::time::now());
    }

    /// Why the last run of a probe began.
    pub fn woken(&self, place: usize, cause: String) {
        if let Some(probe) = self.parts().probes.get_mut(&place) {
            probe.woken_by = cause;
        }
    }

    /// A probe ran to its end; `place` is its place in the list of probes.
    pub fn scanned(&self, place: usize, duration: Duration, assets: usize, warnings: Vec<String>) {
        if let Some(probe) = self.parts().probes.get_mut(&place) {
            probe.last_run_time = Some(Timestamp::from(SystemTime::now()));
            probe.duration = prost_types::Duration::try_from(duration).ok();
            probe.assets = u32::try_from(assets).unwrap_or(u32::MAX);
            probe.error.clear();
            probe.warnings = warnings;
        }
    }

    /// A probe failed, or what it found could not be recorded.
    pub fn failed(&self, place: usize, error: String) {
        if let Some(probe) = self.parts().probes.get_mut(&place) {
            probe.error = error;
        }
    }

    /// What one probe last did.
    pub fn probe(&self, place: usize) -> ProbeStatus {
        self.parts().probes.get(&place).cloned().unwrap_or_default()
    }

    /// All of it, with the store's figures.
    pub fn report(&self, store: &Store) -> AgentStatus {
        let figures = store.figures();
        let parts = self.parts();
        AgentStatus {
            node: Some(store.node().clone()),
            version: VERSION.to_owned(),
            start_time: Some(self.start_time),
            stream: figures.stream.to_string(),
            last_sequence: figures.newest.1,
            outbox_batches: figures.outbox_batches,
            outbox_bytes: figures.outbox_bytes,
            outbox_limit_bytes: store.outbox_limit_bytes(),
            connected: parts.connection_error.is_none(),
            connection_error: parts.connection_error.clone().unwrap_or_default(),
            last_confirm_time: parts.last_confirm_time,
            probes: parts.probes.values().cloned().collect(),
            store_in_memory: figures.in_memory.is_some(),
            store_error: figures.in_memory.unwrap_or_default(),
            stores_set_aside: figures.set_aside.iter().map(|reason| reason.name().to_owned()).collect(),
            outbox_oldest_time: figures.oldest_millis.map(kit::time::of_unix_millis),
            identity_conflict: parts.identity_conflict,
            command_error: parts.command_error.clone().unwrap_or_default(),
            last_command_time: parts.last_command_time,
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
