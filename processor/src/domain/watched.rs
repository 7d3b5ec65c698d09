//! What a change means to those who watch under a filter.

use contracts::v1::EventType;

use super::filter::{Predicate, Subject};

/// Fields that move with every event, though it does not list them.
const MOVING: [&str; 3] = ["revision", "managed_revision", "update_time"];
/// Fields that move without an event.
const WITHOUT_EVENTS: [&str; 2] = ["last_seen_time", "node_display_name"];

/// A filter that cannot be watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwatchable {
    /// It names a field that changes without an event.
    #[error("`{0}` changes without an event, so it cannot be watched")]
    Field(String),
    /// Its functions of time mean another time each time it is read.
    #[error("functions of time move without an event, so they cannot be watched; write a time")]
    Time,
    /// A word is looked for in such a field.
    #[error(
        "a word alone, such as `{0}`, is looked for in node_display_name too, which changes without an event; \
         write `display_name:{0} OR natural_key:{0}`"
    )]
    Word(String),
}

/// What assets a watch holds.
#[derive(Clone, Debug)]
pub struct View {
    predicate: Option<Predicate>,
    show_deleted: bool,
    /// Fields that the filter asks about.
    paths: Vec<String>,
}

/// What there is to be known of the asset before a change, to tell whether it was
/// held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It was not there.
    Nothing,
    /// The filter said the same of it, and it was not deleted.
    Same,
    /// It was ACTIVE, and else the same.
    Active,
    /// The revision before must be looked up.
    Unknown,
}

impl View {
    /// Of a filter; `later` is the same one, read at another time.
    ///
    /// # Errors
    /// The filter asks about what changes without an event.
    pub fn new(
        predicate: Option<Predicate>,
        later: Option<&Predicate>,
        show_deleted: bool,
    ) -> Result<Self, Unwatchable> {
        if predicate.as_ref() != later {
            return Err(Unwatchable::Time);
        }
        let mut paths = Vec::new();
        if let Some(predicate) = &predicate {
            collect(predicate, &mut paths)?;
        }
        Ok(Self { predicate, show_deleted, paths })
    }

    /// Whether it asks about details or managed fields.
    pub fn needs_attributes(&self) -> bool {
        self.paths.iter().any(|path| meet("details", path) || meet("managed", path))
    }

    /// Whether it holds an asset.
    pub fn holds(&self, subject: &Subject, deleted: bool) -> bool {
        (self.show_deleted || !deleted)
            && self.predicate.as_ref().is_none_or(|predicate| predicate.matches(subject))
    }

    /// What must be known of the asset before a change.
    pub fn before(&self, event_type: EventType, revision: i64, changed: &[String]) -> Before {
        if revision <= 1 {
            return Before::Nothing;
        }
        if self.paths.iter().any(|path| MOVING.contains(&path.as_str()) || path == "delete_time") {
            return Before::Unknown;
        }
        let touched = changed.iter().filter(|changed| self.paths.iter().any(|path| meet(path, changed)));
        match event_type {
            // It may have been deleted, or first seen as gone.
            EventType::Appeared => Before::Unknown,
            EventType::Deleted => Before::Same,
            _ if changed.iter().any(|changed| changed == "delete_time") => Before::Unknown,
            EventType::Removed if touched.clone().all(|changed| changed == "state") => {
                if touched.count() > 0 { Before::Active } else { Before::Same }
            }
            _ if touched.count() > 0 => Before::Unknown,
            _ => Before::Same,
        }
    }
}

/// Whether one path is the other, or leads to it.
fn meet(one: &str, other: &str) -> bool {
    let leads = |from: &str, to: &str| {
        to.strip_prefix(from).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    leads(one, other) || leads(other, one)
}

fn collect(predicate: &Predicate, paths: &mut Vec<String>) -> Result<(), Unwatchable> {
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => {
            parts.iter().try_for_each(|part| collect(part, paths))
        }
        Predicate::Not(inner) => collect(inner, paths),
        Predicate::Text(word) => Err(Unwatchable::Word(word.clone())),
        Predicate::Compare { field, .. } => {
            let path = field.path.join(".");
            if WITHOUT_EVENTS.contains(&path.as_str()) {
                return Err(Unwatchable::Field(path));
            }
            paths.push(path);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use kit::identity::Collection;

    use super::*;
    use crate::domain::{
        changes::Descriptors,
        filter::{Schema, read},
    };

    fn view(filter: &str) -> Result<View, Unwatchable> {
        let schema = Schema {
            message: Descriptors::default().message("Asset").unwrap(),
            names: &[("name", Collection::Assets), ("node", Collection::Nodes)],
            unsearchable: &["etag"],
        };
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let later = read(filter, &schema, at(2)).unwrap();
        View::new(read(filter, &schema, at(1)).unwrap(), later.as_ref(), false)
    }

    #[test]
    fn what_changes_without_an_event_is_refused_by_name() {
        let time = "\"2026-03-03T00:00:00Z\"";
        for (filter, error) in [
            (format!("kind=DISK last_seen_time>{time}"), Unwatchable::Field("last_seen_time".to_owned())),
            ("NOT (node_display_name=a)".to_owned(), Unwatchable::Field("node_display_name".to_owned())),
            ("update_time>ago(\"1h\")".to_owned(), Unwatchable::Time),
            ("kind=DISK OR bash".to_owned(), Unwatchable::Word("bash".to_owned())),
        ] {
            assert_eq!(view(&filter).unwrap_err(), error, "{filter}");
        }
        assert!(view("node=nodes/00000000-0000-0000-0000-000000000001 state=ACTIVE").is_ok());
        assert!(!view("kind=DISK").unwrap().needs_attributes());
        assert!(!view("managed_revision=1").unwrap().needs_attributes());
        assert!(view("managed.owner=x").unwrap().needs_attributes());
    }

    #[test]
    fn the_revision_before_is_looked_up_only_where_it_may_decide() {
        use EventType::{Appeared, Changed, Deleted, Edited, Removed};
        for (filter, event_type, revision, changed, before) in [
            ("", Appeared, 1, "", Before::Nothing),
            ("", Changed, 2, "details.package.version", Before::Same),
            ("kind=PACKAGE", Changed, 2, "details.package.version", Before::Same),
            ("details.package.version=1", Changed, 2, "details.package.version", Before::Unknown),
            ("details.package:*", Changed, 2, "details.package.version", Before::Unknown),
            ("details.package.version=1", Changed, 2, "details", Before::Unknown),
            ("details.package.version=1", Changed, 2, "details.package.version_x", Before::Same),
            ("details.package.version=1", Edited, 2, "managed.owner", Before::Same),
            ("managed.labels.env=x", Edited, 2, "managed.labels", Before::Unknown),
            ("revision>3", Edited, 2, "managed.labels", Before::Unknown),
            ("state=ACTIVE", Removed, 2, "state", Before::Active),
            ("kind=PACKAGE", Removed, 2, "state", Before::Same),
            ("kind=PACKAGE", Appeared, 2, "state", Before::Unknown),
            ("kind=PACKAGE", Deleted, 2, "delete_time", Before::Same),
            ("kind=PACKAGE", Edited, 3, "delete_time", Before::Unknown),
            ("NOT delete_time:*", Deleted, 2, "delete_time", Before::Unknown),
        ] {
            let changed: Vec<String> = changed.split_terminator(' ').map(str::to_owned).collect();
            let found = view(filter).unwrap().before(event_type, revision, &changed);
            assert_eq!(found, before, "{filter} {event_type:?} {changed:?}");
        }
    }
}
