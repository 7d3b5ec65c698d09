//! Names of makers and products by their numbers: the lists `pci.ids` and
//! `usb.ids` (<https://pci-ids.ucw.cz>, <http://www.linux-usb.org/usb-ids.html>)
//! that many systems bring. They are read in passing, only what is asked for is
//! kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};

use super::{ProbeError, is_absent};
use memchr::memchr;

use crate::host::HostRoot;
use crate::text::clean;

/// Where distributions keep the lists: Debian, Fedora and others, pciutils.
const FOLDERS: [&str; 3] = ["usr/share/misc", "usr/share/hwdata", "usr/share"];
/// `pci.ids` has 1.5 MB.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// What is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// A longer line is cut.
const MAX_LINE_BYTES: usize = 1024;

/// Makers and products by their numbers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Names {
    makers: BTreeMap<u16, String>,
    products: BTreeMap<(u16, u16), String>,
}

impl Names {
    /// Names of these pairs of maker and product, by the host's list of this
    /// name, such as `pci.ids`; none without a list.
    pub(super) fn read(
        host: &HostRoot,
        list: &str,
        wanted: &BTreeSet<(u16, u16)>,
    ) -> Result<Self, ProbeError> {
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        for folder in FOLDERS {
            let path = format!("{folder}/{list}");
            match host.open(&path) {
                Ok(file) => return parse(file.take(MAX_BYTES), wanted).map_err(ProbeError::read(&path)),
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(ProbeError::read(&path)(error)),
            }
        }
        Ok(Self::default())
    }

    /// Name of a maker; empty if there is none.
    pub(super) fn maker(&self, maker: u16) -> String {
        self.makers.get(&maker).cloned().unwrap_or_default()
    }

    /// Name of a product; empty if there is none.
    pub(super) fn product(&self, maker: u16, product: u16) -> String {
        self.products.get(&(maker, product)).cloned().unwrap_or_default()
    }
}

/// A maker is `8086  Intel Corporation`, its products follow with one tab before
/// them, and parts of these with two. Other lists come behind, each line of
/// which starts with a word such as `C`.
pub(super) fn parse(file: impl Read, wanted: &BTreeSet<(u16, u16)>) -> io::Result<Names> {
    let mut names = Names::default();
    let mut maker = None;
    each_line(BufReader::with_capacity(CHUNK_BYTES, file), MAX_LINE_BYTES, |line| {
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b"\t\t") {
            return;
        }
        if let Some(line) = line.strip_prefix(b"\t") {
            let Some(maker) = maker else { return };
            let Some((product, name)) = entry(line) else { return };
            if wanted.contains(&(maker, product)) {
                names.products.entry((maker, product)).or_insert_with(|| clean(name));
            }
            return;
        }
        maker = None;
        let Some((number, name)) = entry(line) else { return };
        if wanted.range((number, 0)..=(number, u16::MAX)).next().is_some() {
            names.makers.entry(number).or_insert_with(|| clean(name));
            maker = Some(number);
        }
    })?;
    Ok(names)
}

fn entry(line: &[u8]) -> Option<(u16, &[u8])> {
    let number = line.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    let number = u16::from_str_radix(std::str::from_utf8(number).ok()?, 16).ok()?;
    let name = line.get(4..)?.strip_prefix(b"  ")?;
    Some((number, name.trim_ascii()))
}

/// Shows each line without its end; what is longer than the longest that is
/// wanted is cut, and never kept.
pub(super) fn each_line(
    mut file: impl BufRead,
    longest: usize,
    mut show: impl FnMut(&[u8]),
) -> io::Result<()> {
    // The beginning of a line, where it was not read with its end.
    let mut begun: Option<Vec<u8>> = None;
    loop {
        let read = match file.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read.is_empty() {
            if let Some(line) = begun {
                show(&line);
            }
            return Ok(());
        }
        let end = memchr(b'\n', read);
        let part = &read[..end.unwrap_or(read.len())];
        match (&mut begun, end) {
            (None, Some(_)) => show(&part[..part.len().min(longest)]),
            (line, _) => {
                let line = line.get_or_insert_default();
                line.extend(&part[..part.len().min(longest - line.len())]);
                if end.is_some() {
                    show(line);
                    begun = None;
                }
            }
        }
        let used = part.len() + usize::from(end.is_some());
        file.consume(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = b"# comment\n\n8086  Intel Corporation\n\t1237  440FX - 82441FX PMC\n\
        \t\t1af4 1100  Qemu virtual machine\n\t7000  82371SB\n10de  NVIDIA\n\t1237  Other\n\
        C 00  Unclassified device\n\t00  Non-VGA\n\t8086  not a product\n";

    #[test]
    fn finds_what_is_asked_for() {
        let wanted = BTreeSet::from([(0x8086, 0x1237), (0x8086, 0x1af4), (0x8086, 0x8086), (0x10de, 1)]);
        let names = parse(LIST, &wanted).unwrap();
        assert_eq!(
            (names.maker(0x8086).as_str(), names.maker(0x10de).as_str()),
            ("Intel Corporation", "NVIDIA")
        );
        assert_eq!(names.product(0x8086, 0x1237), "440FX - 82441FX PMC");
        assert_eq!(names.products.len(), 1, "{names:?}");
    }

    #[test]
    fn long_lines_take_no_memory() {
        let mut text = vec![b'x'; 3 * MAX_LINE_BYTES];
        text.extend(b"\nlast\n\nend\n");
        for at_once in [1, 1000, 1_000_000] {
            let mut lines = Vec::new();
            let file = BufReader::with_capacity(at_once, &text[..]);
            each_line(file, MAX_LINE_BYTES, |line| lines.push(line.to_vec())).unwrap();
            let expected = [vec![b'x'; MAX_LINE_BYTES], b"last".to_vec(), Vec::new(), b"end".to_vec()];
            assert_eq!(lines, expected, "{at_once}");
        }
    }
}
