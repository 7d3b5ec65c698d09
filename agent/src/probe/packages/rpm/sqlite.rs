//! The table `Packages` of an SQLite database, read without SQLite: no lock, no
//! shared memory and no write, so that it works on a read-only mount and for
//! another user, and yet with what is only in the write-ahead log. Format:
//! sqlite.org/fileformat2.html.

mod wal;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use self::wal::Wal;
use super::{OnHeader, broken};

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Begins a rollback journal that is still to be played back.
const HOT_JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// Bytes before the b-tree on page 1.
const HEADER_BYTES: usize = 100;
/// Deepest tree; one of 10 levels has more pages than a file can.
const MAX_DEPTH: usize = 12;
/// Most bytes of a record's own header; that of `Packages` has three.
const MAX_RECORD_HEADER: u64 = 4096;

/// Tells the header of each package, in the order of their numbers.
pub(super) fn each(
    file: File,
    wal: Option<File>,
    journal: Option<File>,
    on: &mut OnHeader<'_>,
) -> io::Result<()> {
    let mut magic = [0; 8];
    if journal.is_some_and(|journal| journal.read_exact_at(&mut magic, 0).is_ok()) && magic == HOT_JOURNAL {
        return Err(broken("a transaction is under way, or was cut off and not undone"));
    }
    let pager = Pager::open(file, wal)?;
    let mut root = None;
    pager.walk(1, 0, &mut |_, mut payload| {
        root = root.or(payload.table_root("Packages")?);
        Ok(())
    })?;
    let root = root.ok_or_else(|| broken("has no table Packages"))?;
    pager.walk(root, 0, &mut |number, mut payload| {
        let length = payload.find_blob()?;
        on(number as u32, &mut payload.take(length), length)
    })
}

struct Pager {
    file: File,
    wal: Option<Wal>,
    page_size: usize,
    /// Bytes of a page without what extensions reserve at its end.
    usable: usize,
    /// Pages that may still be read: each has its place in one tree, so whoever
    /// needs more goes in a circle.
    left: Cell<u64>,
}

impl Pager {
    fn open(file: File, wal: Option<File>) -> io::Result<Self> {
        let wal = match wal {
            Some(wal) => Wal::read(wal)?,
            None => None,
        };
        let mut header = [0; HEADER_BYTES];
        let page_size = match &wal {
            Some(wal) => wal.page_size,
            None => {
                file.read_exact_at(&mut header, 0)?;
                page_size(u32::from(u16::from_be_bytes([header[16], header[17]])))?
            }
        };
        let pages = file.metadata()?.len().div_ceil(page_size as u64);
        let pages = wal.as_ref().map_or(pages, |wal| pages.max(u64::from(wal.pages)));
        let mut pager = Self { file, wal, page_size, usable: page_size, left: Cell::new(pages + 1) };
        pager.read(1, 0, &mut header)?;
        if !header.starts_with(MAGIC) {
            return Err(broken("is no SQLite database"));
        }
        pager.usable = page_size - usize::from(header[20]);
        if pager.usable < 480 {
            return Err(broken("reserves too much of its pages"));
        }
        // Page 1 is read once more for its tree.
        pager.left.set(pages + 1);
        Ok(pager)
    }

    /// Reads a part of a page, from the log if that has it.
    fn read(&self, page: u32, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| broken("its pages form a circle"))?;
        self.left.set(left);
        self.read_again(page, offset, buffer)
    }

    /// The same for a page that is already counted.
    fn read_again(&self, page: u32, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        let index = u64::from(page).checked_sub(1).ok_or_else(|| broken("points to page 0"))?;
        let read = match self.wal.as_ref().and_then(|wal| Some((wal, wal.frame(page)?))) {
            Some((wal, at)) => wal.file.read_exact_at(buffer, at + offset as u64),
            None => self.file.read_exact_at(buffer, index * self.page_size as u64 + offset as u64),
        };
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => broken("points beyond its end"),
            _ => error,
        })
    }

    /// Walks the table whose tree begins at `page`.
    fn walk(
        &self,
        page: u32,
        depth: usize,
        on: &mut dyn FnMut(u64, Payload<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if depth == MAX_DEPTH {
            return Err(broken("its tree is too deep"));
        }
        let mut bytes = vec![0; self.page_size];
        self.read(page, 0, &mut bytes)?;
        bytes.truncate(self.usable);
        let base = if page == 1 { HEADER_BYTES } else { 0 };
        let leaf = match bytes[base] {
            5 => false,
            13 => true,
            _ => return Err(broken("a page of its table is of another kind")),
        };
        let cells = usize::from(u16::from_be_bytes([bytes[base + 3], bytes[base + 4]]));
        let pointers = base + if leaf { 8 } else { 12 };
        for cell in 0..cells {
            let at = pointers + 2 * cell;
            let pointer = bytes.get(at..at + 2).ok_or_else(|| broken("a page has too many cells"))?;
            let at = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
            let cell = bytes.get(at..).ok_or_else(|| broken("a cell is beyond its page"))?;
            if leaf {
                let (number, payload) = self.payload(cell)?;
                on(number, payload)?;
            } else {
                self.walk(page_number(cell)?, depth + 1, on)?;
            }
        }
        if leaf { Ok(()) } else { self.walk(page_number(&bytes[base + 8..])?, depth + 1, on) }
    }

    /// Number and content of a row; see "B-tree Cell Format" for what of it is
    /// on the page.
    fn payload<'a>(&'a self, mut cell: &[u8]) -> io::Result<(u64, Payload<'a>)> {
        let length = varint(&mut cell)?;
        let number = varint(&mut cell)?;
        if length > i32::MAX as u64 {
            return Err(broken("a row is too long"));
        }
        let (usable, total) = (self.usable, length as usize);
        let local = if total <= usable - 35 {
            total
        } else {
            let least = (usable - 12) * 32 / 255 - 23;
            let most = least + (total - least) % (usable - 4);
            if most <= usable - 35 { most } else { least }
        };
        let mut bytes = cell.get(..local).ok_or_else(|| broken("a row is beyond its page"))?.to_vec();
        let next = if local < total { page_number(&cell[local..])? } else { 0 };
        bytes.shrink_to_fit();
        let pager = self;
        Ok((number, Payload { pager, part: Part::Local(bytes), at: 0, next, left: length - local as u64 }))
    }
}

pub(super) fn page_size(stated: u32) -> io::Result<usize> {
    let size = if stated == 1 { 65536 } else { stated };
    if !size.is_power_of_two() || !(512..=65536).contains(&size) {
        return Err(broken("is no SQLite database"));
    }
    Ok(size as usize)
}

fn page_number(bytes: &[u8]) -> io::Result<u32> {
    let bytes = bytes.first_chunk().ok_or_else(|| broken("a cell is beyond its page"))?;
    Ok(u32::from_be_bytes(*bytes))
}

fn varint(reader: &mut impl Read) -> io::Result<u64> {
    let mut value = 0u64;
    for place in 0..9 {
        let mut byte = [0];
        reader.read_exact(&mut byte).map_err(|_| broken("a number is cut off"))?;
        if place == 8 {
            return Ok(value << 8 | u64::from(byte[0]));
        }
        value = value << 7 | u64::from(byte[0] & 0x7f);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

/// The bytes of a row: first those in its cell, then page by page.
struct Payload<'a> {
    pager: &'a Pager,
    part: Part,
    /// Bytes read of this part.
    at: usize,
    /// Next page of the row.
    next: u32,
    /// Bytes on the pages to come.
    left: u64,
}

enum Part {
    Local(Vec<u8>),
    /// Number of an overflow page and bytes of the row on it.
    Page(u32, usize),
}

impl Read for Payload<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = match &self.part {
            Part::Local(bytes) => bytes.len(),
            Part::Page(_, length) => *length,
        };
        if self.at == length {
            if self.left == 0 {
                return Ok(0);
            }
            let page = self.next;
            let mut next = [0; 4];
            self.pager.read(page, 0, &mut next)?;
            self.next = u32::from_be_bytes(next);
            let length = self.left.min(self.pager.usable as u64 - 4);
            self.left -= length;
            (self.part, self.at) = (Part::Page(page, length as usize), 0);
            return self.read(buffer);
        }
        let count = buffer.len().min(length - self.at);
        match &self.part {
            Part::Local(bytes) => buffer[..count].copy_from_slice(&bytes[self.at..self.at + count]),
            Part::Page(page, _) => self.pager.read_again(*page, 4 + self.at, &mut buffer[..count])?,
        }
        self.at += count;
        Ok(count)
    }
}

impl Payload<'_> {
    /// Serial types of the columns ("Record Format").
    fn columns(&mut self) -> io::Result<Vec<u64>> {
        let length = varint(self)?;
        if length == 0 || length > MAX_RECORD_HEADER {
            return Err(broken("a row has too many columns"));
        }
        // The length counts its own bytes.
        let own = if length < 128 { 1 } else { 2 };
        let mut bytes = vec![0; length as usize - own];
        self.read_exact(&mut bytes)?;
        let mut bytes = bytes.as_slice();
        let mut columns = Vec::new();
        while !bytes.is_empty() {
            columns.push(varint(&mut bytes)?);
        }
        Ok(columns)
    }

    /// Goes to the first column that is a blob; its length.
    fn find_blob(&mut self) -> io::Result<u64> {
        for column in self.columns()? {
            let length = column_bytes(column)?;
            if column >= 12 && column.is_multiple_of(2) {
                return Ok(length);
            }
            io::copy(&mut self.by_ref().take(length), &mut io::sink())?;
        }
        Err(broken("a row holds no header"))
    }

    /// Of a row of the schema: where the tree of the table `name` begins.
    fn table_root(&mut self, name: &str) -> io::Result<Option<u32>> {
        let columns = self.columns()?;
        let mut texts = Vec::new();
        for column in columns.iter().take(4) {
            let mut bytes = Vec::new();
            self.by_ref().take(column_bytes(*column)?.min(64)).read_to_end(&mut bytes)?;
            texts.push(bytes);
        }
        let [kind, its_name, _, root] = texts.as_slice() else { return Ok(None) };
        if kind != b"table" || its_name != name.as_bytes() || root.len() > 4 {
            return Ok(None);
        }
        Ok(Some(root.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))))
    }
}

fn column_bytes(serial_type: u64) -> io::Result<u64> {
    Ok(match serial_type {
        0 | 8 | 9 => 0,
        1..=4 => serial_type,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return Err(broken("a column is of no known type")),
        _ => (serial_type - 12) / 2,
    })
}
