//! The syntax of AIP-160. A sequence of terms means AND; OR binds closer than
//! AND, as the grammar has it.

use super::{FilterError, Operator};

/// Longest filter, in bytes.
pub const MAX_BYTES: usize = 8192;
/// Most terms of a filter.
pub const MAX_TERMS: usize = 100;
const MAX_DEPTH: usize = 20;

/// A syntax tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Not(Box<Tree>),
    /// `path operator value`.
    Compare {
        path: Vec<Segment>,
        operator: Operator,
        value: Word,
    },
    /// A word alone.
    Text(Word),
}

/// A part of a field's path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) text: String,
    pub(super) position: usize,
}

/// A word or a quoted text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) quoted: bool,
    pub(super) position: usize,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    terms: usize,
    depth: usize,
}

pub(super) fn parse(text: &str) -> Result<Option<Tree>, FilterError> {
    if text.len() > MAX_BYTES {
        let problem = format!("the filter is {} bytes long; at most {MAX_BYTES} are allowed", text.len());
        return Err(FilterError::new(0, problem));
    }
    if text.contains('\0') {
        return Err(FilterError::new(text.find('\0').unwrap_or(0), "a filter cannot hold a NUL character"));
    }
    let mut parser = Parser { text, at: 0, terms: 0, depth: 0 };
    parser.space();
    if parser.rest().is_empty() {
        return Ok(None);
    }
    let tree = parser.expression()?;
    match parser.peek() {
        None => Ok(Some(tree)),
        Some(')') => Err(FilterError::new(parser.at, "`)` closes nothing")),
        Some(other) => Err(FilterError::new(parser.at, format!("`{other}` is unexpected here"))),
    }
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Whether a keyword stands here, as a word of its own.
    fn keyword(&self, keyword: &str) -> bool {
        self.rest().strip_prefix(keyword).is_some_and(|after| {
            after.is_empty() || after.starts_with(|c: char| c.is_whitespace() || c == '(')
        })
    }

    /// `sequence {AND sequence}`
    fn expression(&mut self) -> Result<Tree, FilterError> {
        let mut parts = Vec::new();
        loop {
            self.space();
            parts.push(self.factor()?);
            self.space();
            if self.keyword("AND") {
                self.at += 3;
                self.space();
                if matches!(self.peek(), None | Some(')')) {
                    return Err(FilterError::new(self.at, "AND needs a term after it"));
                }
            } else if matches!(self.peek(), None | Some(')')) {
                break;
            }
        }
        Ok(single(parts, Tree::And))
    }

    /// `term {OR term}`
    fn factor(&mut self) -> Result<Tree, FilterError> {
        let mut parts = vec![self.term()?];
        loop {
            self.space();
            if !self.keyword("OR") {
                break;
            }
            self.at += 2;
            self.space();
            if matches!(self.peek(), None | Some(')')) {
                return Err(FilterError::new(self.at, "OR needs a term after it"));
            }
            parts.push(self.term()?);
        }
        Ok(single(parts, Tree::Or))
    }

    /// `[NOT | -] simple`
    fn term(&mut self) -> Result<Tree, FilterError> {
        for word in ["AND", "OR"] {
            if self.keyword(word) {
                return Err(FilterError::new(self.at, format!("{word} needs a term before it")));
            }
        }
        if self.keyword("NOT") {
            self.at += 3;
            self.space();
            return Ok(Tree::Not(Box::new(self.nested(Self::term)?)));
        }
        if self.peek() == Some('-') {
            self.at += 1;
            return Ok(Tree::Not(Box::new(self.nested(Self::term)?)));
        }
        self.simple()
    }

    fn nested<T>(&mut self, parse: impl Fn(&mut Self) -> Result<T, FilterError>) -> Result<T, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError::new(self.at, format!("is nested more than {MAX_DEPTH} deep")));
        }
        let parsed = parse(self)?;
        self.depth -= 1;
        Ok(parsed)
    }

    fn simple(&mut self) -> Result<Tree, FilterError> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(FilterError::new(self.at, format!("has more than {MAX_TERMS} terms")));
        }
        let start = self.at;
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let inner = self.nested(Self::expression)?;
                if self.peek() != Some(')') {
                    return Err(FilterError::new(start, "`(` is never closed"));
                }
                self.at += 1;
                return Ok(inner);
            }
            None | Some(')') => return Err(FilterError::new(start, "a term is missing")),
            _ => {}
        }
        let path = self.path()?;
        self.space_before_operator();
        let Some(operator) = self.operator() else {
            return Ok(Tree::Text(self.bare(start, &path)));
        };
        self.space();
        let value = self.value()?;
        Ok(Tree::Compare { path, operator, value })
    }

    /// Spaces may stand before an operator, not before the next term.
    fn space_before_operator(&mut self) {
        let trimmed = self.rest().trim_start();
        if trimmed.starts_with(['=', '!', '<', '>', ':']) {
            self.at += self.rest().len() - trimmed.len();
        }
    }

    /// A word alone, as it stood: dots are part of it.
    fn bare(&self, start: usize, path: &[Segment]) -> Word {
        let quoted = self.text[start..].starts_with('"') || self.text[start..].starts_with('\'');
        let text: Vec<&str> = path.iter().map(|segment| segment.text.as_str()).collect();
        Word { text: text.join("."), quoted, position: start }
    }

    fn path(&mut self) -> Result<Vec<Segment>, FilterError> {
        let mut path = Vec::new();
        loop {
            let position = self.at;
            let text = match self.peek() {
                Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
                _ => self.until(|c| c.is_whitespace() || "()=!<>:.\"'".contains(c)),
            };
            if text.is_empty() && !self.text[position..].starts_with(['"', '\'']) {
                let found = self.peek().map_or("the end".to_owned(), |c| format!("`{c}`"));
                return Err(FilterError::new(
                    self.at,
                    format!("a field or a word is missing before {found}"),
                ));
            }
            path.push(Segment { text, position });
            if self.peek() != Some('.') {
                return Ok(path);
            }
            self.at += 1;
        }
    }

    fn operator(&mut self) -> Option<Operator> {
        const OPERATORS: [(&str, Operator); 7] = [
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("!=", Operator::NotEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
            ("=", Operator::Equal),
            (":", Operator::Has),
        ];
        let (text, operator) = OPERATORS.iter().find(|(text, _)| self.rest().starts_with(text))?;
        self.at += text.len();
        Some(*operator)
    }

    fn value(&mut self) -> Result<Word, FilterError> {
        let position = self.at;
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            return Ok(Word { text: self.quoted(quote)?, quoted: true, position });
        }
        let text = self.until(|c| c.is_whitespace() || c == '(' || c == ')' || c == '"');
        if text.is_empty() {
            return Err(FilterError::new(position, "a value is missing; put text with spaces in quotes"));
        }
        Ok(Word { text, quoted: false, position })
    }

    fn until(&mut self, end: impl Fn(char) -> bool) -> String {
        let length = self.rest().find(end).unwrap_or(self.rest().len());
        let text = self.rest()[..length].to_owned();
        self.at += length;
        text
    }

    /// A quoted text; `\` takes the next character as it is.
    fn quoted(&mut self, quote: char) -> Result<String, FilterError> {
        let start = self.at;
        let mut text = String::new();
        let mut characters = self.text[start..].char_indices().skip(1);
        while let Some((offset, character)) = characters.next() {
            if character == quote {
                self.at = start + offset + 1;
                return Ok(text);
            }
            if character != '\\' {
                text.push(character);
                continue;
            }
            match characters.next() {
                // Kept for the wildcards: `\*` is an asterisk.
                Some((_, '*')) => text.push_str("\\*"),
                Some((_, escaped)) => text.push(escaped),
                None => break,
            }
        }
        Err(FilterError::new(start, "the quoted text has no end"))
    }
}

fn single(mut parts: Vec<Tree>, many: fn(Vec<Tree>) -> Tree) -> Tree {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree as an S-expression.
    fn show(tree: &Tree) -> String {
        let many = |name: &str, parts: &[Tree]| {
            format!("({name} {})", parts.iter().map(show).collect::<Vec<_>>().join(" "))
        };
        match tree {
            Tree::And(parts) => many("and", parts),
            Tree::Or(parts) => many("or", parts),
            Tree::Not(inner) => format!("(not {})", show(inner)),
            Tree::Compare { path, operator, value } => {
                let path: Vec<_> = path.iter().map(|segment| segment.text.as_str()).collect();
                format!("[{} {operator:?} {}]", path.join("/"), value.text)
            }
            Tree::Text(word) => word.text.clone(),
        }
    }

    #[test]
    fn reads_the_grammar() {
        for (text, expected) in [
            ("kind=PACKAGE", "[kind Equal PACKAGE]"),
            ("kind = PACKAGE", "[kind Equal PACKAGE]"),
            ("a AND b OR c AND d", "(and a (or b c) d)"),
            ("a b", "(and a b)"),
            ("NOT a=1 -b", "(and (not [a Equal 1]) (not b))"),
            ("(a OR b) c", "(and (or a b) c)"),
            ("managed.labels.\"app.kubernetes.io/name\":x", "[managed/labels/app.kubernetes.io/name Has x]"),
            ("t>2026-03-03T00:00:00Z", "[t Greater 2026-03-03T00:00:00Z]"),
            ("details.package.version:'3.0*'", "[details/package/version Has 3.0*]"),
            ("10.0.0.1", "10.0.0.1"),
            ("n<=-5", "[n LessOrEqual -5]"),
            (r#"a="x \"y\" \\ z""#, r#"[a Equal x "y" \ z]"#),
            ("ORDER=1 ANDY", "(and [ORDER Equal 1] ANDY)"),
            ("\"two words\"", "two words"),
        ] {
            assert_eq!(show(&parse(text).unwrap().unwrap()), expected, "{text}");
        }
        assert_eq!(parse("  ").unwrap(), None);
    }

    #[test]
    fn says_where_it_is_wrong() {
        for (text, position, problem) in [
            ("kind=", 5, "a value is missing"),
            ("(a", 0, "never closed"),
            ("a)", 1, "closes nothing"),
            ("a AND", 5, "AND needs a term after it"),
            ("OR a", 0, "OR needs a term before it"),
            ("=1", 0, "a field or a word is missing"),
            ("a=\"x", 2, "has no end"),
            ("a..b=1", 2, "a field or a word is missing"),
            (&"(".repeat(30), 21, "nested more than"),
            (&"a ".repeat(101), 200, "more than 100 terms"),
            (&"a".repeat(9000), 0, "9000 bytes long"),
            ("a=1\0", 3, "NUL"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.problem.contains(problem), "{text}: {error}");
            assert_eq!(error.position, position, "{text}: {error}");
        }
    }
}
