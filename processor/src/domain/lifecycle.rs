//! What may follow what in the life of an asset. The contract says the same in
//! words (`Lifecycle` in asset.proto).

use contracts::v1::Lifecycle::{
    self, Disposed, InService, InStock, Maintenance, Ordered, Planned, Retired, Unspecified,
};

/// A step that the rules do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is {}, and {} may not follow; allowed are {}", name(*.from), name(*.to), names(allowed(*.from)))]
pub struct IllegalTransition {
    /// Where it stands.
    pub from: Lifecycle,
    /// Where it was to go.
    pub to: Lifecycle,
}

/// What may follow.
pub fn allowed(from: Lifecycle) -> &'static [Lifecycle] {
    match from {
        Unspecified => &[Planned, Ordered, InStock, InService, Maintenance, Retired, Disposed],
        Planned => &[Ordered, InStock, InService, Retired],
        Ordered => &[Planned, InStock, InService, Retired],
        InStock => &[InService, Maintenance, Retired],
        InService => &[InStock, Maintenance, Retired],
        Maintenance => &[InStock, InService, Retired],
        Retired => &[InStock, InService, Disposed],
        Disposed => &[Retired],
    }
}

/// Checks a step.
///
/// # Errors
/// It is not allowed.
pub fn check(from: Lifecycle, to: Lifecycle) -> Result<(), IllegalTransition> {
    if from == to || allowed(from).contains(&to) {
        return Ok(());
    }
    Err(IllegalTransition { from, to })
}

/// Short name: `IN_SERVICE`; `UNSPECIFIED` for none.
pub fn name(lifecycle: Lifecycle) -> &'static str {
    lifecycle.as_str_name().trim_start_matches("LIFECYCLE_")
}

/// Short names, separated by commas.
pub fn names(all: &[Lifecycle]) -> String {
    all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Lifecycle; 8] =
        [Unspecified, Planned, Ordered, InStock, InService, Maintenance, Retired, Disposed];

    #[test]
    fn each_step_is_allowed_or_not_as_the_contract_says() {
        // Rows: from; columns: to, both in the order of ALL.
        let table = [
            "11111111", // unspecified: any first state
            "01111010", // planned
            "01111010", // ordered
            "00011110", // in stock
            "00011110", // in service
            "00011110", // maintenance
            "00011011", // retired
            "00000011", // disposed
        ];
        for (from, row) in ALL.iter().zip(table) {
            for (to, mark) in ALL.iter().zip(row.chars()) {
                assert_eq!(check(*from, *to).is_ok(), mark == '1', "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn what_is_set_stays_correctable_and_is_never_unset() {
        for from in ALL.into_iter().skip(1) {
            assert!(!allowed(from).is_empty(), "{from:?} is no dead end");
            assert!(!allowed(from).contains(&from) && !allowed(from).contains(&Unspecified), "{from:?}");
        }
        let illegal = check(Disposed, InService).unwrap_err();
        assert_eq!(illegal.to_string(), "is DISPOSED, and IN_SERVICE may not follow; allowed are RETIRED");
        assert_eq!(
            check(Retired, Unspecified).unwrap_err().to_string(),
            "is RETIRED, and UNSPECIFIED may not follow; allowed are IN_STOCK, IN_SERVICE, DISPOSED"
        );
    }
}
