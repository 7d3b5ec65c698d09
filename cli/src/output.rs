//! Where answers go: a table, JSON lines or CSV.

use std::{fmt::Write as _, io::Write};

use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::{
    args::Format,
    cell::{self, Clock},
    failure::Failure,
    table::Table,
};

/// One column of what is listed.
pub struct Column<T> {
    /// Name, as in the contract.
    pub name: &'static str,
    /// Whether the table has it; CSV has all.
    pub in_table: bool,
    /// Its text, as it is.
    pub text: fn(&T, Clock) -> String,
}

/// What can be listed as table and CSV.
pub trait Row: Sized {
    /// Columns from the left.
    fn columns() -> Vec<Column<Self>>;
}

/// Writes one list of one kind of thing, page by page.
pub struct Output<W> {
    sink: W,
    format: Format,
    utc: bool,
    to_terminal: bool,
    begun: bool,
    table: Table,
    contracts: DescriptorPool,
}

impl<W: Write> Output<W> {
    /// Begins a list. For a terminal CSV is escaped too; else its values are
    /// kept to the letter.
    ///
    /// # Errors
    /// The contracts that are built in cannot be read.
    pub fn new(sink: W, format: Format, utc: bool, to_terminal: bool) -> Result<Self, Failure> {
        let contracts = DescriptorPool::decode(contracts::DESCRIPTOR_SET)
            .map_err(|error| Failure::Unshowable(error.to_string()))?;
        Ok(Self { sink, format, utc, to_terminal, begun: false, table: Table::default(), contracts })
    }

    /// Whether people read it, or a program that wants the messages.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// How times are shown: whole seconds for people.
    pub fn clock(&self) -> Clock {
        Clock { utc: self.utc, seconds: self.format == Format::Table }
    }

    /// Writes a page of messages called `assettrack.v1.{name}`.
    ///
    /// # Errors
    /// The page cannot be written, or a message not be shown.
    pub fn messages<T: Row + prost::Message>(&mut self, name: &str, page: &[T]) -> Result<(), Failure> {
        if !self.is_json() {
            return self.rows(page);
        }
        let mut text = String::new();
        for message in page {
            text.push_str(&self.json(name, message)?);
            text.push('\n');
        }
        self.write(text.as_bytes())
    }

    /// Writes one message as ProtoJSON.
    ///
    /// # Errors
    /// It cannot be written or shown.
    pub fn message(&mut self, name: &str, message: &impl prost::Message) -> Result<(), Failure> {
        let mut text = self.json(name, message)?;
        text.push('\n');
        self.write(text.as_bytes())
    }

    /// The message with its descriptor.
    ///
    /// # Errors
    /// The contracts do not have it.
    pub fn reflect(&self, name: &str, message: &impl prost::Message) -> Result<DynamicMessage, Failure> {
        let descriptor = self
            .contracts
            .get_message_by_name(&format!("assettrack.v1.{name}"))
            .ok_or_else(|| Failure::Unshowable(format!("there is no {name}")))?;
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
            .map_err(|error| Failure::Unshowable(error.to_string()))
    }

    /// JSON escapes C0 by itself. DEL, C1 and the like are legal in it, stand
    /// only in strings, and mean the same escaped.
    fn json(&self, name: &str, message: &impl prost::Message) -> Result<String, Failure> {
        let plain = serde_json::to_string(&self.reflect(name, message)?)
            .map_err(|error| Failure::Unshowable(error.to_string()))?;
        let mut safe = String::with_capacity(plain.len());
        for character in plain.chars() {
            if cell::drives_terminal(character) {
                let _ = write!(safe, "\\u{:04x}", u32::from(character));
            } else {
                safe.push(character);
            }
        }
        Ok(safe)
    }

    /// Writes a page of rows as table or CSV.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn rows<T: Row>(&mut self, page: &[T]) -> Result<(), Failure> {
        let is_table = self.format == Format::Table;
        let mut columns = T::columns();
        columns.retain(|column| column.in_table || !is_table);
        let header: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let clock = self.clock();
        let mut rows: Vec<Vec<String>> = Vec::with_capacity(page.len());
        for item in page {
            rows.push(columns.iter().map(|column| (column.text)(item, clock)).collect());
        }
        let text =
            if is_table { self.table.page(&header, &rows).into_bytes() } else { self.csv(&header, &rows)? };
        self.begun = true;
        self.write(&text)
    }

    fn csv(&self, header: &[&str], rows: &[Vec<String>]) -> Result<Vec<u8>, Failure> {
        let failure = |error: csv::Error| Failure::Output(error.into());
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        if !self.begun {
            writer.write_record(header).map_err(failure)?;
        }
        for row in rows {
            for value in row {
                let value = if self.to_terminal { cell::escaped(value) } else { value.into() };
                writer.write_field(cell::defused(&value).as_bytes()).map_err(failure)?;
            }
            writer.write_record(None::<&[u8]>).map_err(failure)?;
        }
        writer.into_inner().map_err(|error| Failure::Unshowable(error.to_string()))
    }

    fn write(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.sink.write_all(text)?;
        Ok(self.sink.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::v1::{Asset, AssetKind};

    fn written(format: Format, to_terminal: bool) -> String {
        let mut sink = Vec::new();
        let mut output = Output::new(&mut sink, format, true, to_terminal).unwrap();
        let asset = |name: &str| Asset {
            name: "assets/1".into(),
            kind: AssetKind::Package.into(),
            display_name: name.into(),
            revision: 3,
            ..Asset::default()
        };
        output.messages("Asset", &[asset("=a,\"b\"")]).unwrap();
        output.messages("Asset", &[asset("\u{1b}\u{9b}\nx")]).unwrap();
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn csv_is_rfc_4180_with_one_header_and_defused_cells() {
        let text = written(Format::Csv, false);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("name,kind,state,display_name,node_display_name,"), "{text}");
        assert!(lines[1].starts_with("assets/1,PACKAGE,,\"'=a,\"\"b\"\"\","), "{text}");
        assert!(lines[2].starts_with("assets/1,PACKAGE,,\"\u{1b}\u{9b}\nx\","), "{text}");
        assert_eq!(lines[3..], [""]);
        assert!(written(Format::Csv, true).contains(r"\u{1b}\u{9b}\nx"));
    }

    #[test]
    fn json_is_one_safe_object_a_line() {
        let text = written(Format::Json, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"name":"assets/1","kind":"ASSET_KIND_PACKAGE","displayName":"=a,\"b\"","revision":"3"}"#,
                r#"{"name":"assets/1","kind":"ASSET_KIND_PACKAGE","displayName":"\u001b\u009b\nx","revision":"3"}"#,
            ]
        );
        let read: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(read["displayName"], "\u{1b}\u{9b}\nx");
    }

    #[test]
    fn the_table_has_its_header_once() {
        let text = written(Format::Table, true);
        assert_eq!(text.lines().count(), 3);
        assert_eq!(text.matches("KIND").count(), 1);
        assert!(!text.contains('\u{1b}'));
    }
}
