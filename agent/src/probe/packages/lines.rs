//! Lines of a database, one at a time, so that memory does not grow with it.

use std::io::{self, BufRead, Read};

/// Most bytes of one line; the longest real ones (dependencies) have 20 KiB.
const MAX_LINE_BYTES: u64 = 1024 * 1024;
/// Most bytes of one file.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

pub(super) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), bytes: 0 }
    }

    /// The next line without its end; `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let read = (&mut self.reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line)? as u64;
        self.bytes += read;
        if read == MAX_LINE_BYTES && self.line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 1 MiB"));
        }
        if self.bytes > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 512 MiB"));
        }
        if read == 0 {
            return Ok(None);
        }
        let mut line = self.line.as_slice();
        while let [rest @ .., b'\n' | b'\r'] = line {
            line = rest;
        }
        Ok(Some(line))
    }
}
