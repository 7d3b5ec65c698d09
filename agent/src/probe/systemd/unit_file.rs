//! The parts of a unit file that are reported (systemd.syntax(7)).

use std::collections::BTreeSet;

use crate::text::clean;

/// What a unit file and its drop-ins say.
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
    /// When a timer elapses: its lines such as `OnCalendar=daily`.
    pub(super) schedule: Vec<String>,
    /// Unit= of a timer or path, Service= of a socket.
    pub(super) starts: String,
    /// Whether a socket starts a service for each connection (Accept=).
    pub(super) accepts: bool,
    /// User= of a service.
    pub(super) user: String,
}

/// Adds what a unit file or, after it, one of its drop-ins says; what it does
/// not know it passes over.
pub(super) fn read_unit_file(unit: &mut UnitFile, text: &[u8]) {
    let text = clean(text);
    let mut section = String::new();
    for line in logical_lines(&text) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        let (name, value) = (name.trim(), value.trim());
        match (section.as_str(), name) {
            // The last assignment counts.
            ("Unit", "Description") => unit.description = value.to_owned(),
            ("Service", "User") => unit.user = value.to_owned(),
            ("Socket", "Accept") => unit.accepts = is_true(value),
            ("Timer" | "Path", "Unit") | ("Socket", "Service") if !value.is_empty() => {
                unit.starts = value.to_owned();
            }
            (
                "Timer",
                "OnActiveSec" | "OnBootSec" | "OnStartupSec" | "OnUnitActiveSec" | "OnUnitInactiveSec"
                | "OnCalendar",
            ) => {
                // systemd.timer(5): an empty one takes all back, whatever its name.
                if value.is_empty() {
                    unit.schedule.retain(|line| is_switch(line));
                } else {
                    unit.schedule.push(format!("{name}={value}"));
                }
            }
            ("Timer", "OnClockChange" | "OnTimezoneChange") => {
                let line = format!("{name}=true");
                unit.schedule.retain(|before| *before != line);
                if is_true(value) {
                    unit.schedule.push(line);
                }
            }
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
}

fn is_switch(line: &str) -> bool {
    line.starts_with("OnClockChange=") || line.starts_with("OnTimezoneChange=")
}

/// systemd.syntax(7), "Booleans".
fn is_true(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].iter().any(|word| word.eq_ignore_ascii_case(value))
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

    fn parse(texts: &[&[u8]]) -> UnitFile {
        let mut unit = UnitFile::default();
        texts.iter().for_each(|text| read_unit_file(&mut unit, text));
        unit
    }

    #[test]
    fn reads_what_systemd_reads() {
        let unit = parse(&[
            b"# comment\n[Unit]\nDescription=first\n Description = OpenBSD Secure\\\n# between\n Shell server\n\
            [Service]\nExecStart=/usr/sbin/sshd -D $X=1\nDescription=not this\n\
            [Install]\nWantedBy=multi-user.target\nAlias=sshd.service other.service\n",
        ]);
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
            let unit = parse(&[text]);
            assert_eq!((unit.has_install_rules, unit.has_also), (rules, also), "{text:?}");
        }
    }

    #[test]
    fn a_timer_has_its_lines_in_order_and_an_empty_one_resets() {
        for (texts, expected) in [
            (
                &[&b"[Timer]\nOnBootSec=5min\nOnCalendar=Mon..Fri 10:00\nPersistent=true\n"[..]][..],
                &["OnBootSec=5min", "OnCalendar=Mon..Fri 10:00"][..],
            ),
            (
                &[b"[Timer]\nOnCalendar=daily\nOnBootSec=1\n", b"[Timer]\nOnCalendar=\nOnCalendar=weekly\n"],
                &["OnCalendar=weekly"],
            ),
            (&[b"[Timer]\nOnClockChange=yes\nOnBootSec=1\nOnUnitActiveSec=\n"], &["OnClockChange=true"]),
            (&[b"[Timer]\nOnClockChange=yes\n", b"[Timer]\nOnClockChange=no\n"], &[]),
            (&[b"[Service]\nOnCalendar=daily\n"], &[]),
        ] {
            assert_eq!(parse(texts).schedule, expected, "{texts:?}");
        }
    }

    #[test]
    fn the_last_user_and_the_last_unit_count() {
        let unit = parse(&[
            b"[Service]\nUser=one\nEnvironment=A=secret\n[Timer]\nUnit=a.service\n",
            b"[Service]\nUser=two\n[Timer]\nUnit=\n[Socket]\nAccept=yes\n",
        ]);
        assert_eq!((unit.user.as_str(), unit.starts.as_str(), unit.accepts), ("two", "a.service", true));
        assert_eq!(parse(&[b"[Service]\nUser=one\nUser=\n"]).user, "");
    }
}
