//! Reads the sums that JavaScript's test runners print.

use crate::test::Counts;

/// Vitest's line: `Tests  1 failed | 11 passed | 2 skipped (14)`.
pub fn vitest(line: &str) -> Option<Counts> {
    let sums = line.trim().strip_prefix("Tests ")?;
    let (sums, _) = sums.rsplit_once(" (")?;
    let mut counts = Counts::default();
    for sum in sums.split('|') {
        let (number, state) = sum.trim().split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match state {
            "passed" => counts.passed += number,
            "failed" => counts.failed += number,
            // "skipped" and "todo" alike did not run.
            _ => counts.skipped += number,
        }
    }
    Some(counts)
}

/// Node's runner, one of its lines `# pass 3` (TAP) or `ℹ pass 3` (for people).
pub fn node(line: &str) -> Option<Counts> {
    let (state, number) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ "))?.split_once(' ')?;
    let number: u64 = number.parse().ok()?;
    let nothing = Counts::default();
    match state {
        "pass" => Some(Counts { passed: number, ..nothing }),
        "fail" | "cancelled" => Some(Counts { failed: number, ..nothing }),
        "skipped" | "todo" => Some(Counts { skipped: number, ..nothing }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{node, vitest};
    use crate::test::Counts;

    #[test]
    fn sums_are_read_and_other_lines_are_not() {
        let counts = |passed, failed, skipped| Some(Counts { passed, failed, skipped });
        assert_eq!(vitest("      Tests  12 passed (12)"), counts(12, 0, 0));
        assert_eq!(vitest("      Tests  1 failed | 11 passed | 2 skipped | 1 todo (15)"), counts(11, 1, 3));
        assert_eq!(vitest(" Test Files  3 passed (3)"), None);
        assert_eq!(node("# pass 3"), counts(3, 0, 0));
        assert_eq!(node("ℹ fail 1"), counts(0, 1, 0));
        assert_eq!(node("# cancelled 2"), counts(0, 2, 0));
        assert_eq!(node("# skipped 4"), counts(0, 0, 4));
        for other in ["# tests 3", "# duration_ms 12.5", "ok 1 - pass 3", "# Subtest: pass 3"] {
            assert_eq!(node(other), None, "{other}");
        }
    }
}
