//! Random versions, ordered by dpkg and rpm themselves.

#![allow(clippy::print_stdout)]

use std::{cmp::Ordering, fmt::Write as _, io::Write as _, process::Command};

use rand::{Rng as _, RngExt as _, rngs::StdRng};
use testkit::Seed;

use super::super::Order;

/// A version of pieces that matter, often close to the one before.
fn version(rng: &mut StdRng, pieces: &[&str], like: &str) -> String {
    let keep = if rng.random_bool(0.7) { rng.random_range(0..=like.len()) } else { 0 };
    let mut text = if keep == 0 { rng.random_range(0..3).to_string() } else { like[..keep].to_owned() };
    for _ in 0..rng.random_range(0..5) {
        text.push_str(pieces[rng.random_range(0..pieces.len())]);
    }
    text
}

fn pairs(pieces: &[&str], count: usize) -> Vec<(String, String)> {
    let mut rng = Seed::draw().rng();
    // The generator's first value is no better than others.
    rng.next_u64();
    let mut pairs = Vec::with_capacity(count);
    while pairs.len() < count {
        let one = version(&mut rng, pieces, "1");
        let other = version(&mut rng, pieces, &one);
        pairs.push((one, other));
    }
    pairs
}

fn is_here(program: &str) -> bool {
    let here = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !here {
        println!("SKIPPED: no {program} here");
    }
    here
}

#[test]
fn debian_orders_as_dpkg_does() {
    if !is_here("dpkg") {
        return;
    }
    let pieces =
        ["0", "00", "1", "9", "10", ".", "-", "+", "~", "a", "Z", "b1", "~rc", "-0", "-1", ".0", "p2"];
    let says = |one: &str, relation: &str, other: &str| {
        let arguments = ["--compare-versions", one, relation, other];
        Command::new("dpkg").args(arguments).output().unwrap().status.success()
    };
    for (one, other) in pairs(&pieces, 400) {
        let (one, other) = (format!("{}{one}", ["", "0:", "1:"][one.len() % 3]), other);
        if Order::Debian.check(&one).and(Order::Debian.check(&other)).is_err() {
            continue;
        }
        let expected = match (says(&one, "lt", &other), says(&one, "eq", &other)) {
            (true, _) => Ordering::Less,
            (_, true) => Ordering::Equal,
            _ => Ordering::Greater,
        };
        assert_eq!(Order::Debian.compare(&one, &other), Ok(expected), "{one} {other}");
        assert_eq!(Order::Debian.compare(&other, &one), Ok(expected.reverse()), "{other} {one}");
    }
}

#[test]
fn rpm_orders_as_rpm_does() {
    if !is_here("rpm") {
        return;
    }
    let pieces =
        ["0", "00", "1", "9", "10", ".", "-", "+", "_", "~", "^", "a", "Z", "el9", "~rc", "^git", "-1", ".0"];
    let pairs = pairs(&pieces, 5000);
    let mut file = listed(&pairs);
    file.flush().unwrap();
    let path = file.path().display().to_string();
    let script = format!(
        "%{{lua:for line in io.lines('{path}') do local one, other = line:match('(%S+) (%S+)') \
         print(rpm.vercmp(one, other) .. '\\n') end}}"
    );
    let output = Command::new("rpm").args(["--eval", &script]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<i32> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(said.len(), pairs.len(), "{}", String::from_utf8_lossy(&output.stderr));
    for ((one, other), said) in pairs.iter().zip(said) {
        assert_eq!(Order::Rpm.compare(one, other), Ok(said.cmp(&0)), "{one} {other}");
    }
}

fn listed(pairs: &[(String, String)]) -> tempfile::NamedTempFile {
    let mut text = String::new();
    for (one, other) in pairs {
        writeln!(text, "{one} {other}").unwrap();
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}
