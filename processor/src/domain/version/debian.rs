//! The order of dpkg: deb-version(7). As dpkg 1.21 does it, in `verrevcmp` and
//! `parseversion` of its library.

use std::cmp::Ordering;

use super::{VersionError, compare_digits, leading_digits};

/// `epoch:upstream-revision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version<'a> {
    epoch: u32,
    upstream: &'a str,
    /// Empty if there is none, which is as `0`.
    revision: &'a str,
}

/// What dpkg takes, even if it would warn.
fn parse(text: &str) -> Result<Version<'_>, VersionError> {
    let text = text.trim_matches(|character: char| character.is_ascii_whitespace());
    if text.is_empty() {
        return Err(VersionError("is empty"));
    }
    if text.contains(|character: char| character.is_ascii_whitespace()) {
        return Err(VersionError("has a space in it"));
    }
    let (epoch, rest) = match text.split_once(':') {
        None => (0, text),
        Some((_, "")) => return Err(VersionError("has nothing after its colon")),
        Some((epoch, rest)) => (parse_epoch(epoch)?, rest),
    };
    let (upstream, revision) = match rest.rsplit_once('-') {
        None => (rest, ""),
        Some((_, "")) => return Err(VersionError("has nothing after its last hyphen")),
        Some((upstream, revision)) => (upstream, revision),
    };
    if upstream.is_empty() {
        return Err(VersionError("has no upstream version before its hyphen"));
    }
    Ok(Version { epoch, upstream, revision })
}

fn parse_epoch(text: &str) -> Result<u32, VersionError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VersionError("has an epoch, before its colon, that is no number"));
    }
    // dpkg keeps it in an int.
    let epoch = text.parse::<i32>().map_err(|_| VersionError("has an epoch that is too large"))?;
    Ok(epoch.unsigned_abs())
}

/// Whether it is a version without a fault, as deb-version(7) wants it.
///
/// # Errors
/// It is none.
pub fn check(text: &str) -> Result<(), VersionError> {
    let version = parse(text)?;
    if text.contains(|character: char| character.is_ascii_whitespace()) {
        return Err(VersionError("has a space in it"));
    }
    if !version.upstream.starts_with(|character: char| character.is_ascii_digit()) {
        return Err(VersionError("does not begin with a digit"));
    }
    let fits = |text: &str, marks: &[u8]| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
    };
    if !fits(version.upstream, b".-+~:") {
        return Err(VersionError("has a character other than letters, digits and `.-+~:`"));
    }
    if !fits(version.revision, b".+~") {
        return Err(VersionError("has a revision with a character other than letters, digits and `.+~`"));
    }
    Ok(())
}

/// Compares two versions.
///
/// # Errors
/// dpkg would not take one of them.
pub fn compare(one: &str, other: &str) -> Result<Ordering, VersionError> {
    let (one, other) = (parse(one)?, parse(other)?);
    Ok(one
        .epoch
        .cmp(&other.epoch)
        .then_with(|| compare_part(one.upstream.as_bytes(), other.upstream.as_bytes()))
        .then_with(|| compare_part(one.revision.as_bytes(), other.revision.as_bytes())))
}

/// By turns what are no digits, byte by byte, and numbers.
fn compare_part(mut one: &[u8], mut other: &[u8]) -> Ordering {
    while !one.is_empty() || !other.is_empty() {
        loop {
            let (first, second) = (weight(one.first()), weight(other.first()));
            if first != second {
                return first.cmp(&second);
            }
            if first == 0 {
                break;
            }
            (one, other) = (&one[1..], &other[1..]);
        }
        let (number, than) = (leading_digits(one), leading_digits(other));
        let order = compare_digits(number, than);
        if order.is_ne() {
            return order;
        }
        (one, other) = (&one[number.len()..], &other[than.len()..]);
    }
    Ordering::Equal
}

/// Letters before all other marks, `~` before even the end, at which digits
/// stand. A byte is a signed char there.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'0'..=b'9') => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(byte.cast_signed()) + 256,
    }
}
