//! Texts with `*` for any text, as filters compare them.

/// A text in which `*` stands for any text, `\*` for an asterisk and `\\` for a
/// backslash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What is to be found in this order; between two of them may be any text.
    parts: Vec<Vec<char>>,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Self {
        let mut parts = vec![Vec::new()];
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if matches!(characters.peek(), Some('*' | '\\')) => {
                    let special = characters.next().unwrap_or(character);
                    parts.last_mut().map(|part| part.push(special)).unwrap_or_default();
                }
                // Any text twice is any text.
                '*' if parts.len() > 1 && parts.last().is_some_and(Vec::is_empty) => {}
                '*' => parts.push(Vec::new()),
                other => parts.last_mut().map(|part| part.push(other)).unwrap_or_default(),
            }
        }
        Self { parts }
    }

    /// Whether it has a `*` that stands for any text.
    pub fn is_wild(&self) -> bool {
        self.parts.len() > 1
    }

    /// How often any text may stand.
    pub fn wilds(&self) -> usize {
        self.parts.len() - 1
    }

    /// Characters of the longest text that it is sure to have.
    pub fn longest(&self) -> usize {
        self.parts.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The text itself: of one that is wild, with its asterisks.
    pub fn text(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(|part| part.iter().collect()).collect();
        parts.join("*")
    }

    /// The same with any text around it.
    #[must_use]
    pub fn anywhere(mut self) -> Self {
        if self.parts.first().is_some_and(|first| !first.is_empty()) {
            self.parts.insert(0, Vec::new());
        }
        if self.parts.len() < 2 || self.parts.last().is_some_and(|last| !last.is_empty()) {
            self.parts.push(Vec::new());
        }
        self
    }

    /// As PostgreSQL's LIKE takes it.
    pub fn like(&self) -> String {
        let mut pattern = String::new();
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                pattern.push('%');
            }
            for character in part {
                if matches!(character, '%' | '_' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(*character);
            }
        }
        pattern
    }

    /// Whether the whole of a text fits.
    pub fn fits(&self, text: &str) -> bool {
        fits(&self.parts, &text.chars().collect::<Vec<_>>())
    }

    /// Whether the whole of a text fits, whatever the case of its letters.
    pub fn fits_any_case(&self, text: &str) -> bool {
        let parts: Vec<Vec<char>> =
            self.parts.iter().map(|part| part.iter().map(|character| lower(*character)).collect()).collect();
        fits(&parts, &text.chars().map(lower).collect::<Vec<_>>())
    }
}

/// Lower case of a character by itself, as PostgreSQL has it with libc.
fn lower(character: char) -> char {
    character.to_lowercase().next().unwrap_or(character)
}

fn fits(parts: &[Vec<char>], text: &[char]) -> bool {
    let Some((first, rest)) = parts.split_first() else { return text.is_empty() };
    let Some((last, middle)) = rest.split_last() else { return first == text };
    let Some(mut text) = text.strip_prefix(first.as_slice()) else { return false };
    // The first place for each leaves the most room for those after it.
    for part in middle {
        let Some(found) = find(text, part) else { return false };
        text = &text[found + part.len()..];
    }
    text.ends_with(last)
}

fn find(text: &[char], part: &[char]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_asterisk_is_special() {
        for (text, like, wild) in [
            ("3.0*", "3.0%", true),
            ("50%_", "50\\%\\_", false),
            ("a\\*b", "a*b", false),
            ("c:\\x", "c:\\\\x", false),
            ("c:\\\\x", "c:\\\\x", false),
            ("c:\\\\*", "c:\\\\%", true),
            ("", "", false),
            ("a**b", "a%b", true),
            ("%*", "\\%%", true),
        ] {
            let pattern = Pattern::new(text);
            assert_eq!(pattern.like(), like, "{text}");
            assert_eq!(pattern.is_wild(), wild, "{text}");
        }
        assert_eq!(Pattern::new("x").anywhere().like(), "%x%");
        assert_eq!(Pattern::new("").anywhere().like(), "%");
        assert_eq!(Pattern::new("a\\*b").text(), "a*b");
    }

    #[test]
    fn fits_the_whole_text() {
        for (pattern, text, fits) in [
            ("3.0*", "3.0.17", true),
            ("3.0*", "13.0.17", false),
            ("*a*b*a", "a b a", true),
            ("*a*b*a", "a b", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("ab", "AB", false),
            ("*ab*ab", "ababab", true),
            ("*ä", "xä", true),
        ] {
            assert_eq!(Pattern::new(pattern).fits(text), fits, "{pattern} {text}");
        }
        for (pattern, text, fits) in
            [("Ä*", "äx", true), ("ss", "ß", false), ("İ", "i", true), ("%", "x", false)]
        {
            assert_eq!(Pattern::new(pattern).fits_any_case(text), fits, "{pattern} {text}");
        }
    }
}
