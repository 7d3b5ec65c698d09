//! How many passed, failed and were skipped.

use std::{fmt, ops::AddAssign};

/// Tests, or steps that are not made of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Counts {
    /// A step that is no collection of tests and went well.
    pub const ONE_PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };

    /// The counts of a test program in the light of how it ended: one that failed
    /// without a failed test (it did not compile, it crashed) counts as a failure,
    /// and so does one that ran nothing although it was to run everything.
    pub fn confirmed(mut self, success: bool, may_be_empty: bool) -> Self {
        let empty = self == Self::default();
        if self.failed == 0 && (!success || (empty && !may_be_empty)) {
            self.failed = 1;
        }
        self
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn a_test_program_that_failed_or_ran_nothing_has_not_passed() {
        let some = Counts { passed: 3, failed: 0, skipped: 1 };
        assert_eq!(some.confirmed(true, false), some);
        assert_eq!(some.confirmed(false, false).failed, 1);
        assert_eq!(Counts::default().confirmed(true, false).failed, 1);
        assert_eq!(Counts::default().confirmed(true, true).failed, 0);
        let failed = Counts { failed: 2, ..some };
        assert_eq!(failed.confirmed(false, false), failed);
    }
}
