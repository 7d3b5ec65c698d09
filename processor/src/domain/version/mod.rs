//! How package managers order versions, and ranges of them. Pure.

pub mod apk;
pub mod debian;
pub mod rpm;

use std::cmp::Ordering;

/// How the versions of a package manager are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// That of dpkg.
    Debian,
    /// That of rpm.
    Rpm,
    /// That of apk.
    Apk,
}

/// All orders.
pub const ORDERS: [Order; 3] = [Order::Debian, Order::Rpm, Order::Apk];

/// Why a text is no version: what follows "`text` ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VersionError(pub &'static str);

impl Order {
    /// Name of the package manager whose order it is, as agents report it.
    pub fn manager(self) -> &'static str {
        match self {
            Self::Debian => "dpkg",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
        }
    }

    /// The order of a package manager; none for one that is not known.
    pub fn of_manager(manager: &str) -> Option<Self> {
        ORDERS.into_iter().find(|order| order.manager() == manager)
    }

    /// Whether a person may ask for this version: strict, as what is mistyped would
    /// be ordered somehow.
    ///
    /// # Errors
    /// It is no version of this order.
    pub fn check(self, version: &str) -> Result<(), VersionError> {
        match self {
            Self::Debian => debian::check(version),
            Self::Rpm => rpm::check(version),
            Self::Apk => apk::parse(version).map(drop),
        }
    }

    /// Compares as the package manager does what it has installed.
    ///
    /// # Errors
    /// One of them is a version that it could not order.
    pub fn compare(self, one: &str, other: &str) -> Result<Ordering, VersionError> {
        match self {
            Self::Debian => debian::compare(one, other),
            Self::Rpm => Ok(rpm::compare(one, other)),
            Self::Apk => apk::compare(one, other),
        }
    }

    /// Compares an installed version with one that was asked for. Of rpm one
    /// without a release stands for all of its releases.
    fn compare_asked(self, installed: &str, asked: &str) -> Result<Ordering, VersionError> {
        match self {
            Self::Rpm => Ok(rpm::compare_asked(installed, asked)),
            _ => self.compare(installed, asked),
        }
    }
}

/// Which versions are meant. All of the bounds hold; without any, all versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first one.
    pub from: Option<String>,
    /// The first one that is not meant any more.
    pub below: Option<String>,
    /// The last one.
    pub through: Option<String>,
    /// The only one.
    pub exact: Option<String>,
}

impl Range {
    /// Whether it holds an installed version.
    ///
    /// # Errors
    /// The version cannot be ordered.
    pub fn contains(&self, order: Order, version: &str) -> Result<bool, VersionError> {
        // Also without bounds a version that is none has to be told.
        order.compare(version, version)?;
        let holds = |bound: &Option<String>, holds: fn(Ordering) -> bool| match bound {
            Some(bound) => order.compare_asked(version, bound).map(holds),
            None => Ok(true),
        };
        Ok(holds(&self.from, Ordering::is_ge)?
            && holds(&self.below, Ordering::is_lt)?
            && holds(&self.through, Ordering::is_le)?
            && holds(&self.exact, Ordering::is_eq)?)
    }

    /// Whether no version can be in it.
    pub fn is_empty(&self, order: Order) -> bool {
        let Some(from) = &self.from else { return false };
        let ends_before = |end: &Option<String>, before: fn(Ordering) -> bool| {
            end.as_ref().is_some_and(|end| order.compare(from, end).is_ok_and(before))
        };
        ends_before(&self.below, Ordering::is_ge) || ends_before(&self.through, Ordering::is_gt)
    }
}

/// Leading zeros aside, digits of any length as the number they are.
fn compare_digits(one: &[u8], other: &[u8]) -> Ordering {
    let (one, other) = (significant(one), significant(other));
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

fn significant(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

/// The digits that a text begins with.
fn leading_digits(text: &[u8]) -> &[u8] {
    &text[..text.iter().take_while(|byte| byte.is_ascii_digit()).count()]
}

#[cfg(test)]
mod tests;
