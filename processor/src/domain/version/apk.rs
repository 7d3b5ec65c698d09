//! The order of apk: `1.2.3b_rc1_p2~abc123-r3`, apk-package(5). As apk-tools 3 does
//! it; and with a number after the letter (`5.5p1`), which apk-tools 2 had and of
//! which packages are still around. What neither takes has no order: apk itself
//! would call two such versions equal where they first go wrong.

use std::cmp::Ordering;

use super::{VersionError, compare_digits};

/// What may follow `_`: those of releases to come, then those of later ones.
const SUFFIXES: [&str; 9] = ["alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p"];
const PRE_SUFFIXES: usize = 4;
const MALFORMED: VersionError = VersionError(
    "is not as 1.2.3b_rc1_p2~0123abc-r4: numbers with dots, a letter, suffixes, a commit, a revision",
);

/// Parts in the order in which they may stand. Of two versions that begin alike,
/// that with the earlier one next is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    First,
    Number,
    Letter,
    LetterNumber,
    Suffix,
    SuffixNumber,
    Commit,
    Revision,
    End,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a [u8],
    /// Place in [`SUFFIXES`].
    suffix: usize,
}

const END: Token<'_> = Token { kind: Kind::End, text: &[], suffix: 0 };

impl Token<'_> {
    fn is_before_release(&self) -> bool {
        self.kind == Kind::Suffix && self.suffix < PRE_SUFFIXES
    }
}

/// A version in parts, the end left out.
#[derive(Clone, Debug)]
pub struct Version<'a>(Vec<Token<'a>>);

/// Takes a version apart.
///
/// # Errors
/// It is none.
pub fn parse(version: &str) -> Result<Version<'_>, VersionError> {
    let mut rest = version.as_bytes();
    let mut tokens = vec![Token { kind: Kind::First, text: digits(&mut rest), suffix: 0 }];
    if tokens[0].text.is_empty() {
        return Err(VersionError("does not begin with a digit"));
    }
    let mut before = Kind::First;
    while let Some(&first) = rest.first() {
        let mut suffix = 0;
        let (kind, text) = match first {
            b'a'..=b'z' if before <= Kind::Number => (Kind::Letter, take(&mut rest, 1)),
            b'.' if before <= Kind::Number => {
                take(&mut rest, 1);
                (Kind::Number, digits(&mut rest))
            }
            b'0'..=b'9' if before == Kind::Letter => (Kind::LetterNumber, digits(&mut rest)),
            b'0'..=b'9' if before == Kind::Suffix => (Kind::SuffixNumber, digits(&mut rest)),
            b'_' if before <= Kind::SuffixNumber => {
                take(&mut rest, 1);
                let name = take_while(&mut rest, u8::is_ascii_lowercase);
                suffix = SUFFIXES.iter().position(|suffix| suffix.as_bytes() == name).ok_or(VersionError(
                    "has another suffix than _alpha, _beta, _pre, _rc, _cvs, _svn, _git, _hg and _p",
                ))?;
                (Kind::Suffix, name)
            }
            b'~' if before < Kind::Commit => {
                take(&mut rest, 1);
                (Kind::Commit, take_while(&mut rest, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
            }
            b'-' if before < Kind::Revision && rest.starts_with(b"-r") => {
                take(&mut rest, 2);
                (Kind::Revision, digits(&mut rest))
            }
            _ => return Err(MALFORMED),
        };
        if text.is_empty() {
            return Err(MALFORMED);
        }
        tokens.push(Token { kind, text, suffix });
        before = kind;
    }
    Ok(Version(tokens))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

fn take_while<'a>(rest: &mut &'a [u8], fits: impl Fn(&u8) -> bool) -> &'a [u8] {
    let length = rest.iter().take_while(|byte| fits(byte)).count();
    take(rest, length)
}

fn digits<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    take_while(rest, u8::is_ascii_digit)
}

/// Compares two versions.
///
/// # Errors
/// One of them is none.
pub fn compare(one: &str, other: &str) -> Result<Ordering, VersionError> {
    let (one, other) = (parse(one)?, parse(other)?);
    for place in 0.. {
        let next = one.0.get(place).copied().unwrap_or(END);
        let than = other.0.get(place).copied().unwrap_or(END);
        if next.kind != than.kind {
            return Ok(match (next.is_before_release(), than.is_before_release()) {
                (true, _) => Ordering::Less,
                (_, true) => Ordering::Greater,
                _ => next.kind.cmp(&than.kind).reverse(),
            });
        }
        let order = match next.kind {
            Kind::End => break,
            // With a leading zero they are decimal places, not numbers.
            Kind::Number if next.text[0] == b'0' || than.text[0] == b'0' => next.text.cmp(than.text),
            Kind::Letter | Kind::Commit => next.text.cmp(than.text),
            Kind::Suffix => next.suffix.cmp(&than.suffix),
            _ => compare_digits(next.text, than.text),
        };
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(Ordering::Equal)
}
