//! Text from the node made fit for the inventory: UTF-8 without NUL, within the
//! lengths that the contracts allow.

/// Makes text of foreign bytes: what is not UTF-8 becomes U+FFFD, and NUL and
/// other control characters but tab and newline are left out, as PostgreSQL
/// refuses NUL and a terminal may obey the others.
#[must_use]
pub fn clean(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    scrub(&mut text);
    text
}

/// Takes out of `text` what [`clean`] leaves out.
pub fn scrub(text: &mut String) {
    // Most text has none. 0xc2 begins U+0080 to U+009F, and other characters.
    let may_have = |byte: u8| (byte < b' ' && !matches!(byte, b'\t' | b'\n')) || matches!(byte, 0x7f | 0xc2);
    if text.bytes().any(may_have) {
        text.retain(|character| !character.is_control() || matches!(character, '\t' | '\n'));
    }
}

/// Cuts `text` to at most `limit` bytes, at the end of a character. Returns
/// whether anything was cut.
pub fn truncate(text: &mut String, limit: usize) -> bool {
    if text.len() <= limit {
        return false;
    }
    text.truncate(text.floor_char_boundary(limit));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_become_clean_text() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            (b"nul\0inside\0", "nulinside"),
            (b"\xff\xfelatin", "\u{fffd}\u{fffd}latin"),
            (b"bell\x07tab\tline\n", "belltab\tline\n"),
            (b"del\x7f", "del"),
            ("next\u{85}©\u{9f}".as_bytes(), "next©"),
            ("größe".as_bytes(), "größe"),
            (b"", ""),
        ] {
            assert_eq!(clean(bytes), expected);
        }
    }

    #[test]
    fn cuts_between_characters() {
        for (text, limit, expected, cut) in
            [("abc", 3, "abc", false), ("abcd", 3, "abc", true), ("aé", 2, "a", true), ("é", 1, "", true)]
        {
            let mut text = text.to_owned();
            assert_eq!(truncate(&mut text, limit), cut);
            assert_eq!(text, expected);
        }
    }
}
