//! What a filter costs for each asset that it is asked about, so that none can
//! be built to be slow.

use super::{Field, FilterError, Literal, Operator, Pattern, Predicate};

/// Most that a filter may cost. A comparison costs 1, of a field below `details`
/// or `managed` 2, within a list of messages 4; a search for text twice as much;
/// a word alone 4; and each `*` 1.
pub const MAX_COST: usize = 200;

pub(super) fn check(predicate: &Predicate) -> Result<(), FilterError> {
    let cost = cost(predicate);
    if cost <= MAX_COST {
        return Ok(());
    }
    let problem = format!(
        "the filter costs {cost}, and at most {MAX_COST} are allowed; use `=` in place of `:`, and fewer `*` \
         and fields of `details`"
    );
    Err(FilterError::new(0, problem))
}

fn cost(predicate: &Predicate) -> usize {
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().map(cost).sum(),
        Predicate::Not(inner) => cost(inner),
        Predicate::Text(word) => 4 + Pattern::new(word).wilds(),
        Predicate::Compare { field, operator, value } => compare(field, *operator, value),
    }
}

fn compare(field: &Field, operator: Operator, value: &Literal) -> usize {
    let base = match field {
        Field { in_list: Some(_), .. } => 4,
        Field { path, .. } if path.len() > 1 => 2,
        _ => 1,
    };
    let Literal::Text(text) = value else { return base };
    let wilds = Pattern::new(text).wilds();
    let search = operator == Operator::Has || wilds > 0;
    base * if search { 2 } else { 1 } + wilds
}
