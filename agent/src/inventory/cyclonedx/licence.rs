//! Licences in the forms that CycloneDX has for them.

use serde_json::{Value, json};

/// Identifiers of SPDX that packages state most often. The schema takes no
/// others as `id`, and an expression with a wrong one is no expression.
const KNOWN: [&str; 42] = [
    "0BSD",
    "AFL-2.1",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-2.0",
    "Artistic-1.0-Perl",
    "Artistic-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-4-Clause",
    "BSL-1.0",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "EPL-2.0",
    "FTL",
    "GFDL-1.3-or-later",
    "GPL-1.0-or-later",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "HPND",
    "ICU",
    "ISC",
    "LGPL-2.0-only",
    "LGPL-2.0-or-later",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "MIT",
    "MPL-1.1",
    "MPL-2.0",
    "NCSA",
    "OpenSSL",
    "PSF-2.0",
    "Python-2.0.1",
    "Unlicense",
    "X11",
    "Zlib",
];

/// What a package states as its licence; `None` if it states none.
pub(super) fn licences(stated: &str) -> Option<Value> {
    let stated = stated.trim();
    if stated.is_empty() {
        return None;
    }
    if KNOWN.contains(&stated) {
        return Some(json!([{"license": {"id": stated, "acknowledgement": "declared"}}]));
    }
    if is_expression(stated) {
        return Some(json!([{"expression": stated, "acknowledgement": "declared"}]));
    }
    Some(json!([{"license": {"name": stated, "acknowledgement": "declared"}}]))
}

/// Identifiers that are known, joined by AND and OR, in brackets or not. One with
/// an exception (WITH) stays a name, as exceptions are not known here.
fn is_expression(text: &str) -> bool {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let (mut open, mut after_licence) = (0u32, false);
    for word in spaced.split_whitespace() {
        after_licence = match (word, after_licence) {
            ("AND" | "OR", true) => false,
            ("(", false) => {
                open += 1;
                false
            }
            (")", true) if open > 0 => {
                open -= 1;
                true
            }
            (licence, false) if KNOWN.contains(&licence) => true,
            _ => return false,
        };
    }
    after_licence && open == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_what_the_schema_takes() {
        for (stated, form) in [
            ("MIT", "id"),
            (" Zlib ", "id"),
            ("MIT AND (Apache-2.0 OR ISC)", "expression"),
            ("(MIT)", "expression"),
            ("GPLv2+ and MIT", "name"),
            ("MIT AND Nonsense", "name"),
            ("MIT AND", "name"),
            ("MIT ISC", "name"),
            ("(MIT", "name"),
            (")MIT(", "name"),
            ("AND", "name"),
            ("Apache-2.0 WITH LLVM-exception", "name"),
            ("mit", "name"),
        ] {
            let licences = licences(stated).unwrap();
            let found = licences[0]["license"].get(form).or(licences[0].get(form));
            assert_eq!(found.unwrap(), stated.trim(), "{stated}");
        }
        assert_eq!(licences(" "), None);
    }
}
