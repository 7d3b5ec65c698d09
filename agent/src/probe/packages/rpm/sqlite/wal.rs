//! The write-ahead log: pages that are committed and not yet in the database.
//! Format: sqlite.org/fileformat2.html, "The Write-Ahead Log".

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};

use super::super::broken;
use super::page_size;

/// Most pages of a log that are kept track of: 2 GiB of pages of 4 KiB.
const MAX_PAGES: usize = 512 * 1024;

pub(super) struct Wal {
    pub(super) file: File,
    pub(super) page_size: usize,
    /// Size of the database after the last commit.
    pub(super) pages: u32,
    /// Page → where its newest committed content is.
    frames: BTreeMap<u32, u64>,
}

impl Wal {
    /// Reads up to the last commit that is whole; `None` if there is none. What
    /// comes after it was cut off, or is left from before the log began anew.
    pub(super) fn read(file: File) -> io::Result<Option<Self>> {
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut header = [0; 32];
        if !filled(&mut reader, &mut header)? {
            return Ok(None);
        }
        let word = |bytes: &[u8], index: usize| {
            u32::from_be_bytes([
                bytes[4 * index],
                bytes[4 * index + 1],
                bytes[4 * index + 2],
                bytes[4 * index + 3],
            ])
        };
        let big_endian = match word(&header, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return Ok(None),
        };
        let mut sum = Checksum { big_endian, values: (0, 0) };
        sum.add(&header[..24]);
        let Ok(page_size) = page_size(word(&header, 2)) else { return Ok(None) };
        if sum.values != (word(&header, 6), word(&header, 7)) {
            return Ok(None);
        }
        let (mut frames, mut pages) = (BTreeMap::new(), 0);
        let mut uncommitted = Vec::new();
        let mut at = 32;
        let mut frame = vec![0; 24 + page_size];
        while filled(&mut reader, &mut frame)? {
            sum.add(&frame[..8]);
            sum.add(&frame[24..]);
            let salted = frame[8..16] == header[16..24];
            if !salted || sum.values != (word(&frame, 4), word(&frame, 5)) {
                break;
            }
            uncommitted.push((word(&frame, 0), at + 24));
            let committed = word(&frame, 1);
            if committed > 0 {
                frames.extend(uncommitted.drain(..));
                pages = committed;
            }
            if frames.len() + uncommitted.len() > MAX_PAGES {
                return Err(broken("its write-ahead log is too long"));
            }
            at += frame.len() as u64;
        }
        if pages == 0 {
            return Ok(None);
        }
        Ok(Some(Self { file: reader.into_inner(), page_size, pages, frames }))
    }

    pub(super) fn frame(&self, page: u32) -> Option<u64> {
        self.frames.get(&page).copied()
    }
}

/// Fills the buffer; `false` at the end of the file.
fn filled(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// "Checksum Algorithm" of the log.
struct Checksum {
    big_endian: bool,
    values: (u32, u32),
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let word = |bytes: [u8; 4]| {
            if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        let (mut one, mut two) = self.values;
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            one = one.wrapping_add(word([a, b, c, d])).wrapping_add(two);
            two = two.wrapping_add(word([e, f, g, h])).wrapping_add(one);
        }
        self.values = (one, two);
    }
}
