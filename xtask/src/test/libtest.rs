//! Reads the output of Rust's test harness (`--show-output`).

use crate::test::Counts;

/// Follows the lines of one or more test programs, and answers which of them a
/// reader needs.
#[derive(Debug, Default)]
pub struct Libtest {
    pub counts: Counts,
    /// Tests of the present program that said they were skipped, which their
    /// harness counts as passed.
    skipped_as_passed: u64,
    part: Part,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Running,
    /// What passed tests printed; the name of the one, and whether it said that it
    /// was skipped.
    Successes {
        test: String,
        skipped: bool,
    },
    Failures,
}

impl Libtest {
    /// Takes the next line; answers what to show for it, if anything.
    pub fn line(&mut self, line: &str) -> Option<String> {
        // A test may run the test program again, and print what that prints.
        let of_a_test = matches!(&self.part, Part::Successes { test, .. } if !test.is_empty());
        if let Some(result) = line.strip_prefix("test result: ").filter(|_| !of_a_test) {
            self.part = Part::Running;
            let (passed, failed) = parse_result(result)?;
            self.counts.passed += passed.saturating_sub(std::mem::take(&mut self.skipped_as_passed));
            self.counts.failed += failed;
            return (passed + failed > 0).then(|| line.to_owned());
        }
        match line {
            "successes:" => {
                self.part = Part::Successes { test: String::new(), skipped: false };
                return None;
            }
            "failures:" => {
                self.part = Part::Failures;
                return Some(line.to_owned());
            }
            _ => {}
        }
        match &mut self.part {
            Part::Failures => Some(line.to_owned()),
            Part::Running => self.running(line),
            Part::Successes { test, skipped } => {
                if let Some(name) =
                    line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
                {
                    (*test, *skipped) = (name.to_owned(), false);
                } else if let Some(reason) = line.strip_prefix("SKIPPED") {
                    let shown = format!("SKIPPED {test}: {}", reason.trim_start_matches([':', ' ']));
                    // One test, however often it says so.
                    if !*skipped {
                        *skipped = true;
                        self.counts.skipped += 1;
                        self.skipped_as_passed += 1;
                    }
                    return Some(shown);
                }
                None
            }
        }
    }

    fn running(&mut self, line: &str) -> Option<String> {
        if let Some((name, state)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            if state == "ok" {
                return None;
            }
            if let Some(reason) = state.strip_prefix("ignored") {
                self.counts.skipped += 1;
                let reason = reason.trim_start_matches([',', ' ']);
                let reason = if reason.is_empty() { "marked as ignored" } else { reason };
                return Some(format!("SKIPPED {name}: {reason}"));
            }
        }
        let noise = line.is_empty() || (line.starts_with("running ") && line.ends_with([' ', 's', 't']));
        (!noise).then(|| line.to_owned())
    }
}

/// Passed and failed of `ok. 5 passed; 0 failed; 1 ignored; …`.
fn parse_result(text: &str) -> Option<(u64, u64)> {
    let (_, counts) = text.split_once(". ")?;
    let mut numbers = counts.split("; ").map(|count| count.split(' ').next()?.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::Libtest;
    use crate::test::Counts;

    /// As cargo 1.95 prints it.
    const OUTPUT: &str = "\
   Compiling agent v0.1.0
     Running unittests src/lib.rs (target/debug/deps/agent-1)

running 4 tests
test a::one ... ok
test a::two ... ignored, needs a disk of its own
test a::three ... ok
test a::four ... FAILED

successes:

---- a::three stdout ----
SKIPPED: no `ss` on this machine
SKIPPED: nor `ip`

running 1 test
test a::three ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s

SKIPPED: said after the program ran itself

successes:
    a::one
    a::three

failures:

---- a::four stdout ----
thread 'a::four' panicked at src/lib.rs:1:1: SKIPPED is not said here

failures:
    a::four

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running unittests src/main.rs (target/debug/deps/agent-2)

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/x.rs (target/debug/deps/x-3)

running 1 test
test five ... ok

successes:

successes:
    five

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn what_is_skipped_is_never_counted_as_passed() {
        let mut libtest = Libtest::default();
        let shown: Vec<String> = OUTPUT.lines().filter_map(|line| libtest.line(line)).collect();
        assert_eq!(libtest.counts, Counts { passed: 2, failed: 1, skipped: 2 });

        let shown = shown.join("\n");
        for line in [
            "SKIPPED a::two: needs a disk of its own",
            "SKIPPED a::three: no `ss` on this machine",
            "SKIPPED a::three: said after the program ran itself",
            "test a::four ... FAILED",
            "thread 'a::four' panicked at src/lib.rs:1:1: SKIPPED is not said here",
        ] {
            assert!(shown.contains(line), "{line} is not in:\n{shown}");
        }
        for line in ["a::one", "running", "0 passed; 0 failed"] {
            assert!(!shown.contains(line), "{line} is in:\n{shown}");
        }
    }
}
