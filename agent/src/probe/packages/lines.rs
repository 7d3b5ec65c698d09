//! Lines of a database, one at a time, so that memory does not grow with it.

use std::io::{self, Read};

use memchr::memchr;

/// Most bytes of one line; the longest real ones (dependencies) have 20 KiB.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// Most bytes of one file.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;
/// What is read at once; most files of a package's paths fit.
const CHUNK_BYTES: usize = 32 * 1024;

pub(super) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// What was read and not shown yet, in the buffer.
    start: usize,
    end: usize,
    bytes: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self::reusing(reader, Vec::new())
    }

    /// As [`Self::new`], with the buffer that another's [`Self::into_buffer`] left.
    pub(super) fn reusing(reader: R, mut buffer: Vec<u8>) -> Self {
        buffer.resize(buffer.len().max(CHUNK_BYTES), 0);
        Self { reader, buffer, start: 0, end: 0, bytes: 0 }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// The next line without its end; `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let mut searched = 0;
        let length = loop {
            let unsearched = &self.buffer[self.start + searched..self.end];
            if let Some(at) = memchr(b'\n', unsearched) {
                break searched + at + 1;
            }
            searched = self.end - self.start;
            if searched >= MAX_LINE_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 1 MiB"));
            }
            if self.fill()? == 0 {
                break searched;
            }
        };
        self.bytes += length as u64;
        if self.bytes > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 512 MiB"));
        }
        if length == 0 {
            return Ok(None);
        }
        let mut line = &self.buffer[self.start..self.start + length];
        self.start += length;
        while let [rest @ .., b'\n' | b'\r'] = line {
            line = rest;
        }
        Ok(Some(line))
    }

    /// Reads on behind what is left; 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            // A longer line than any before.
            self.buffer.resize((self.end * 2).min(MAX_LINE_BYTES), 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    let read = read?;
                    self.end += read;
                    return Ok(read);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(into.len()).min(self.0.len());
            let (now, later) = self.0.split_at(length);
            into[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    fn all(mut lines: Lines<impl Read>) -> io::Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        while let Some(line) = lines.next()? {
            found.push(line.to_vec());
        }
        Ok(found)
    }

    #[test]
    fn lines_are_whole_however_they_are_read() {
        let long = "x".repeat(3 * CHUNK_BYTES);
        let text = format!("a\r\n\n{long}\nb\nend");
        let expected = ["a", "", &long, "b", "end"].map(|line| line.as_bytes().to_vec());
        for at_once in [1, 7, CHUNK_BYTES - 1, usize::MAX] {
            let lines = Lines::new(Slowly(text.as_bytes(), at_once));
            assert_eq!(all(lines).unwrap(), expected, "{at_once}");
        }
        let used = Lines::new(text.as_bytes()).into_buffer();
        assert_eq!(all(Lines::reusing(&b"one\n"[..], used)).unwrap(), [b"one"]);
        assert!(all(Lines::new(&b""[..])).unwrap().is_empty());
    }

    #[test]
    fn a_line_has_its_limit() {
        let longest = "x".repeat(MAX_LINE_BYTES - 1);
        for (text, fits) in [
            (format!("{longest}\nb\n"), true),
            (longest.clone(), true),
            (format!("{longest}x\nb\n"), false),
            (format!("{longest}xx"), false),
        ] {
            assert_eq!(all(Lines::new(text.as_bytes())).is_ok(), fits, "{}", text.len());
        }
    }
}
