//! The orders against cases as the package managers' own suites have them, and
//! against the package managers themselves.

mod tools;

use std::cmp::Ordering::{self, Equal, Greater, Less};

use super::*;

fn holds(order: Order, cases: &[(&str, Ordering, &str)]) {
    for &(one, expected, other) in cases {
        assert_eq!(order.compare(one, other), Ok(expected), "{one} {other}");
        assert_eq!(order.compare(other, one), Ok(expected.reverse()), "{other} {one}");
        assert_eq!(order.compare(one, one), Ok(Equal), "{one}");
    }
}

#[test]
fn debian_orders_as_its_manual_and_suite_say() {
    holds(
        Order::Debian,
        &[
            // What is missing is zero.
            ("0", Equal, "0"),
            ("0:1.18.36", Equal, "1.18.36"),
            ("1.2.3", Equal, "1.2.3-0"),
            ("0:0-0-0", Greater, "0-0"),
            ("1.2.3", Less, "1.2.3-1"),
            // The epoch is before all.
            ("1:0.4", Greater, "10.3"),
            ("1:1", Less, "2:0"),
            ("9:1.18.36:5.4-20", Less, "10:0.5.1-22"),
            ("9:1.18.36:5.4-20", Less, "9:1.18.36:5.5-1"),
            ("9:1.18.36:5.4-20", Less, "9:1.18.37:4.3-22"),
            // Numbers are numbers.
            ("1.18.36", Greater, "1.18.35"),
            ("1.9", Less, "1.10"),
            ("1.09", Equal, "1.9"),
            ("2.0.000000000000000000000000000000000000001", Equal, "2.0.1"),
            (
                "2.99999999999999999999999999999999999999998",
                Less,
                "2.99999999999999999999999999999999999999999",
            ),
            ("1.0.3-3", Greater, "1.0-1"),
            ("1.3", Greater, "1.2.2-2"),
            // The revision begins at the last hyphen.
            ("1.18.36-0.17.35-18", Greater, "1.18.36-19"),
            ("1:1.2.13-3", Less, "1:1.2.13-3.1"),
            ("1:3.0.5-2", Less, "1:3.0.5.1"),
            // Letters before other marks.
            ("7.6p2-4", Greater, "7.6-0"),
            ("0-pre", Less, "0-pree"),
            ("1.1.6r2-2", Greater, "1.1.6r-1"),
            ("2.6b2-1", Greater, "2.6b-2"),
            ("98.1p5-1", Less, "98.1-pre2-b6-2"),
            ("0.4a6-2", Greater, "0.4-1"),
            ("2.0.7pre1-4", Less, "2.0.7r-1"),
            ("1.0a", Less, "1.0+"),
            ("1.0Z", Less, "1.0a"),
            ("1.0+", Less, "1.0."),
            // A tilde is before even the end.
            ("1.0~~", Less, "1.0~~a"),
            ("1.0~~a", Less, "1.0~"),
            ("1.0~", Less, "1.0"),
            ("1.0", Less, "1.0a"),
            ("1.0~beta1~svn1245", Less, "1.0~beta1"),
            ("1.0~beta1", Less, "1.0"),
            ("1.0-1~bpo12+1", Less, "1.0-1"),
            ("3.0.11-1~deb12u1", Less, "3.0.11-1~deb12u2"),
            ("3.0.11-1~deb12u2", Less, "3.0.11-1"),
            ("3.0.11-1~deb12u2", Less, "3.0.11-1~deb12u2+b1"),
            ("3.0.9-1", Less, "3.0.11-1~deb12u2"),
        ],
    );
}

#[test]
fn rpm_orders_as_its_suite_says() {
    holds(
        Order::Rpm,
        &[
            ("1.0", Less, "2.0"),
            ("2.0", Less, "2.0.1"),
            ("2.0.1a", Greater, "2.0.1"),
            ("5.5p1", Less, "5.5p2"),
            ("5.5p1", Less, "5.5p10"),
            ("10xyz", Less, "10.1xyz"),
            ("xyz10", Less, "xyz10.1"),
            ("xyz.4", Less, "8"),
            ("xyz.4", Less, "2"),
            ("5.5p2", Less, "5.6p1"),
            ("5.6p1", Less, "6.5p1"),
            ("6.0.rc1", Greater, "6.0"),
            ("10b2", Greater, "10a1"),
            ("10a2", Less, "10b2"),
            ("1.0a", Less, "1.0aa"),
            ("10.0001", Equal, "10.1"),
            ("10.0001", Less, "10.0039"),
            ("4.999.9", Less, "5.0"),
            ("20101121", Less, "20101122"),
            ("2_0", Equal, "2.0"),
            ("a+", Equal, "a_"),
            ("+a", Equal, "_a"),
            ("+", Equal, "_"),
            // A tilde is before even the end.
            ("1.0~rc1", Less, "1.0"),
            ("1.0~rc1", Less, "1.0~rc2"),
            ("1.0~rc1~git123", Less, "1.0~rc1"),
            // A caret is after the end and before all else.
            ("1.0^", Greater, "1.0"),
            ("1.0^git1", Greater, "1.0"),
            ("1.0^git1", Less, "1.0^git2"),
            ("1.0^git1", Less, "1.01"),
            ("1.0^20160101", Less, "1.0.1"),
            ("1.0^20160101^git1", Less, "1.0^20160102"),
            ("1.0~rc1^git1", Greater, "1.0~rc1"),
            ("1.0^git1~pre", Less, "1.0^git1"),
            // Oddities that its suite keeps.
            ("1b.fc17", Less, "1.fc17"),
            ("1g.fc17", Greater, "1.fc17"),
            ("1.1.α", Equal, "1.1.β"),
            ("1.1.αα", Equal, "1.1.α"),
            // Epoch, version, release.
            ("1:1.0-1", Greater, "2.0-1"),
            ("0:1.0-1", Equal, "1.0-1"),
            (":1.0-1", Equal, "1.0-1"),
            ("00:1.0-1", Equal, "0:1.0-1"),
            ("1.0-1", Greater, "1.0"),
            ("1.0-1", Less, "1.0-2"),
            ("1:3.0.7-24.el9", Less, "1:3.0.7-25.el9"),
            ("1:3.0.7-24.el9", Less, "1:3.0.7-24.el9_2.1"),
            ("4.18.0-513.5.1.el8_9", Less, "4.18.0-513.18.1.el8_9"),
            ("1.9-1", Less, "1.10-1"),
        ],
    );
}

#[test]
fn apk_orders_as_its_suite_says() {
    holds(
        Order::Apk,
        &[
            ("2.34", Greater, "0.1.0_alpha"),
            ("23_p", Greater, "4_beta"),
            ("0.1.0_alpha", Less, "0.1.3_alpha"),
            ("0.1.0_alpha2", Greater, "0.1.0_alpha"),
            ("1.0.4-r3", Less, "1.0.4-r4"),
            ("1.0.4-r4", Less, "1.6"),
            ("1.0.4-r9", Less, "1.0.4-r10"),
            ("1.1", Greater, "1.1_alpha1"),
            ("1.2", Less, "1.3_alpha"),
            ("0.8_beta4", Less, "4.8-r1"),
            ("2.3.0b-r1", Less, "2.3.0b-r2"),
            ("1.2.12.1", Less, "1.2.13"),
            ("3.1_p16", Less, "3.1_p17"),
            ("1.06-r6", Less, "006"),
            ("006", Greater, "1.0.0"),
            ("0.7-r1", Less, "0.10"),
            ("1.2.2", Less, "1.2.2-r1"),
            // The first number is one; the others are decimal places with a zero.
            ("1.02", Less, "1.1"),
            ("1.010", Less, "1.02"),
            ("1.1", Less, "1.10"),
            ("1.0", Less, "1.00"),
            ("99999999999999999999", Less, "100000000000000000000"),
            ("1.18446744073709551617", Greater, "1.2"),
            // Suffixes: those before the release, the release, those after it.
            ("1.0_alpha", Less, "1.0_beta"),
            ("1.0_beta", Less, "1.0_pre"),
            ("1.0_pre", Less, "1.0_rc"),
            ("1.0_rc", Less, "1.0"),
            ("1.0", Less, "1.0_cvs"),
            ("1.0_cvs", Less, "1.0_svn"),
            ("1.0_svn", Less, "1.0_git"),
            ("1.0_git", Less, "1.0_hg"),
            ("1.0_hg", Less, "1.0_p"),
            ("1.0_alpha_pre", Less, "1.0_alpha"),
            ("1.0_rc1", Less, "1.0-r0"),
            ("1.0_p1", Greater, "1.0-r5"),
            ("1.0_p1_rc1", Less, "1.0_p1"),
            ("1.0_p", Less, "1.0_p1"),
            // Letters.
            ("1.0a", Greater, "1.0"),
            ("1.0a", Less, "1.0b"),
            ("1.0a", Less, "1.0.1"),
            ("1.0b-r1", Less, "1.0.1"),
            // A number after the letter, as apk-tools 2 took it.
            ("3.3.3p1-r2", Less, "3.3.3p1-r3"),
            ("3.3.3p1-r3", Less, "3.3.3p2-r0"),
            ("5.5p9", Less, "5.5p10"),
            ("5.5p", Less, "5.5p1"),
            // Commits.
            ("1.0~1234-r0", Less, "1.0~1235-r0"),
            ("1.0~1234", Greater, "1.0"),
        ],
    );
}

#[test]
fn what_a_person_may_ask_for_is_strict() {
    for (order, good, bad) in [
        (
            Order::Debian,
            &["1", "0:1", "3.0.11-1~deb12u2", "1:2.3-4-5", "1:2:3-4", "1.0+dfsg-2+b1"][..],
            &[
                "",
                " ",
                "1 2",
                " 1",
                "x1",
                ":1",
                "a:1",
                "-1:1",
                "99999999999:1",
                "1:",
                "1-",
                "-1",
                "1.0_1",
                "1-1_2",
                "ä",
            ][..],
        ),
        (
            Order::Rpm,
            &["1", "0:1", "1:3.0.7-24.el9", "1.0~rc1^git2", "el"][..],
            &["", " ", "1 2", ":1", "a:1", "1:", "1-", "-1", "1:2:3", "1/2", "~", "1-~", "1-2-3", "ä"][..],
        ),
        (
            Order::Apk,
            &["1", "1.2.3b_rc1_p2~0123abc-r4", "5.5p1-r0", "0"][..],
            &[
                "", "a", "1.", "1..2", "1.a", "1bc", "1_foo", "1_", "1-", "1-r", "1-1", "1-r1-r2", "1~",
                "1~x", "1:2", "1.0A", "1.0a.1", "1-r1_p1", " 1", "1~a_p1", "1ä",
            ][..],
        ),
    ] {
        for good in good {
            assert_eq!(order.check(good), Ok(()), "{order:?} {good}");
        }
        for bad in bad {
            assert!(order.check(bad).is_err(), "{order:?} {bad}");
        }
    }
    // dpkg would install these, with a warning.
    assert_eq!(Order::Debian.compare("x1_2", "x1_1"), Ok(Greater));
    assert!(Order::Debian.compare("1", "1:").is_err());
    assert!(Order::Apk.compare("1", "1bc").is_err());
}

#[test]
fn ranges_have_the_versions_between_their_bounds() {
    let range = |text: [&str; 4]| {
        let [from, below, through, exact] = text.map(|bound| (!bound.is_empty()).then(|| bound.to_owned()));
        Range { from, below, through, exact }
    };
    for (order, bounds, inside, outside) in [
        (Order::Debian, ["", "", "", ""], &["0", "9:9"][..], &[][..]),
        (Order::Debian, ["", "2", "", ""], &["1", "2~rc1"], &["2", "2-1", "3"]),
        (Order::Debian, ["1", "2", "", ""], &["1", "1-1", "2~"], &["1~", "2"]),
        (Order::Debian, ["1", "", "2", ""], &["1", "2"], &["2-1", "0.9"]),
        (Order::Debian, ["1", "", "", ""], &["1", "99"], &["0.9"]),
        (Order::Debian, ["", "", "", "1.0"], &["1.0", "0:1.00-0"], &["1.0-1", "1"]),
        (Order::Rpm, ["", "", "3.0.7", ""], &["3.0.7-24.el9", "3.0.6"], &["1:3.0.7-1", "3.0.8-1"]),
        (Order::Rpm, ["", "3.0.7", "", ""], &["3.0.6-99"], &["3.0.7-0.1", "3.0.7"]),
        (Order::Rpm, ["", "", "", "1:3.0.7"], &["1:3.0.7-24.el9"], &["3.0.7-24.el9"]),
        (Order::Rpm, ["", "", "3.0.7-5", ""], &["3.0.7-5", "3.0.7"], &["3.0.7-6"]),
        (Order::Apk, ["3.1.0-r0", "3.1.4-r6", "", ""], &["3.1.4-r5"], &["3.1.4-r6", "3.0.9-r9"]),
    ] {
        let range = range(bounds);
        for inside in inside {
            assert_eq!(range.contains(order, inside), Ok(true), "{bounds:?} {inside}");
        }
        for outside in outside {
            assert_eq!(range.contains(order, outside), Ok(false), "{bounds:?} {outside}");
        }
        assert!(!range.is_empty(order), "{bounds:?}");
    }
    for bounds in [["2", "2", "", ""], ["3", "2", "", ""], ["3", "", "2", ""]] {
        assert!(range(bounds).is_empty(Order::Debian), "{bounds:?}");
    }
    assert!(!range(["2", "", "2", ""]).is_empty(Order::Debian));
    assert!(range(["", "", "", ""]).contains(Order::Apk, "what").is_err());
}

#[test]
fn orders_have_their_managers() {
    for order in ORDERS {
        assert_eq!(Order::of_manager(order.manager()), Some(order));
    }
    assert_eq!(Order::of_manager(""), None);
    assert_eq!(rpm::epoch_prefix("1:3.0-1"), "1:");
    assert_eq!(rpm::epoch_prefix("3.0-1:2"), "");
    assert_eq!(rpm::epoch_prefix(":3.0"), "");
}
