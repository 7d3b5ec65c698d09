//! Values as text, safe for where the text goes.

use std::borrow::Cow;

use chrono::{DateTime, Local, SecondsFormat, Utc};
use prost_types::Timestamp;

/// How times are shown.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// In UTC, else in the local zone.
    pub utc: bool,
    /// Whole seconds, else as precise as the time is.
    pub seconds: bool,
}

impl Clock {
    /// RFC 3339 with the offset; empty for no time, or one out of chrono's
    /// range.
    pub fn show(self, time: Option<&Timestamp>) -> String {
        let nanos = |time: &Timestamp| u32::try_from(time.nanos).ok();
        let Some(time) = time.and_then(|time| DateTime::<Utc>::from_timestamp(time.seconds, nanos(time)?))
        else {
            return String::new();
        };
        let precision = if self.seconds { SecondsFormat::Secs } else { SecondsFormat::AutoSi };
        if self.utc {
            time.to_rfc3339_opts(precision, true)
        } else {
            time.with_timezone(&Local).to_rfc3339_opts(precision, false)
        }
    }
}

/// An enum's value without the prefix that all of its names have: `PACKAGE`
/// for `ASSET_KIND_PACKAGE`; empty if it is not given, and the number if the
/// value is newer than this program.
pub fn word(name: Option<&str>, prefix: &str, number: i32) -> String {
    match name.map(|name| name.strip_prefix(prefix).unwrap_or(name)) {
        Some("UNSPECIFIED") => String::new(),
        Some(word) => word.to_owned(),
        None => number.to_string(),
    }
}

/// Text with each character escaped that would drive a terminal, break the
/// line or turn the direction of writing: a name must not forge what is shown.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(drives_terminal) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => safe.extend(character.escape_default()),
            _ if drives_terminal(character) => safe.extend(character.escape_unicode()),
            _ => safe.push(character),
        }
    }
    Cow::Owned(safe)
}

/// Control characters (C0, DEL, C1), line separators, and the marks that
/// override the direction of writing.
pub fn drives_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A cell that a spreadsheet would run as a formula gets an apostrophe in
/// front, after OWASP's "CSV Injection".
pub fn defused(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_escaped_and_the_rest_is_kept() {
        for (text, expected) in [
            ("openssl", "openssl"),
            (r"dev-disk\x2dby.device", r"dev-disk\x2dby.device"),
            ("Gehäuse 東京", "Gehäuse 東京"),
            ("\u{1b}[2Jgone", r"\u{1b}[2Jgone"),
            ("a\nb\tc\rd", r"a\nb\tc\rd"),
            ("\u{7f}\u{9b}31m", r"\u{7f}\u{9b}31m"),
            ("exe.\u{202e}fdp", r"exe.\u{202e}fdp"),
            ("\u{0}", r"\u{0}"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn what_a_spreadsheet_would_run_gets_an_apostrophe() {
        for bad in ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "\n=1"] {
            assert_eq!(defused(bad), format!("'{bad}"));
        }
        for good in ["", "a=1", "1-2", "'", " x"] {
            assert_eq!(defused(good), good);
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        let clock = |seconds| Clock { utc: true, seconds };
        let time = Timestamp { seconds: 1_772_496_000, nanos: 120_000_000 };
        assert_eq!(clock(true).show(Some(&time)), "2026-03-03T00:00:00Z");
        assert_eq!(clock(false).show(Some(&time)), "2026-03-03T00:00:00.120Z");
        assert_eq!(clock(true).show(None), "");
        assert_eq!(clock(true).show(Some(&Timestamp { seconds: i64::MAX, nanos: 0 })), "");
        assert_eq!(clock(true).show(Some(&Timestamp { seconds: 0, nanos: -1 })), "");
    }

    #[test]
    fn enums_lose_their_prefix() {
        for (name, number, expected) in [
            (Some("NODE_HEALTH_STALE"), 2, "STALE"),
            (Some("NODE_HEALTH_UNSPECIFIED"), 0, ""),
            (Some("OTHER"), 7, "OTHER"),
            (None, 77, "77"),
        ] {
            assert_eq!(word(name, "NODE_HEALTH_", number), expected);
        }
    }
}
