//! The words of sudoers(5), as far as they name users.

use std::fmt;

use crate::text::clean;

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// Who may do something, or aliases of users.
    Entries(Vec<Entry>),
    /// `@include` and `#include`.
    Include(String),
    /// `@includedir` and `#includedir`.
    IncludeFolder(String),
    /// Anything else: options, other aliases, what sudo would not understand.
    Other,
}

/// A list of users.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    Users(Vec<Item>),
    Alias(String, Vec<Item>),
}

/// One name in a list of users.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) negated: bool,
    pub(super) who: Who,
}

/// Whom a name means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Who {
    All,
    User(String),
    Uid(u32),
    Group(String),
    Gid(u32),
    Alias(String),
    /// A netgroup or a group of a plugin.
    Elsewhere,
}

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => out.write_str("ALL"),
            Self::User(name) | Self::Alias(name) => out.write_str(name),
            Self::Uid(uid) => write!(out, "#{uid}"),
            Self::Group(name) => write!(out, "%{name}"),
            Self::Gid(gid) => write!(out, "%#{gid}"),
            Self::Elsewhere => Ok(()),
        }
    }
}

/// Lines with those that end in a backslash joined to the next, without the
/// line breaks.
pub(super) fn logical_lines(text: &[u8]) -> Vec<String> {
    let text = clean(text);
    let mut lines = Vec::new();
    let mut pending = String::new();
    for line in text.lines() {
        // A comment ends with its line, whatever its last character is.
        let is_comment = pending.is_empty()
            && line
                .trim_start()
                .strip_prefix('#')
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
        match line.strip_suffix('\\') {
            Some(part) if !is_comment => pending.push_str(part),
            _ => {
                pending.push_str(line);
                lines.push(std::mem::take(&mut pending));
            }
        }
    }
    lines.push(pending);
    lines
}

/// Parses one logical line.
pub(super) fn parse_line(line: &str) -> Line {
    let line = line.trim();
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    match word {
        "@include" | "#include" => return path_of(rest).map_or(Line::Other, Line::Include),
        "@includedir" | "#includedir" => return path_of(rest).map_or(Line::Other, Line::IncludeFolder),
        "User_Alias" => return parse_aliases(rest),
        "Runas_Alias" | "Host_Alias" | "Cmnd_Alias" | "Cmd_Alias" => return Line::Other,
        _ if word.starts_with("Defaults") && is_defaults(word) => return Line::Other,
        _ => {}
    }
    let mut reader = Reader(line);
    match reader.list() {
        // `WHO HOST = …`; a line without it is nothing that sudo understands.
        Some(list) if reader.0.contains('=') => Line::Entries(vec![Entry::Users(list)]),
        _ => Line::Other,
    }
}

/// `Defaults`, or one with a scope: `Defaults:alice`, `Defaults@host`,
/// `Defaults!command`, `Defaults>root`.
fn is_defaults(word: &str) -> bool {
    word["Defaults".len()..].chars().next().is_none_or(|next| ":@!>".contains(next))
}

/// `NAME = who, who : NAME = who`; what is wrong ends it.
fn parse_aliases(rest: &str) -> Line {
    let mut reader = Reader(rest);
    let mut aliases = Vec::new();
    loop {
        reader.blanks();
        let Some(name) = reader.alias_name() else { break };
        let Some(list) = reader.list() else { break };
        aliases.push(Entry::Alias(name, list));
        let Some(rest) = reader.0.strip_prefix(':') else { break };
        reader.0 = rest;
    }
    Line::Entries(aliases)
}

/// A path, in quotation marks or with backslashes before its blanks.
fn path_of(text: &str) -> Option<String> {
    let text = text.trim();
    let path = match text.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default().to_owned(),
        None => Reader(text).word(&[]),
    };
    (!path.is_empty()).then_some(path)
}

/// What is left of a line.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    /// Names with commas between them.
    fn list(&mut self) -> Option<Vec<Item>> {
        let mut list = Vec::new();
        loop {
            self.blanks();
            list.push(self.item()?);
            self.blanks();
            match self.0.strip_prefix(',') {
                Some(rest) => self.0 = rest,
                None => return Some(list),
            }
        }
    }

    fn item(&mut self) -> Option<Item> {
        let mut negated = false;
        while let Some(rest) = self.0.strip_prefix('!') {
            negated = !negated;
            self.0 = rest.trim_start();
        }
        let who = if let Some(rest) = self.0.strip_prefix('"') {
            let (quoted, rest) = rest.split_once('"')?;
            self.0 = rest;
            who_of(quoted, true)?
        } else {
            let is_id = self.0.starts_with('#') || self.0.starts_with("%#");
            let word = self.word(&[',', '=', ':', '!', '(', ')']);
            // A pound sign that no number follows begins a comment.
            if is_id && !word.trim_start_matches(['%', '#']).starts_with(|c: char| c.is_ascii_digit()) {
                return None;
            }
            who_of(&word, false)?
        };
        Some(Item { negated, who })
    }

    /// Up to a blank or one of `ends`; a backslash takes the meaning from what
    /// follows it.
    fn word(&mut self, ends: &[char]) -> String {
        let mut word = String::new();
        let mut characters = self.0.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => word.extend(characters.next().map(|(_, escaped)| escaped)),
                // `%:group` is one of a plugin.
                ':' if word == "%" => word.push(':'),
                _ if character.is_whitespace() || ends.contains(&character) => {
                    self.0 = &self.0[at..];
                    return word;
                }
                // A comment, but for an ID at the beginning.
                '#' if !word.is_empty() && word != "%" => {
                    self.0 = &self.0[at..];
                    return word;
                }
                _ => word.push(character),
            }
        }
        self.0 = "";
        word
    }

    /// `NAME =`.
    fn alias_name(&mut self) -> Option<String> {
        let name = self.word(&['=', ':', ',']);
        self.blanks();
        self.0 = self.0.strip_prefix('=')?;
        is_alias(&name).then_some(name)
    }

    fn blanks(&mut self) {
        self.0 = self.0.trim_start();
    }
}

fn who_of(word: &str, quoted: bool) -> Option<Who> {
    if let Some(group) = word.strip_prefix('%') {
        if group.starts_with(':') {
            return Some(Who::Elsewhere);
        }
        if let Some(gid) = group.strip_prefix('#') {
            return gid.parse().ok().map(Who::Gid);
        }
        return (!group.is_empty()).then(|| Who::Group(group.to_owned()));
    }
    if word.starts_with('+') {
        return Some(Who::Elsewhere);
    }
    if let Some(uid) = word.strip_prefix('#') {
        return uid.parse().ok().map(Who::Uid);
    }
    match word {
        "" => None,
        "ALL" if !quoted => Some(Who::All),
        _ if !quoted && is_alias(word) => Some(Who::Alias(word.to_owned())),
        _ => Some(Who::User(word.to_owned())),
    }
}

/// `[A-Z][A-Z0-9_]*`.
fn is_alias(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}
