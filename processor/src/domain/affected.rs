//! Which packages are affected: by name and version. Pure.

use std::borrow::Cow;

use super::version::{ORDERS, Order, Range, rpm};

/// Most bytes of a name that is asked for; less than indexes take.
pub const MAX_NAME_BYTES: usize = 128;
/// Most bytes of a version that is asked for.
pub const MAX_VERSION_BYTES: usize = 255;

/// What is asked for, as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Name of the package or of its source package.
    pub package: &'a str,
    /// The first version; empty for none, as the others.
    pub from: &'a str,
    /// The first one that is not affected.
    pub below: &'a str,
    /// The last one.
    pub through: &'a str,
    /// The only one.
    pub exact: &'a str,
    /// The order that counts, or that of each package.
    pub order: Option<Order>,
}

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Refused {
    /// Its name in the contract.
    pub field: &'static str,
    /// Why, in the manner of an ErrorInfo.
    pub reason: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criteria {
    /// Name of the package or of its source package.
    pub package: String,
    /// Its versions.
    pub range: Range,
    /// Orders that count.
    pub orders: Vec<Order>,
    /// Whether packages of managers that are not known are told of.
    unknown: bool,
}

/// A package, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    /// Its manager, as agents report it.
    pub manager: &'a str,
    /// Whether it has the name itself, not its source package alone.
    pub by_name: bool,
    /// Its version.
    pub version: &'a str,
    /// That of its source package; empty if it is the same.
    pub source_version: &'a str,
}

/// Why a package is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The version that was compared.
    pub compared: String,
    /// The order; none if the manager is not known.
    pub order: Option<Order>,
    /// Whether it could not be compared.
    pub incomparable: bool,
}

fn refused(field: &'static str, reason: &'static str, problem: impl Into<String>) -> Refused {
    Refused { field, reason, problem: problem.into() }
}

impl Criteria {
    /// Checks what is asked for.
    ///
    /// # Errors
    /// A field is wrong.
    pub fn new(asked: &Asked<'_>) -> Result<Self, Refused> {
        let package = asked.package;
        if package.is_empty() {
            let problem = "is required: the exact name of a package or source package";
            return Err(refused("package", "REQUIRED", problem));
        }
        let bounds = [
            ("from_version", asked.from),
            ("below_version", asked.below),
            ("through_version", asked.through),
            ("exact_version", asked.exact),
        ];
        for (field, text) in [("package", package)].into_iter().chain(bounds) {
            let most = if field == "package" { MAX_NAME_BYTES } else { MAX_VERSION_BYTES };
            if text.len() > most {
                let problem = format!("has {} bytes, at most {most} may be", text.len());
                return Err(refused(field, "INVALID_FIELD", problem));
            }
            if text.contains('\0') {
                return Err(refused(field, "INVALID_FIELD", "has a NUL character"));
            }
        }
        if !asked.exact.is_empty() && bounds.iter().filter(|(_, text)| !text.is_empty()).count() > 1 {
            return Err(refused("exact_version", "INVALID_FIELD", "goes with none of the other versions"));
        }
        if !asked.below.is_empty() && !asked.through.is_empty() {
            return Err(refused("through_version", "INVALID_FIELD", "does not go with `below_version`"));
        }
        let given: Vec<(&'static str, &str)> =
            bounds.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        let orders = orders(&given, asked.order)?;
        let bound = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let range = Range {
            from: bound(asked.from),
            below: bound(asked.below),
            through: bound(asked.through),
            exact: bound(asked.exact),
        };
        if orders.iter().all(|order| range.is_empty(*order)) {
            let end = if asked.below.is_empty() { asked.through } else { asked.below };
            let problem = format!("`{}` is not before `{end}`: no version is between them", asked.from);
            return Err(refused("from_version", "INVALID_FIELD", problem));
        }
        Ok(Self { package: package.to_owned(), range, orders, unknown: asked.order.is_none() })
    }

    /// Whether a package is told of, and why.
    pub fn judge(&self, package: Package<'_>) -> Option<Verdict> {
        let Some(order) = Order::of_manager(package.manager) else {
            let compared = if package.by_name { package.version } else { package.source_version };
            let verdict = Verdict { compared: compared.to_owned(), order: None, incomparable: true };
            return self.unknown.then_some(verdict);
        };
        if !self.orders.contains(&order) {
            return None;
        }
        let compared = compared(order, package).into_owned();
        match self.range.contains(order, &compared) {
            Ok(true) => Some(Verdict { compared, order: Some(order), incomparable: false }),
            Ok(false) => None,
            Err(_) => Some(Verdict { compared, order: Some(order), incomparable: true }),
        }
    }
}

/// Orders that all of these versions are valid in.
fn orders(given: &[(&'static str, &str)], order: Option<Order>) -> Result<Vec<Order>, Refused> {
    if let Some(order) = order {
        for &(field, version) in given {
            order.check(version).map_err(|error| {
                let problem = format!("`{version}` {error}, and so is no version of {}", order.manager());
                refused(field, "INVALID_VERSION", problem)
            })?;
        }
        return Ok(vec![order]);
    }
    let mut orders = ORDERS.to_vec();
    for &(field, version) in given {
        let faults: Vec<String> = ORDERS
            .into_iter()
            .filter_map(|order| Some(format!("by {} it {}", order.manager(), order.check(version).err()?)))
            .collect();
        if faults.len() == ORDERS.len() {
            let problem = format!("`{version}` is no version: {}", faults.join("; "));
            return Err(refused(field, "INVALID_VERSION", problem));
        }
        orders.retain(|order| order.check(version).is_ok());
        if orders.is_empty() {
            let problem = format!("`{version}` is of no package manager that the other version is of");
            return Err(refused(field, "INVALID_VERSION", problem));
        }
    }
    Ok(orders)
}

/// What advisories speak of: with the name of the source package go its
/// versions. Of rpm these are known without their epoch, which is as a rule that
/// of the package.
fn compared(order: Order, package: Package<'_>) -> Cow<'_, str> {
    let Package { by_name, version, source_version, .. } = package;
    if by_name || source_version.is_empty() {
        return version.into();
    }
    if order == Order::Rpm && rpm::epoch_prefix(source_version).is_empty() {
        return format!("{}{source_version}", rpm::epoch_prefix(version)).into();
    }
    source_version.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package<'a>(
        manager: &'a str,
        version: &'a str,
        source_version: &'a str,
        by_name: bool,
    ) -> Package<'a> {
        Package { manager, by_name, version, source_version }
    }

    #[test]
    fn each_package_is_judged_by_the_order_of_its_manager() {
        let asked = Asked { package: "openssl", below: "3.0.11", ..Asked::default() };
        let criteria = Criteria::new(&asked).unwrap();
        assert_eq!(criteria.orders, ORDERS);
        for (given, expected) in [
            (package("dpkg", "3.0.11~rc1", "", true), Some(("3.0.11~rc1", Some(Order::Debian), false))),
            (package("dpkg", "3.0.11-1", "", true), None),
            (package("dpkg", "1:1", "", true), None),
            (package("rpm", "3.0.7-1.el9", "", true), Some(("3.0.7-1.el9", Some(Order::Rpm), false))),
            (package("rpm", "1:3.0.7-1.el9", "", true), None),
            (package("apk", "3.0.11_rc1-r0", "", true), Some(("3.0.11_rc1-r0", Some(Order::Apk), false))),
            (package("apk", "3.0.11-r0", "", true), None),
            (package("apk", "what", "", true), Some(("what", Some(Order::Apk), true))),
            (package("pacman", "1", "", true), Some(("1", None, true))),
            // By the source package its version counts.
            (package("dpkg", "9", "3.0.9-1", false), Some(("3.0.9-1", Some(Order::Debian), false))),
            (package("dpkg", "9", "3.0.9-1", true), None),
            (package("dpkg", "3.0.9-1", "", false), Some(("3.0.9-1", Some(Order::Debian), false))),
            (package("rpm", "1:9-1", "3.0.9-1", false), None),
            (package("rpm", "9-1", "3.0.9-1", false), Some(("3.0.9-1", Some(Order::Rpm), false))),
        ] {
            let verdict = criteria.judge(given);
            let shown = verdict.as_ref().map(|one| (one.compared.as_str(), one.order, one.incomparable));
            assert_eq!(shown, expected, "{given:?}");
        }
        let with_epoch = Criteria::new(&Asked { below: "1:3.0.11", ..asked }).unwrap();
        assert_eq!(with_epoch.orders, [Order::Debian, Order::Rpm], "apk has no epochs");
        let verdict = with_epoch.judge(package("rpm", "1:9-1", "3.0.9-1", false)).unwrap();
        assert_eq!(verdict.compared, "1:3.0.9-1");
        assert_eq!(with_epoch.judge(package("apk", "1", "", true)), None);
        let of_debian = Criteria::new(&Asked { order: Some(Order::Debian), ..asked }).unwrap();
        assert_eq!(of_debian.judge(package("rpm", "1", "", true)), None);
        assert_eq!(of_debian.judge(package("pacman", "1", "", true)), None);
    }

    #[test]
    fn what_is_asked_for_wrong_is_named_by_field() {
        let asked = Asked { package: "openssl", ..Asked::default() };
        let debian = Some(Order::Debian);
        let long = "1".repeat(256);
        for (asked, field, reason, part) in [
            (Asked::default(), "package", "REQUIRED", "is required"),
            (Asked { package: &long, ..asked }, "package", "INVALID_FIELD", "256 bytes"),
            (Asked { package: "a\0", ..asked }, "package", "INVALID_FIELD", "NUL"),
            (Asked { below: &long, ..asked }, "below_version", "INVALID_FIELD", "256 bytes"),
            (Asked { exact: "1", from: "1", ..asked }, "exact_version", "INVALID_FIELD", "none of the other"),
            (
                Asked { below: "1", through: "1", ..asked },
                "through_version",
                "INVALID_FIELD",
                "below_version",
            ),
            (Asked { below: "1 2", ..asked }, "below_version", "INVALID_VERSION", "by apk it is not as"),
            (
                Asked { below: "x", order: debian, ..asked },
                "below_version",
                "INVALID_VERSION",
                "begin with a digit",
            ),
            (Asked { from: "1:1", below: "1_p1", ..asked }, "from_version", "INVALID_FIELD", "not before"),
            (
                Asked { from: "2", below: "2", ..asked },
                "from_version",
                "INVALID_FIELD",
                "`2` is not before `2`",
            ),
            (
                Asked { from: "3", through: "2", order: debian, ..asked },
                "from_version",
                "INVALID_FIELD",
                "`2`",
            ),
        ] {
            let refused = Criteria::new(&asked).unwrap_err();
            assert_eq!((refused.field, refused.reason), (field, reason), "{refused}");
            assert!(refused.problem.contains(part), "{refused}");
        }
        for good in [asked, Asked { from: "1", below: "2", ..asked }, Asked { exact: "1", ..asked }] {
            assert!(Criteria::new(&good).is_ok());
        }
    }
}
