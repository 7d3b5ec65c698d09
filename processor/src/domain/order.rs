//! `order_by` of AIP-132, and places in an order: the keys of a row.

use strsim::osa_distance;

/// Most fields of an order.
pub const MAX_FIELDS: usize = 3;

/// An order that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {})", .position + 1)]
pub struct OrderError {
    /// Characters before the fault.
    pub position: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// A field of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in the contract.
    pub field: &'static str,
    /// The largest first.
    pub descending: bool,
}

/// An order of assets: one that tells any two apart, by their IDs at last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order(Vec<Key>);

/// Fields that assets can be ordered by. `name` is their ID.
pub const FIELDS: [&str; 14] = [
    "name",
    "display_name",
    "kind",
    "node",
    "node_display_name",
    "natural_key",
    "state",
    "revision",
    "managed_revision",
    "first_seen_time",
    "last_seen_time",
    "create_time",
    "update_time",
    "delete_time",
];
/// Orders that an index has, read forwards or backwards.
const INDEXED: [&[&str]; 3] = [&["display_name", "name"], &["name"], &["kind", "display_name", "name"]];

impl Order {
    /// Reads an order; by display name if it is empty.
    ///
    /// # Errors
    /// It is malformed, has too many fields, one twice, or one that is unknown.
    pub fn read(text: &str) -> Result<Self, OrderError> {
        let mut keys: Vec<Key> = Vec::new();
        let mut at = 0;
        let text = if text.trim().is_empty() { "display_name" } else { text };
        for part in text.split(',') {
            let position =
                text[..at].chars().count() + (part.chars().count() - part.trim_start().chars().count());
            at += part.len() + 1;
            let error = |problem: String| OrderError { position, problem };
            let mut words = part.split_whitespace();
            let name = words.next().ok_or_else(|| error("a field is missing".to_owned()))?;
            let descending = match (words.next(), words.next()) {
                (None, _) | (Some("asc"), None) => false,
                (Some("desc"), None) => true,
                (Some(word), _) => {
                    return Err(error(format!("after `{name}` stands `desc` or nothing, not `{word}`")));
                }
            };
            let Some(field) = FIELDS.iter().find(|field| **field == name || camel(field) == name) else {
                return Err(error(unknown(name)));
            };
            if keys.iter().any(|key| key.field == *field) {
                return Err(error(format!("`{name}` is there twice")));
            }
            if keys.len() == MAX_FIELDS {
                return Err(error(format!("there are more than {MAX_FIELDS} fields")));
            }
            keys.push(Key { field, descending });
        }
        // What follows the ID orders nothing.
        if let Some(id) = keys.iter().position(|key| key.field == "name") {
            keys.truncate(id + 1);
        } else {
            let first = keys[0].descending;
            let descending = first && keys.iter().all(|key| key.descending);
            keys.push(Key { field: "name", descending });
        }
        Ok(Self(keys))
    }

    /// Its fields; the last is the ID.
    pub fn keys(&self) -> &[Key] {
        &self.0
    }

    /// Whether all fields go the same way, and which: descending?
    pub fn direction(&self) -> Option<bool> {
        let first = self.0[0].descending;
        self.0.iter().all(|key| key.descending == first).then_some(first)
    }

    /// Whether an index has it, so that any number of rows can be ordered.
    pub fn is_indexed(&self) -> bool {
        let fields: Vec<&str> = self.0.iter().map(|key| key.field).collect();
        self.direction().is_some() && INDEXED.contains(&fields.as_slice())
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, key) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(formatter, "{comma}{}{}", key.field, if key.descending { " desc" } else { "" })?;
        }
        Ok(())
    }
}

/// As ProtoJSON has it: `displayName`.
fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    for (index, part) in name.split('_').enumerate() {
        let mut characters = part.chars();
        match characters.next().filter(|_| index > 0) {
            Some(first) => camel.extend(first.to_uppercase().chain(characters)),
            None => camel.push_str(part),
        }
    }
    camel
}

fn unknown(name: &str) -> String {
    let near = FIELDS.iter().min_by_key(|field| osa_distance(name, field));
    let question = match near {
        Some(near) if osa_distance(name, near) <= (name.chars().count() / 3).max(1) => {
            format!("; did you mean `{near}`? There are {}", FIELDS.join(", "))
        }
        _ => format!("; there are {}", FIELDS.join(", ")),
    };
    format!("assets cannot be ordered by `{name}`{question}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_ends_with_the_id() {
        for (text, order, indexed) in [
            ("", "display_name,name", true),
            (" ", "display_name,name", true),
            ("display_name desc", "display_name desc,name desc", true),
            ("displayName  asc", "display_name,name", true),
            ("name desc", "name desc", true),
            ("name,kind", "name", true),
            ("kind, display_name", "kind,display_name,name", true),
            ("kind desc,display_name desc", "kind desc,display_name desc,name desc", true),
            ("kind desc,display_name", "kind desc,display_name,name", false),
            ("kind", "kind,name", false),
            ("update_time desc", "update_time desc,name desc", false),
        ] {
            let read = Order::read(text).unwrap();
            assert_eq!((read.to_string().as_str(), read.is_indexed()), (order, indexed), "{text}");
        }
    }

    #[test]
    fn wrong_orders_are_told_precisely() {
        for (text, position, problem) in [
            ("kind,", 5, "a field is missing"),
            ("kind, , node", 6, "a field is missing"),
            ("kind down", 0, "after `kind` stands `desc` or nothing, not `down`"),
            ("kind desc desc", 0, "not `desc`"),
            ("kind, update_tim desc", 6, "`update_tim`; did you mean `update_time`? There are name, "),
            ("managed.owner", 0, "cannot be ordered by `managed.owner`; there are name,"),
            ("kind,kind desc", 5, "`kind` is there twice"),
            ("kind,state,node,revision", 16, "more than 3 fields"),
        ] {
            let error = Order::read(text).unwrap_err();
            assert!(error.problem.contains(problem), "{text}: {error}");
            assert_eq!(error.position, position, "{text}: {error}");
        }
    }
}
