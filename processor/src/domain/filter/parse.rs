//! The syntax of AIP-160. A sequence of terms means AND; OR binds closer than
//! AND, as the grammar has it.

use super::{FilterError, Operator, Pattern};

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
        value: Argument,
    },
    /// A word alone.
    Text(Word),
}

/// What stands right of an operator.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Argument {
    Word(Word),
    Call(Call),
}

/// A part of a field's path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) text: String,
    /// As it is in a word that stands alone.
    pattern: String,
    pub(super) position: usize,
}

/// A word or a quoted text: a pattern, in which `\*` is an asterisk and `\\` a
/// backslash.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) position: usize,
}

impl Segment {
    /// Of a word that names a field.
    pub(super) fn new(word: &Word) -> Self {
        Self { text: word.plain(), pattern: word.text.clone(), position: word.position }
    }
}

impl Word {
    /// Itself, no pattern.
    pub(super) fn plain(&self) -> String {
        Pattern::new(&self.text).text()
    }
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Vec<Word>,
    pub(super) position: usize,
}

/// Left side and operator of a group of values.
struct Left {
    path: Vec<Segment>,
    operator: Operator,
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
    if let Some(nul) = text.find('\0') {
        return Err(FilterError::new(nul, "a filter cannot hold a NUL character"));
    }
    let mut parser = Parser { text, at: 0, terms: 0, depth: 0 };
    parser.space();
    if parser.rest().is_empty() {
        return Ok(None);
    }
    let tree = parser.expression(None)?;
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
            after.is_empty() || after.starts_with(|c: char| c.is_whitespace() || c == '(' || c == ')')
        })
    }

    /// What stands here, for people.
    fn token(&self) -> String {
        let word: String = self.rest().chars().take_while(|c| c.is_alphanumeric()).take(40).collect();
        match self.peek() {
            None => "the end".to_owned(),
            Some(_) if !word.is_empty() => format!("`{word}`"),
            Some(other) => format!("`{other}`"),
        }
    }

    /// `sequence {AND sequence}`, of values if there is a left side for them.
    fn expression(&mut self, left: Option<&Left>) -> Result<Tree, FilterError> {
        let mut parts = Vec::new();
        loop {
            self.space();
            parts.push(self.factor(left)?);
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
    fn factor(&mut self, left: Option<&Left>) -> Result<Tree, FilterError> {
        let mut parts = vec![self.term(left)?];
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
            parts.push(self.term(left)?);
        }
        Ok(single(parts, Tree::Or))
    }

    /// `[NOT | -] simple`
    fn term(&mut self, left: Option<&Left>) -> Result<Tree, FilterError> {
        for word in ["AND", "OR"] {
            if self.keyword(word) {
                return Err(FilterError::new(self.at, format!("{word} needs a term before it")));
            }
        }
        let negative = self.rest().strip_prefix('-').is_some_and(|after| after.starts_with(is_digit));
        let skipped = match self.peek() {
            _ if self.keyword("NOT") => 3,
            // Among values, `-5` is a number.
            Some('-') if left.is_none() || !negative => 1,
            _ => return self.simple(left),
        };
        self.at += skipped;
        self.space();
        Ok(Tree::Not(Box::new(self.nested(|parser| parser.term(left))?)))
    }

    fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, FilterError>,
    ) -> Result<T, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError::new(self.at, format!("is nested more than {MAX_DEPTH} deep")));
        }
        let parsed = parse(self)?;
        self.depth -= 1;
        Ok(parsed)
    }

    /// `(expression)` of values or terms.
    fn group(&mut self, left: Option<&Left>) -> Result<Tree, FilterError> {
        let start = self.at;
        self.at += 1;
        let inner = self.nested(|parser| parser.expression(left))?;
        if self.peek() != Some(')') {
            return Err(FilterError::new(start, "`(` is never closed"));
        }
        self.at += 1;
        Ok(inner)
    }

    fn simple(&mut self, left: Option<&Left>) -> Result<Tree, FilterError> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(FilterError::new(self.at, format!("has more than {MAX_TERMS} terms")));
        }
        let start = self.at;
        match self.peek() {
            Some('(') => return self.group(left),
            None | Some(')') => {
                return Err(FilterError::new(start, format!("a term is missing before {}", self.token())));
            }
            _ => {}
        }
        if let Some(Left { path, operator }) = left {
            let value = self.argument()?;
            let after = self.rest().trim_start();
            if let Some((symbol, _)) = OPERATORS.iter().find(|(symbol, _)| after.starts_with(symbol)) {
                let at = self.text.len() - after.len();
                let problem = format!("a group of values holds values alone, no comparison `{symbol}`");
                return Err(FilterError::new(at, problem));
            }
            return Ok(Tree::Compare { path: path.clone(), operator: *operator, value });
        }
        let path = self.path()?;
        if self.peek() == Some('(') {
            let name = &self.text[start..self.at];
            let problem = format!("a function such as `{name}` stands right of a comparison alone");
            return Err(FilterError::new(start, problem));
        }
        self.space_before_operator();
        let operator_at = self.at;
        let Some((symbol, operator)) = self.operator() else {
            let text: Vec<&str> = path.iter().map(|segment| segment.pattern.as_str()).collect();
            return Ok(Tree::Text(Word { text: text.join("."), position: start }));
        };
        self.space();
        if self.peek() != Some('(') {
            return Ok(Tree::Compare { path, operator, value: self.argument()? });
        }
        match operator {
            Operator::Equal | Operator::Has => self.group(Some(&Left { path, operator })),
            // None of them, not: one of them differs.
            Operator::NotEqual => {
                let inner = self.group(Some(&Left { path, operator: Operator::Equal }))?;
                Ok(Tree::Not(Box::new(inner)))
            }
            _ => {
                let problem = format!("`{symbol}` takes one value, no group; `=`, `!=` and `:` take groups");
                Err(FilterError::new(operator_at, problem))
            }
        }
    }

    /// Spaces may stand before an operator, not before the next term.
    fn space_before_operator(&mut self) {
        let trimmed = self.rest().trim_start();
        if trimmed.starts_with(['=', '!', '<', '>', ':']) {
            self.at += self.rest().len() - trimmed.len();
        }
    }

    fn path(&mut self) -> Result<Vec<Segment>, FilterError> {
        let mut path = Vec::new();
        loop {
            let position = self.at;
            let pattern = match self.peek() {
                Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
                _ => self.until(|c| c.is_whitespace() || "()=!<>:.\"'".contains(c)),
            };
            if pattern.is_empty() && !self.text[position..].starts_with(['"', '\'']) {
                let problem = format!("a field or a word is missing before {}", self.token());
                return Err(FilterError::new(self.at, problem));
            }
            path.push(Segment { text: Pattern::new(&pattern).text(), pattern, position });
            if self.peek() != Some('.') {
                return Ok(path);
            }
            self.at += 1;
        }
    }

    fn operator(&mut self) -> Option<(&'static str, Operator)> {
        let found = OPERATORS.iter().find(|(text, _)| self.rest().starts_with(text))?;
        self.at += found.0.len();
        Some(*found)
    }

    /// A value or a call.
    fn argument(&mut self) -> Result<Argument, FilterError> {
        let word = self.value(&[])?;
        if self.peek() != Some('(') {
            return Ok(Argument::Word(word));
        }
        let start = self.at;
        self.at += 1;
        let mut arguments = Vec::new();
        loop {
            self.space();
            match self.peek() {
                None => return Err(FilterError::new(start, "`(` is never closed")),
                Some(')') => break,
                _ => {}
            }
            arguments.push(self.value(&[','])?);
            self.space();
            match self.peek() {
                Some(',') => self.at += 1,
                Some(')') => break,
                None => return Err(FilterError::new(start, "`(` is never closed")),
                Some(_) => {
                    let problem = format!("`,` or `)` is missing before {}", self.token());
                    return Err(FilterError::new(self.at, problem));
                }
            }
        }
        self.at += 1;
        Ok(Argument::Call(Call { name: word.text, arguments, position: word.position }))
    }

    fn value(&mut self, ends: &[char]) -> Result<Word, FilterError> {
        let position = self.at;
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            return Ok(Word { text: self.quoted(quote)?, position });
        }
        let keyword = ["AND", "OR", "NOT"].iter().any(|word| self.keyword(word));
        let missing = format!("a value is missing before {}; put text with spaces in quotes", self.token());
        let text = self.until(|c| c.is_whitespace() || "()\"".contains(c) || ends.contains(&c));
        if text.is_empty() || keyword {
            return Err(FilterError::new(position, missing));
        }
        if self.peek() == Some('"') {
            let problem = format!("`\"` is unexpected after `{text}`; put all of the value in quotes");
            return Err(FilterError::new(self.at, problem));
        }
        Ok(Word { text, position })
    }

    fn until(&mut self, end: impl Fn(char) -> bool) -> String {
        let length = self.rest().find(end).unwrap_or(self.rest().len());
        let text = &self.text[self.at..self.at + length];
        self.at += length;
        escape(text)
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
                // Kept for the wildcards.
                Some((_, special @ ('*' | '\\'))) => text.extend(['\\', special]),
                Some((_, escaped)) => text.push(escaped),
                None => break,
            }
        }
        Err(FilterError::new(start, "the quoted text has no end"))
    }
}

const OPERATORS: [(&str, Operator); 7] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("!=", Operator::NotEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
    (":", Operator::Has),
];

/// Without quotes, a backslash is itself but for `\*`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'*') => {
                characters.next();
                escaped.push_str("\\*");
            }
            '\\' => escaped.push_str("\\\\"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn is_digit(character: char) -> bool {
    character.is_ascii_digit()
}

fn single(mut parts: Vec<Tree>, many: fn(Vec<Tree>) -> Tree) -> Tree {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}

#[cfg(test)]
mod tests;
