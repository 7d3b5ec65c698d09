//! Numbers of any size, as filters and custom values write them.

use std::{cmp::Ordering, fmt};

/// Most digits before the point, and after it.
const MAX_DIGITS: usize = 30;

/// A decimal number: `-12.50`. Kept as it is compared: without needless zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    whole: String,
    fraction: String,
}

impl Decimal {
    /// Reads digits, with a `-` before them or not, and with a point among them or
    /// not. Others are no numbers, such as `1e3`, `+1` and `.5`.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(a, b)| (a, Some(b)));
        let good = |digits: &str| {
            (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
        };
        if !good(whole) || fraction.is_some_and(|fraction| !good(fraction)) {
            return None;
        }
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.unwrap_or_default().trim_end_matches('0').to_owned();
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: negative && !zero, whole, fraction })
    }

    /// Whether it has no fraction.
    pub fn is_whole(&self) -> bool {
        self.fraction.is_empty()
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |one: &Self, other: &Self| {
            let length = one.whole.len().cmp(&other.whole.len());
            length.then_with(|| one.whole.cmp(&other.whole)).then_with(|| one.fraction.cmp(&other.fraction))
        };
        match (self.negative, other.negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => size(self, other),
            (true, true) => size(other, self),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.whole.is_empty() { "0" } else { &self.whole };
        let sign = if self.negative { "-" } else { "" };
        let point = if self.fraction.is_empty() { "" } else { "." };
        write!(formatter, "{sign}{whole}{point}{}", self.fraction)
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        let whole = number.unsigned_abs().to_string().trim_start_matches('0').to_owned();
        Self { negative: number < 0, whole, fraction: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_their_order() {
        let sorted = ["-10", "-9.5", "-0.51", "-0.5", "0", "0.05", "0.5", "1", "1.5", "9", "10", "010.5"];
        for (one, text) in sorted.iter().enumerate() {
            for (other, against) in sorted.iter().enumerate() {
                let compared = Decimal::parse(text).unwrap().cmp(&Decimal::parse(against).unwrap());
                assert_eq!(compared, one.cmp(&other), "{text} {against}");
            }
        }
        assert_eq!(Decimal::parse("-0.0"), Decimal::parse("000"));
        assert_eq!(Decimal::parse("-01.50").unwrap().to_string(), "-1.5");
        assert_eq!(Decimal::from(i64::MIN).to_string(), i64::MIN.to_string());
        assert_eq!(Decimal::from(0), Decimal::parse("0").unwrap());
        for wrong in ["", "-", ".5", "5.", "1e3", "+1", " 1", "1 ", "0x1", "١", &"1".repeat(31)] {
            assert_eq!(Decimal::parse(wrong), None, "{wrong}");
        }
    }
}
