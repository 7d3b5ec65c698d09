//! The order of rpm: rpm-version(7). As rpm 4.18 does it, in `rpmvercmp` and
//! `rpmverCmp`.

use std::cmp::Ordering;

use super::{VersionError, compare_digits, leading_digits};

/// `epoch:version-release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version<'a> {
    /// `0` if there is none.
    epoch: &'a str,
    version: &'a str,
    release: Option<&'a str>,
}

fn parse(text: &str) -> Version<'_> {
    let digits = leading_digits(text.as_bytes()).len();
    let (epoch, rest) = match text[digits..].strip_prefix(':') {
        Some(rest) if digits > 0 => (&text[..digits], rest),
        Some(rest) => ("0", rest),
        None => ("0", text),
    };
    let (version, release) = match rest.rsplit_once('-') {
        Some((version, release)) => (version, Some(release)),
        None => (rest, None),
    };
    Version { epoch, version, release }
}

/// Whether it is a version without a fault, as rpm wants it in a spec file.
///
/// # Errors
/// It is none.
pub fn check(text: &str) -> Result<(), VersionError> {
    let fits = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+~^".contains(&byte))
            && text.bytes().any(|byte| byte.is_ascii_alphanumeric())
    };
    if text.is_empty() {
        return Err(VersionError("is empty"));
    }
    if text.starts_with(':') {
        return Err(VersionError("has an epoch, before its colon, that is no number"));
    }
    let version = parse(text);
    if !fits(version.version) {
        return Err(VersionError(
            "has a version with other than letters, digits and `._+~^`, or without any",
        ));
    }
    if !version.release.is_none_or(fits) {
        return Err(VersionError(
            "has a release with other than letters, digits and `._+~^`, or without any",
        ));
    }
    Ok(())
}

/// Compares two versions; any text is one.
pub fn compare(one: &str, other: &str) -> Ordering {
    let (one, other) = (parse(one), parse(other));
    compare_before_release(one, other).then_with(|| match (one.release, other.release) {
        (Some(one), Some(other)) => compare_part(one.as_bytes(), other.as_bytes()),
        (one, other) => one.is_some().cmp(&other.is_some()),
    })
}

/// Compares an installed version with one that was asked for: as a dependency,
/// one without a release stands for all of them.
pub fn compare_asked(installed: &str, asked: &str) -> Ordering {
    if parse(asked).release.is_none() {
        return compare_before_release(parse(installed), parse(asked));
    }
    compare(installed, asked)
}

/// The epoch of a version with its colon; empty if it has none.
pub fn epoch_prefix(text: &str) -> &str {
    let digits = leading_digits(text.as_bytes()).len();
    if digits > 0 && text.as_bytes().get(digits) == Some(&b':') { &text[..=digits] } else { "" }
}

fn compare_before_release(one: Version<'_>, other: Version<'_>) -> Ordering {
    compare_part(one.epoch.as_bytes(), other.epoch.as_bytes())
        .then_with(|| compare_part(one.version.as_bytes(), other.version.as_bytes()))
}

/// By turns numbers and letters; all else only parts them, but for `~`, which is
/// before even the end, and `^`, which is after the end and before all else.
fn compare_part(mut one: &[u8], mut other: &[u8]) -> Ordering {
    if one == other {
        return Ordering::Equal;
    }
    while !one.is_empty() || !other.is_empty() {
        (one, other) = (skip_marks(one), skip_marks(other));
        let (first, second) = (one.first().copied(), other.first().copied());
        if first == Some(b'~') || second == Some(b'~') {
            if first != second {
                return if first == Some(b'~') { Ordering::Less } else { Ordering::Greater };
            }
            (one, other) = (&one[1..], &other[1..]);
            continue;
        }
        if first == Some(b'^') || second == Some(b'^') {
            match (first, second) {
                (None, _) => return Ordering::Less,
                (_, None) => return Ordering::Greater,
                (first, second) if first != second => {
                    return if first == Some(b'^') { Ordering::Less } else { Ordering::Greater };
                }
                _ => (one, other) = (&one[1..], &other[1..]),
            }
            continue;
        }
        if one.is_empty() || other.is_empty() {
            break;
        }
        let numeric = one[0].is_ascii_digit();
        let (segment, than) = if numeric {
            (leading_digits(one), leading_digits(other))
        } else {
            (letters(one), letters(other))
        };
        if than.is_empty() {
            // A number is newer than letters.
            return if numeric { Ordering::Greater } else { Ordering::Less };
        }
        let order = if numeric { compare_digits(segment, than) } else { segment.cmp(than) };
        if order.is_ne() {
            return order;
        }
        (one, other) = (&one[segment.len()..], &other[than.len()..]);
    }
    // Whichever has anything left is newer.
    one.is_empty().cmp(&other.is_empty()).reverse()
}

fn skip_marks(text: &[u8]) -> &[u8] {
    let marks = text.iter().take_while(|byte| !byte.is_ascii_alphanumeric() && !b"~^".contains(byte)).count();
    &text[marks..]
}

fn letters(text: &[u8]) -> &[u8] {
    &text[..text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()]
}
