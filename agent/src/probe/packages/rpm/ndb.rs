//! SUSE's own database, `Packages.db`: a header, slots that say where packages
//! are, the packages in blocks of 16 bytes. All in little endian. Format:
//! lib/backend/ndb/rpmpkg.c of rpm.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::{OnHeader, broken};

const PAGE_BYTES: u64 = 4096;
const SLOT_BYTES: u64 = 16;
const BLOCK_BYTES: u64 = 16;
/// The header takes the place of the first two slots.
const FIRST_SLOT: u64 = 2;

/// Tells the header of each package, in the order of the slots.
pub(super) fn each(file: &File, on: &mut OnHeader<'_>) -> io::Result<()> {
    let size = file.metadata()?.len();
    let header: [u32; 5] = words(file, 0)?;
    if header[0].to_le_bytes() != *b"RpmP" || header[1] != 0 {
        return Err(broken("is no database of packages, or of another version"));
    }
    let slots = u64::from(header[3]) * (PAGE_BYTES / SLOT_BYTES);
    if slots * SLOT_BYTES > size {
        return Err(broken("is cut off"));
    }
    // Packages do not overlap, so all together are no larger than the file.
    let mut left = size;
    for slot in FIRST_SLOT..slots {
        let [magic, number, block, blocks] = words(file, slot * SLOT_BYTES)?;
        if magic.to_le_bytes() != *b"Slot" {
            return Err(broken("a slot is overwritten"));
        }
        if block == 0 {
            continue;
        }
        let (at, room) = (u64::from(block) * BLOCK_BYTES, u64::from(blocks) * BLOCK_BYTES);
        if at + room > size {
            return Err(broken("is cut off"));
        }
        left = left.checked_sub(room).ok_or_else(|| broken("its packages overlap"))?;
        let [magic, its_number, _generation, length] = words(file, at)?;
        // Head of 16 and tail of 12 bytes.
        let fits = u64::from(length) + 28 <= room;
        if magic.to_le_bytes() != *b"BlbS" || its_number != number || !fits {
            return Err(broken("a package is overwritten"));
        }
        on(number, &mut At { file, at: at + 16 }.take(u64::from(length)), u64::from(length))?;
    }
    Ok(())
}

fn words<const N: usize>(file: &File, at: u64) -> io::Result<[u32; N]> {
    let mut words = [0; N];
    for (place, word) in words.iter_mut().enumerate() {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, at + 4 * place as u64)?;
        *word = u32::from_le_bytes(bytes);
    }
    Ok(words)
}

struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
