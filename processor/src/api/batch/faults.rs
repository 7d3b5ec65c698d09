//! Why a batch is refused: the first assets at fault, and how many there are.

use kit::{
    identity::Collection,
    status::{error, invalid_fields, preconditions},
};
use tonic::{Code, Status};
use uuid::Uuid;

use super::target::Target;
use crate::domain::{lifecycle, managed::Refused};

/// Assets at fault that a refusal names.
const NAMED: usize = 10;

/// What is wrong with one asset.
#[derive(Debug)]
pub(super) enum Fault {
    /// Its record is deleted.
    Deleted,
    /// Someone edited it in between; its etag now.
    Stale(String),
    /// The rules of edits.
    Refused(Refused),
}

/// What is wrong with the assets of a batch.
#[derive(Debug, Default)]
pub(super) struct Faults {
    first: Vec<(Uuid, Fault)>,
    count: usize,
}

impl Faults {
    pub(super) fn add(&mut self, asset: Uuid, fault: Fault) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push((asset, fault));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The refusal. The first fault decides of what sort it is; those of the same
    /// sort are told with it.
    pub(super) fn status(&self, target: &Target) -> Option<Status> {
        let (asset, fault) = self.first.first()?;
        Some(match fault {
            Fault::Stale(current) => {
                let (name, field) = (name(*asset), target.field(*asset, "asset.etag"));
                let text = format!(
                    "{field}: someone edited {name} in between; read it again (its etag is now {current})"
                );
                let about = [("field", field.as_str()), ("resource", &name), ("current", current)];
                error(Code::Aborted, "ETAG_MISMATCH", text, &about)
            }
            Fault::Refused(Refused::Field(_)) => self.fields(target),
            Fault::Deleted => self.preconditions("DELETED", &[]),
            Fault::Refused(Refused::Transition(cause)) => {
                let allowed = lifecycle::names(lifecycle::allowed(cause.from));
                let about = [
                    ("field", "managed.lifecycle"),
                    ("from", lifecycle::name(cause.from)),
                    ("to", lifecycle::name(cause.to)),
                    ("allowed", &allowed),
                ];
                self.preconditions("ILLEGAL_TRANSITION", &about)
            }
        })
    }

    fn fields(&self, target: &Target) -> Status {
        let mut violations: Vec<(String, String)> = Vec::new();
        for (asset, fault) in &self.first {
            let Fault::Refused(Refused::Field(cause)) = fault else { continue };
            let field = target.field(*asset, &cause.field);
            // One patch breaks its rule alike for all.
            if !violations.iter().any(|(other, problem)| *other == field && *problem == cause.problem) {
                violations.push((field, cause.problem.clone()));
            }
        }
        invalid_fields("INVALID_FIELD", &violations, &[("count", &self.count.to_string())])
    }

    fn preconditions(&self, reason: &str, about: &[(&str, &str)]) -> Status {
        let violations: Vec<(String, String)> = self
            .first
            .iter()
            .filter_map(|(asset, fault)| match (fault, reason) {
                (Fault::Deleted, "DELETED") => {
                    Some((name(*asset), "the record is deleted; undelete it first".to_owned()))
                }
                (Fault::Refused(Refused::Transition(cause)), "ILLEGAL_TRANSITION") => {
                    Some((name(*asset), cause.to_string()))
                }
                _ => None,
            })
            .collect();
        let told: Vec<String> =
            violations.iter().map(|(asset, problem)| format!("{asset}: {problem}")).collect();
        let more = self.count - violations.len();
        let more = if more > 0 { format!("; and {more} more at fault") } else { String::new() };
        let text = format!("nothing was changed: {}{more}", told.join("; "));
        let names: Vec<&str> = violations.iter().map(|(asset, _)| asset.as_str()).collect();
        let (names, count) = (names.join(","), self.count.to_string());
        let mut metadata = vec![("resources", names.as_str()), ("count", &count)];
        metadata.extend(about);
        preconditions(reason, text, &violations, &metadata)
    }
}

/// NOT_FOUND that names the first of them.
pub(super) fn not_found(missing: &[Uuid]) -> Status {
    let names: Vec<String> = missing.iter().take(NAMED).map(|uid| name(*uid)).collect();
    let more = missing.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (names, count) = (names.join(","), missing.len().to_string());
    let text = format!("not there: {}{more}", names.replace(',', ", "));
    error(Code::NotFound, "RESOURCE_NOT_FOUND", text, &[("resources", &names), ("count", &count)])
}

fn name(asset: Uuid) -> String {
    Collection::Assets.name(asset)
}
