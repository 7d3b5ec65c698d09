//! Writes what agents see as JSON, by the fields that the contracts know at compile
//! time: by descriptor it takes ten times as long.

use contracts::json::{JsonObject, Name, WriteJson};
use prost_types::Timestamp;

/// How fields are written. Either way defaults are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As ProtoJSON: names in camel case, numbers of 64 bits as texts.
    ProtoJson,
    /// As searches name them: the contracts' names, numbers as numbers.
    Searchable,
}

/// An object that is being written.
pub struct Object<'a> {
    text: &'a mut String,
    style: Style,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object at the end of a text.
    pub fn begin(text: &'a mut String, style: Style) -> Self {
        text.push('{');
        Self { text, style, is_empty: true }
    }

    /// Ends it.
    pub fn end(self) {
        self.text.push('}');
    }

    fn name(&mut self, name: Name) {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(match self.style {
            Style::ProtoJson => name.json,
            Style::Searchable => name.proto,
        });
        self.text.push_str("\":");
    }

    fn list<T>(&mut self, name: Name, items: impl Iterator<Item = T>, mut item: impl FnMut(&mut String, T)) {
        self.name(name);
        self.text.push('[');
        for (index, one) in items.enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            item(self.text, one);
        }
        self.text.push(']');
    }
}

/// RFC 8259, 7: quotes, backslashes and control characters are escaped. What lies
/// between is copied in one piece.
fn quote(into: &mut String, text: &str) {
    into.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        let (plain, special) = rest.split_at(at);
        into.push_str(plain);
        match special.as_bytes()[0] {
            b'"' => into.push_str("\\\""),
            b'\\' => into.push_str("\\\\"),
            b'\n' => into.push_str("\\n"),
            b'\t' => into.push_str("\\t"),
            control => into.push_str(&format!("\\u{control:04x}")),
        }
        rest = &special[1..];
    }
    into.push_str(rest);
    into.push('"');
}

impl JsonObject for Object<'_> {
    fn text(&mut self, name: Name, text: &str) {
        if !text.is_empty() {
            self.name(name);
            quote(self.text, text);
        }
    }

    fn texts(&mut self, name: Name, texts: &[String]) {
        if !texts.is_empty() {
            self.list(name, texts.iter(), |into, text| quote(into, text));
        }
    }

    fn flag(&mut self, name: Name, flag: bool) {
        if flag {
            self.name(name);
            self.text.push_str("true");
        }
    }

    fn number(&mut self, name: Name, number: i64) {
        self.name(name);
        self.text.push_str(&number.to_string());
    }

    fn numbers(&mut self, name: Name, numbers: &[u32]) {
        if !numbers.is_empty() {
            self.list(name, numbers.iter(), |into, number| into.push_str(&number.to_string()));
        }
    }

    fn long(&mut self, name: Name, number: u64) {
        if number != 0 {
            self.name(name);
            match self.style {
                Style::ProtoJson => quote(self.text, &number.to_string()),
                Style::Searchable => self.text.push_str(&number.to_string()),
            }
        }
    }

    fn word(&mut self, name: Name, number: i32, word: Option<&'static str>) {
        if number == 0 {
            return;
        }
        self.name(name);
        match word {
            Some(word) => quote(self.text, word),
            None => self.text.push_str(&number.to_string()),
        }
    }

    fn time(&mut self, name: Name, time: &Timestamp) {
        self.name(name);
        quote(self.text, &time.to_string());
    }

    fn message(&mut self, name: Name, message: &dyn WriteJson) {
        self.name(name);
        let mut object = Object::begin(self.text, self.style);
        message.fields(&mut object);
        object.end();
    }

    fn messages(&mut self, name: Name, messages: &mut dyn ExactSizeIterator<Item = &dyn WriteJson>) {
        if messages.len() > 0 {
            let style = self.style;
            self.list(name, messages, |into, message| {
                let mut object = Object::begin(into, style);
                message.fields(&mut object);
                object.end();
            });
        }
    }
}
