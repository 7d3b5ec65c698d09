//! A filter in two: what can be told by some fields alone, and the rest.

use super::Predicate;

/// Divides a predicate into two that hold together where it holds: one that asks
/// nothing but the fields of `names`, and words alone, and the rest.
#[must_use]
pub fn divide(predicate: Predicate, names: &[&str]) -> (Option<Predicate>, Option<Predicate>) {
    let parts = match predicate {
        Predicate::And(parts) => parts,
        other => vec![other],
    };
    let (own, rest): (Vec<Predicate>, Vec<Predicate>) =
        parts.into_iter().partition(|part| asks_only(part, names));
    (joined(own), joined(rest))
}

fn joined(mut parts: Vec<Predicate>) -> Option<Predicate> {
    if parts.len() > 1 { Some(Predicate::And(parts)) } else { parts.pop() }
}

fn asks_only(predicate: &Predicate, names: &[&str]) -> bool {
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().all(|part| asks_only(part, names)),
        Predicate::Not(inner) => asks_only(inner, names),
        Predicate::Text(_) => true,
        Predicate::Compare { field, .. } => names.contains(&field.path.join(".").as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::filter::{Field, FieldType, Literal, Operator};

    fn compare(path: &str) -> Predicate {
        let path = path.split('.').map(str::to_owned).collect();
        let field = Field { path, field_type: FieldType::Text, in_list: None, optional: false };
        Predicate::Compare { field, operator: Operator::Equal, value: Literal::Text("x".to_owned()) }
    }

    #[test]
    fn a_part_goes_where_all_its_fields_are() {
        let or = |one, other| Predicate::Or(vec![compare(one), compare(other)]);
        let not = |path| Predicate::Not(Box::new(compare(path)));
        let names = &["kind", "node"];
        for (predicate, own, rest) in [
            (compare("kind"), Some(compare("kind")), None),
            (compare("managed.kind"), None, Some(compare("managed.kind"))),
            (Predicate::And(vec![compare("kind"), not("state")]), Some(compare("kind")), Some(not("state"))),
            (or("kind", "node"), Some(or("kind", "node")), None),
            (or("kind", "state"), None, Some(or("kind", "state"))),
            (
                Predicate::And(vec![not("kind"), compare("state"), Predicate::Text("y".to_owned())]),
                Some(Predicate::And(vec![not("kind"), Predicate::Text("y".to_owned())])),
                Some(compare("state")),
            ),
        ] {
            assert_eq!(divide(predicate, names), (own, rest));
        }
    }
}
