//! A hash of Berkeley DB, `Packages`, as rpm wrote it up to 4.15 (RHEL 8 and
//! older). Format: db_page.h and hash.h of Berkeley DB 5.3; lib/backend/bdb_ro.cc
//! of rpm reads as little of it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::{OnHeader, broken};

const MAGIC: u32 = 0x0006_1561;
const PAGE_HEADER: usize = 26;
/// Types of pages: hash as older versions wrote it, overflow, hash.
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const METADATA: u8 = 8;
const HASH: u8 = 13;
/// Types of what is on a hash page: the data, or where it is.
const ON_PAGE: u8 = 1;
const OFF_PAGE: u8 = 3;

/// Tells the header of each package, in the order of the buckets.
pub(super) fn each(file: &File, on: &mut OnHeader<'_>) -> io::Result<()> {
    let database = Database::open(file)?;
    for bucket in 0..=database.last_bucket {
        let mut page = database.first_page(bucket)?;
        while page != 0 {
            page = database.hash_page(page, on)?;
        }
    }
    Ok(())
}

struct Database<'a> {
    file: &'a File,
    big_endian: bool,
    page_size: usize,
    last_bucket: u32,
    /// By the bit length of a bucket: what to add for its page.
    spares: [u32; 32],
    /// Pages that may still be read; each belongs to one chain.
    left: Cell<u64>,
}

impl<'a> Database<'a> {
    fn open(file: &'a File) -> io::Result<Self> {
        let mut meta = [0; 512];
        file.read_exact_at(&mut meta, 0).map_err(|_| broken("is shorter than a page"))?;
        let magic = word(&meta, 12, false)?;
        if magic != MAGIC && magic != MAGIC.swap_bytes() {
            return Err(broken("is no hash of Berkeley DB"));
        }
        let big_endian = magic != MAGIC;
        let version = word(&meta, 16, big_endian)?;
        if !(8..=10).contains(&version) {
            return Err(broken("is of another version of Berkeley DB"));
        }
        let page_size = word(&meta, 20, big_endian)? as usize;
        if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
            return Err(broken("has pages of no possible size"));
        }
        let mut spares = [0; 32];
        for (place, spare) in spares.iter_mut().enumerate() {
            *spare = word(&meta, 96 + 4 * place, big_endian)?;
        }
        let pages = file.metadata()?.len() / page_size as u64;
        let last_bucket = word(&meta, 72, big_endian)?;
        let left = Cell::new(pages);
        Ok(Self { file, big_endian, page_size, last_bucket, spares, left })
    }

    fn first_page(&self, bucket: u32) -> io::Result<u32> {
        let spare = self.spares.get(bucket.checked_ilog2().map_or(0, |bits| bits as usize + 1));
        spare
            .and_then(|spare| bucket.checked_add(*spare))
            .filter(|page| *page != 0)
            .ok_or_else(|| broken("has more buckets than pages"))
    }

    /// Reads the beginning of a page, or all of it.
    fn page(&self, number: u32, buffer: &mut [u8]) -> io::Result<()> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| broken("its pages form a circle"))?;
        self.left.set(left);
        self.file.read_exact_at(buffer, u64::from(number) * self.page_size as u64).map_err(|error| {
            match error.kind() {
                io::ErrorKind::UnexpectedEof => broken("points beyond its end"),
                _ => error,
            }
        })?;
        if word(buffer, 8, self.big_endian)? != number {
            return Err(broken("a page is overwritten"));
        }
        Ok(())
    }

    /// Tells what is on a page; the next one of its bucket.
    fn hash_page(&self, number: u32, on: &mut OnHeader<'_>) -> io::Result<u32> {
        let mut page = vec![0; self.page_size];
        self.page(number, &mut page)?;
        if ![HASH, HASH_UNSORTED, METADATA].contains(&page[25]) {
            return Err(broken("a page of its hash is of another kind"));
        }
        let entries = usize::from(self.half(&page, 20)?);
        // Keys and data by turns; each ends where the one before it begins.
        for pair in 0..entries / 2 {
            let key = usize::from(self.half(&page, PAGE_HEADER + 4 * pair)?);
            let data = usize::from(self.half(&page, PAGE_HEADER + 4 * pair + 2)?);
            let end = match pair {
                0 => page.len(),
                _ => usize::from(self.half(&page, PAGE_HEADER + 4 * pair - 2)?),
            };
            let (key, data) = (page.get(key..end), page.get(data..key));
            let (Some([ON_PAGE, key @ ..]), Some(data)) = (key, data) else {
                return Err(broken("an entry is beyond its page"));
            };
            // The number of the package; of 0 is the next one that is free.
            let record = word(key, 0, self.big_endian)?;
            if record == 0 {
                continue;
            }
            match data {
                [ON_PAGE, header @ ..] => on(record, &mut &header[..], header.len() as u64)?,
                [OFF_PAGE, ..] => {
                    let next = word(data, 4, self.big_endian)?;
                    let length = u64::from(word(data, 8, self.big_endian)?);
                    let chain = Chain { database: self, page: 0, at: 0, end: 0, next };
                    on(record, &mut chain.take(length), length)?;
                }
                _ => return Err(broken("an entry is of no known type")),
            }
        }
        word(&page, 16, self.big_endian)
    }

    fn half(&self, bytes: &[u8], at: usize) -> io::Result<u16> {
        let bytes = bytes.get(at..at + 2).ok_or_else(|| broken("a page has too many entries"))?;
        let half = u16::from_le_bytes([bytes[0], bytes[1]]);
        Ok(if self.big_endian { half.swap_bytes() } else { half })
    }
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> io::Result<u32> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    let word = u32::from_le_bytes(*bytes.ok_or_else(|| broken("an entry is cut off"))?);
    Ok(if big_endian { word.swap_bytes() } else { word })
}

/// Data that is on pages of its own.
struct Chain<'a> {
    database: &'a Database<'a>,
    page: u32,
    at: usize,
    end: usize,
    next: u32,
}

impl Read for Chain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end {
            if self.next == 0 {
                return Ok(0);
            }
            let mut header = [0; PAGE_HEADER];
            self.database.page(self.next, &mut header)?;
            let length = usize::from(self.database.half(&header, 22)?);
            if header[25] != OVERFLOW || length == 0 || PAGE_HEADER + length > self.database.page_size {
                return Err(broken("a package is overwritten"));
            }
            self.page = self.next;
            self.next = word(&header, 16, self.database.big_endian)?;
            (self.at, self.end) = (PAGE_HEADER, PAGE_HEADER + length);
        }
        let count = buffer.len().min(self.end - self.at);
        let offset = u64::from(self.page) * self.database.page_size as u64 + self.at as u64;
        self.database.file.read_exact_at(&mut buffer[..count], offset)?;
        self.at += count;
        Ok(count)
    }
}
