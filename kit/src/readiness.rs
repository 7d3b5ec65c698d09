//! Whether a service can do its work: named conditions that each hold or do
//! not hold for a reason. `/readyz` and gRPC health answer from it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// The conditions of one service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
    ready: Arc<watch::Sender<bool>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { conditions: Arc::default(), ready: Arc::new(watch::Sender::new(true)) }
    }
}

/// One thing that must hold for the service to be ready.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Adds a condition, which does not hold yet.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.put(name, Some("not yet".to_owned()));
        Condition { name, readiness: self.clone() }
    }

    /// The conditions that do not hold, with their reasons.
    pub fn failing(&self) -> Vec<(&'static str, String)> {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.iter().filter_map(|(name, reason)| Some((*name, reason.clone()?))).collect()
    }

    /// Follows whether all conditions hold.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    fn put(&self, name: &'static str, reason: Option<String>) {
        let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.insert(name, reason);
        let ready = conditions.values().all(Option::is_none);
        self.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
    }
}

impl Condition {
    /// The condition holds.
    pub fn holds(&self) {
        self.readiness.put(self.name, None);
    }

    /// The condition does not hold, for this reason.
    pub fn fails(&self, reason: impl Into<String>) {
        self.readiness.put(self.name, Some(reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_condition_holds() {
        let readiness = Readiness::default();
        let (broker, store) = (readiness.condition("broker"), readiness.condition("store"));
        assert!(!*readiness.watch().borrow());
        broker.holds();
        store.holds();
        assert!(*readiness.watch().borrow());
        broker.fails("connection refused");
        assert_eq!(readiness.failing(), [("broker", "connection refused".to_owned())]);
        assert!(!*readiness.watch().borrow());
    }
}
