//! What the broker has otherwise than it should be: told by statistics,
//! readiness, a metric, and by the log when it changes. None of it stops what
//! goes on all the same.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use contracts::v1::TopologyProblem;
use kit::readiness::Condition;

use crate::observed::Observed;

/// An exchange, a queue or a binding that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    subject: String,
    problem: String,
}

impl Problem {
    /// What the broker refuses, in its words, or shorter where they are known.
    pub fn refused(subject: impl Into<String>, text: &str) -> Self {
        let differs = Difference::parse(text).map(|differs| differs.to_string());
        Self::new(subject, differs.unwrap_or_else(|| text.to_owned()))
    }

    /// A problem of a subject.
    pub fn new(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { subject: subject.into(), problem: problem.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.problem)
    }
}

/// Who looked. Each replaces what it said before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The declarations, each 30 s.
    Declared,
    /// The depths, each 5 s.
    LeftOver,
    /// The consumer of this queue.
    Consumer(String),
}

/// Everything that is known.
pub struct Problems {
    condition: Condition,
    observed: Observed,
    known: Mutex<BTreeMap<Source, Vec<Problem>>>,
}

impl Problems {
    /// Nothing is known yet.
    pub fn new(condition: Condition, observed: Observed) -> Self {
        Self { condition, observed, known: Mutex::default() }
    }

    /// A connection begins: its consumers have not met anything yet.
    pub fn begin(&self, declared: Vec<Problem>) {
        self.change(|known| {
            known.clear();
            known.insert(Source::Declared, declared);
        });
    }

    /// This is what a source finds now.
    pub fn set(&self, source: Source, found: Vec<Problem>) {
        self.change(|known| {
            known.insert(source, found);
        });
    }

    /// All of them, as the contract tells it.
    pub fn told(&self) -> Vec<TopologyProblem> {
        let known = self.known();
        let told =
            |one: &Problem| TopologyProblem { subject: one.subject.clone(), problem: one.problem.clone() };
        known.values().flatten().map(told).collect()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Source, Vec<Problem>>)) {
        let mut known = self.known();
        let all = |known: &BTreeMap<Source, Vec<Problem>>| -> Vec<Problem> {
            known.values().flatten().cloned().collect()
        };
        let before = all(&known);
        change(&mut known);
        let now = all(&known);
        // Under the lock, or an older state could be published last.
        self.observed.topology_problems(now.len());
        let text = now.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if now.is_empty() {
            self.condition.holds();
        } else {
            self.condition.fails(text.clone());
        }
        if now != before && now.is_empty() {
            tracing::info!("the broker's topology is as it should be");
        } else if now != before {
            tracing::error!(problems = text, "the broker's topology is not as it should be");
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Source, Vec<Problem>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An argument that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub argument: String,
    wanted: String,
    /// What the broker has: a value, or `none`.
    pub found: String,
}

impl Difference {
    /// Reads the text of PRECONDITION_FAILED (RabbitMQ's
    /// rabbit_misc:assert_args_equivalence1), which names the first one.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let (_, rest) = rest.split_once("received ")?;
        let (wanted, found) = rest.split_once(" but current is ")?;
        let [argument, wanted, found] = [argument, value(wanted), value(found)].map(str::to_owned);
        Some(Self { argument, wanted, found })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: wanted {}, found {}", self.argument, self.wanted, self.found)
    }
}

/// `none`, `'5'`, `the value '5' of type 'long'` → the value.
fn value(text: &str) -> &str {
    let text = text.trim();
    let quoted = text.strip_prefix("the value '").or_else(|| text.strip_prefix('\''));
    quoted.and_then(|rest| rest.split('\'').next()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use kit::{metrics::Metrics, readiness::Readiness};

    use super::*;

    #[test]
    fn what_differs_is_named() {
        let text = |argument: &str, wanted: &str, found: &str| {
            format!(
                "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': \
                 received {wanted} but current is {found}"
            )
        };
        for (argument, wanted, found, expected) in [
            ("type", "'topic'", "'fanout'", "type: wanted topic, found fanout"),
            ("durable", "'true'", "'false'", "durable: wanted true, found false"),
            (
                "x-queue-type",
                "the value 'quorum' of type 'longstr'",
                "none",
                "x-queue-type: wanted quorum, found none",
            ),
            (
                "x-max-length-bytes",
                "the value '1073741824' of type 'signedint'",
                "the value '5' of type 'long'",
                "x-max-length-bytes: wanted 1073741824, found 5",
            ),
            ("x-delivery-limit", "none", "'20'", "x-delivery-limit: wanted none, found 20"),
        ] {
            let differs = Difference::parse(&text(argument, wanted, found)).unwrap();
            assert_eq!(differs.to_string(), expected);
        }
        let other = "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'";
        assert_eq!(Difference::parse(other), None);
        assert_eq!(Problem::refused("q", other).to_string(), format!("q: {other}"));
    }

    #[test]
    fn each_source_replaces_its_own_and_a_new_connection_all() {
        let readiness = Readiness::default();
        let problems = Problems::new(readiness.condition("topology"), Observed::new(&Metrics::default()));
        assert_eq!(readiness.failing().len(), 1, "not looked yet");
        problems.begin(Vec::new());
        assert!(readiness.failing().is_empty());
        let consumer = || Source::Consumer("q".to_owned());
        problems.set(consumer(), vec![Problem::new("q", "taken")]);
        problems.set(Source::Declared, vec![Problem::new("x", "odd")]);
        assert_eq!(readiness.failing(), [("topology", "x: odd; q: taken".to_owned())]);
        assert_eq!(problems.told().len(), 2);
        problems.set(consumer(), Vec::new());
        assert_eq!(readiness.failing(), [("topology", "x: odd".to_owned())]);
        problems.set(consumer(), vec![Problem::new("q", "taken")]);
        problems.begin(Vec::new());
        assert!(readiness.failing().is_empty() && problems.told().is_empty());
    }
}
