//! What somebody may have meant.

/// Those of some names that are nearly what was written, the nearest first; at
/// most three.
pub(super) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = written.to_lowercase();
    // A slip in each three letters.
    let most = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (strsim::osa_distance(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= most)
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// A question after those that are near, and all that there is.
pub(super) fn known(near: &[&str], names: &str) -> String {
    let question = question(near);
    let there = if question.is_empty() { "; there" } else { " There" };
    format!("{question}{there} are {names}")
}

/// `; did you mean …?`, if there is anything to ask.
pub(super) fn question(near: &[&str]) -> String {
    let names: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_three_letters_is_forgiven() {
        let names = ["kind", "display_name", "node", "state", "node_display_name"];
        for (written, expected) in [
            ("kindd", vec!["kind"]),
            ("nide", vec!["node"]),
            ("displayname", vec!["display_name"]),
            ("STATE", vec!["state"]),
            ("owner", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(nearest(written, names), expected, "{written}");
        }
        assert_eq!(question(&["a", "b"]), "; did you mean `a` or `b`?");
    }
}
