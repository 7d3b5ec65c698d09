//! The header of an installed package as all databases of rpm hold it: numbers of
//! entries and of data bytes, an index of 16 bytes an entry, the data. All in big
//! endian. Format: "Package header" in the manual of rpm (format_header).

use std::io::{self, BufRead, BufReader, Read};

use super::super::MAX_TEXT_BYTES;

/// Most entries of an index (rpm's own limit is 65,535).
const MAX_ENTRIES: u32 = 0xffff;
/// Most bytes of data (rpm's own limit).
const MAX_DATA_BYTES: u32 = 256 * 1024 * 1024;

/// Tags that are read (rpmtag.h).
pub(in crate::probe::packages) mod tag {
    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const EPOCH: u32 = 1003;
    pub const SUMMARY: u32 = 1004;
    pub const SIZE: u32 = 1009;
    pub const VENDOR: u32 = 1011;
    pub const LICENSE: u32 = 1014;
    pub const PACKAGER: u32 = 1015;
    pub const GROUP: u32 = 1016;
    pub const URL: u32 = 1020;
    pub const ARCH: u32 = 1022;
    pub const SOURCE_RPM: u32 = 1044;
    pub const PROVIDE_NAME: u32 = 1047;
    pub const DIR_INDEXES: u32 = 1116;
    pub const BASE_NAMES: u32 = 1117;
    pub const DIR_NAMES: u32 = 1118;
    pub const LONG_SIZE: u32 = 5009;
}

/// One value of an entry.
#[derive(Debug, PartialEq)]
pub(in crate::probe::packages) enum Value<'a> {
    /// Without its NUL, and cut to what is kept of any text.
    Text(&'a [u8]),
    Number(u64),
}

/// Why a header cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database fails.
    Read(io::Error),
    /// The header is broken; the others may be whole.
    Malformed(&'static str),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    format: u32,
    offset: u32,
    count: u32,
}

/// Tells `on` the values of the `wanted` tags, each with its place in its entry,
/// in the order in which they are stored. Reads no further than it must, and
/// keeps one value in memory.
pub(super) fn walk(
    blob: &mut dyn Read,
    length: u64,
    wanted: &[u32],
    on: &mut dyn FnMut(u32, u32, Value<'_>),
) -> Result<(), Fault> {
    if length < 8 {
        return Err(Fault::Malformed("shorter than its own beginning"));
    }
    let mut reader = BufReader::with_capacity(4096, blob);
    let (entries, data) = (number(&mut reader, 4)? as u32, number(&mut reader, 4)? as u32);
    if entries > MAX_ENTRIES
        || data > MAX_DATA_BYTES
        || 8 + 16 * u64::from(entries) + u64::from(data) > length
    {
        return Err(Fault::Malformed("states more entries than it has"));
    }
    let mut index: Vec<Entry> = Vec::new();
    for _ in 0..entries {
        let mut fields = [0; 4];
        for field in &mut fields {
            *field = number(&mut reader, 4)? as u32;
        }
        let [tag, format, offset, count] = fields;
        if !wanted.contains(&tag) {
            continue;
        }
        // What was added when it was installed comes last and counts.
        index.retain(|entry| entry.tag != tag);
        index.push(Entry { tag, format, offset, count });
    }
    index.sort_by_key(|entry| entry.offset);
    let mut data = reader.take(u64::from(data));
    let mut at = 0;
    for entry in index {
        let gap = u64::from(entry.offset).checked_sub(at).ok_or(Fault::Malformed("entries overlap"))?;
        let left = data.limit();
        if io::copy(&mut (&mut data).take(gap), &mut io::sink())? < gap {
            return Err(Fault::Malformed("an entry is beyond its end"));
        }
        values(entry, &mut data, on)?;
        at += left - data.limit();
    }
    Ok(())
}

fn values(
    entry: Entry,
    data: &mut impl BufRead,
    on: &mut dyn FnMut(u32, u32, Value<'_>),
) -> Result<(), Fault> {
    let mut text = Vec::new();
    for place in 0..entry.count {
        match entry.format {
            // INT8 (and CHAR), INT16, INT32, INT64.
            1..=5 => {
                let bytes = [1, 1, 2, 4, 8][entry.format as usize - 1];
                let value = number(data, bytes).map_err(beyond)?;
                on(entry.tag, place, Value::Number(value));
            }
            // STRING, STRING_ARRAY, I18NSTRING.
            6 | 8 | 9 => {
                text.clear();
                data.take(MAX_TEXT_BYTES as u64).read_until(0, &mut text)?;
                if text.last() != Some(&0) {
                    let rest = data.skip_until(0)?;
                    if rest == 0 {
                        return Err(Fault::Malformed("a text has no end"));
                    }
                } else {
                    text.pop();
                }
                on(entry.tag, place, Value::Text(&text));
            }
            _ => return Err(Fault::Malformed("an entry is of a type that its tag cannot have")),
        }
    }
    Ok(())
}

/// The end of the data, not of the database.
fn beyond(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::Malformed("an entry is beyond its end"),
        _ => Fault::Read(error),
    }
}

fn number(reader: &mut impl Read, bytes: usize) -> io::Result<u64> {
    let mut buffer = [0; 8];
    reader.read_exact(&mut buffer[8 - bytes..])?;
    Ok(u64::from_be_bytes(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of these entries: tag, type, count, data.
    fn header(entries: &[(u32, u32, u32, &[u8])]) -> Vec<u8> {
        let data: usize = entries.iter().map(|entry| entry.3.len()).sum();
        let mut bytes = Vec::new();
        bytes.extend((entries.len() as u32).to_be_bytes());
        bytes.extend((data as u32).to_be_bytes());
        let mut offset = 0u32;
        for (tag, format, count, data) in entries {
            for field in [*tag, *format, offset, *count] {
                bytes.extend(field.to_be_bytes());
            }
            offset += data.len() as u32;
        }
        entries.iter().for_each(|entry| bytes.extend(entry.3));
        bytes
    }

    fn seen(bytes: &[u8], wanted: &[u32]) -> Result<Vec<String>, Fault> {
        let mut seen = Vec::new();
        walk(&mut &bytes[..], bytes.len() as u64, wanted, &mut |tag, place, value| {
            seen.push(match value {
                Value::Text(text) => format!("{tag}.{place}={}", String::from_utf8_lossy(text)),
                Value::Number(number) => format!("{tag}.{place}={number}"),
            });
        })?;
        Ok(seen)
    }

    #[test]
    fn only_wanted_values_are_told_and_later_entries_count() {
        let bytes = header(&[
            (1000, 6, 1, b"old\0"),
            (9999, 7, 3, b"\0\0\0"),
            (1003, 4, 1, &[0, 0, 0, 7]),
            (1118, 8, 3, b"/a/\0\0/b/\0"),
            (1000, 6, 1, b"new\0"),
            (5009, 5, 1, &[0, 0, 0, 1, 0, 0, 0, 0]),
        ]);
        let expected = ["1003.0=7", "1118.0=/a/", "1118.1=", "1118.2=/b/", "1000.0=new", "5009.0=4294967296"];
        assert_eq!(seen(&bytes, &[1000, 1003, 1118, 5009, 1]).unwrap(), expected);
    }

    #[test]
    fn a_long_text_is_cut_and_the_next_is_whole() {
        let long = [vec![b'x'; 3 * MAX_TEXT_BYTES], b"\0next\0".to_vec()].concat();
        let seen = seen(&header(&[(1004, 9, 2, &long)]), &[1004]).unwrap();
        assert_eq!(seen[0].len(), "1004.0=".len() + MAX_TEXT_BYTES);
        assert_eq!(seen[1], "1004.1=next");
    }

    #[test]
    fn broken_headers_are_told_from_broken_databases() {
        let whole = header(&[(1000, 6, 1, b"name\0"), (1003, 4, 1, &[0, 0, 0, 7])]);
        for (at, value) in
            [(3, 200), (7, 200), (11, 0xff), (16, 1), (19, 200), (23, 2), (31, 4), (39, 9), (35, 1)]
        {
            let mut bytes = whole.clone();
            bytes[at] = value;
            match seen(&bytes, &[1000, 1003]) {
                Ok(_) | Err(Fault::Malformed(_)) => {}
                Err(Fault::Read(error)) => panic!("{at}: {error}"),
            }
        }
        assert!(matches!(seen(b"short", &[1000]), Err(Fault::Malformed(_))));
        let cut = walk(&mut &whole[..20], whole.len() as u64, &[1000], &mut |_, _, _| {});
        assert!(matches!(cut, Err(Fault::Read(_))));
    }
}
