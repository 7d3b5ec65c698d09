//! The parts of a unit file that are reported (systemd.syntax(7)).

use std::collections::BTreeSet;

use crate::text::clean;

/// What a unit file says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct UnitFile {
    /// Description=.
    pub(super) description: String,
    /// Alias= of [Install].
    pub(super) aliases: BTreeSet<String>,
    /// Whether [Install] says where to link it: enabling does something.
    pub(super) has_install_rules: bool,
    /// Whether [Install] names units to enable with it.
    pub(super) has_also: bool,
}

/// Parses a unit file; what it does not know it passes over.
pub(super) fn parse_unit_file(text: &[u8]) -> UnitFile {
    let text = clean(text);
    let mut unit = UnitFile::default();
    let mut section = String::new();
    for line in logical_lines(&text) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        match (section.as_str(), name.trim()) {
            // The last assignment counts.
            ("Unit", "Description") => unit.description = value.to_owned(),
            ("Install", "Alias") => {
                unit.aliases.extend(value.split_whitespace().map(str::to_owned));
                unit.has_install_rules |= !value.is_empty();
            }
            ("Install", "WantedBy" | "RequiredBy" | "UpheldBy") => {
                unit.has_install_rules |= !value.is_empty();
            }
            ("Install", "Also") => unit.has_also |= !value.is_empty(),
            _ => {}
        }
    }
    unit
}

/// Lines without comments, those that end with a backslash joined to the next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = String::new();
    for line in text.lines() {
        let line = line.trim();
        // Comments may stand between the parts of a continued line.
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            pending.push_str(part);
            pending.push(' ');
            continue;
        }
        pending.push_str(line);
        if !pending.is_empty() {
            lines.push(std::mem::take(&mut pending));
        }
    }
    if !pending.is_empty() {
        lines.push(pending);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_systemd_reads() {
        let unit = parse_unit_file(
            b"# comment\n[Unit]\nDescription=first\n Description = OpenBSD Secure\\\n# between\n Shell server\n\
            [Service]\nExecStart=/usr/sbin/sshd -D $X=1\nDescription=not this\n\
            [Install]\nWantedBy=multi-user.target\nAlias=sshd.service other.service\n",
        );
        assert_eq!(unit.description, "OpenBSD Secure Shell server");
        assert_eq!(unit.aliases, BTreeSet::from(["other.service".to_owned(), "sshd.service".to_owned()]));
        assert!(unit.has_install_rules && !unit.has_also);
    }

    #[test]
    fn empty_rules_are_no_rules() {
        for (text, rules, also) in [
            (&b""[..], false, false),
            (b"[Install]\n", false, false),
            (b"[Install]\nWantedBy=\n", false, false),
            (b"[Install]\nAlso=x.socket\n", false, true),
            (b"[Install]\nUpheldBy=x.target", true, false),
            (b"WantedBy=no-section.target\n", false, false),
            (b"\xff\xfe[[]]\n=\n\\", false, false),
        ] {
            let unit = parse_unit_file(text);
            assert_eq!((unit.has_install_rules, unit.has_also), (rules, also), "{text:?}");
        }
    }
}
