//! The kernel's tables of routes as text: /proc/net/route, ipv6_route and
//! fib_trie, as net/ipv4/fib_trie.c and net/ipv6/route.c of the kernel write them.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::host::HostRoot;
use crate::text::clean;

pub(in super::super) const ROUTE: &str = "proc/1/net/route";
pub(in super::super) const FIB_TRIE: &str = "proc/1/net/fib_trie";
pub(super) const IPV6_ROUTE: &str = "proc/1/net/ipv6_route";

/// More of a file is an error: a million routes, say.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// No line of the kernel is longer.
const MAX_LINE: u64 = 1024;

/// Shows each line of a file, which may be too large for the memory.
pub(in super::super) fn lines(host: &HostRoot, path: &str, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut reader = BufReader::new(host.open(path)?);
    let mut line = Vec::new();
    let mut total = 0;
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        total += read as u64;
        if total > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 256 MiB"));
        }
        each(line.trim_ascii_end());
    }
}

/// A line of `route`: the main table, one next hop each.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Ipv4Route {
    /// Empty for one that goes nowhere.
    pub(in super::super) interface: String,
    pub(in super::super) destination: Ipv4Addr,
    pub(in super::super) length: u32,
    pub(in super::super) gateway: Ipv4Addr,
    pub(super) metric: u32,
    /// RTF_REJECT: unreachable or prohibited, and not a black hole.
    pub(super) reject: bool,
}

/// Shows each IPv4 route.
pub(in super::super) fn ipv4_routes(host: &HostRoot, mut each: impl FnMut(Ipv4Route)) -> io::Result<()> {
    lines(host, ROUTE, |line| {
        if let Some(route) = ipv4_line(line) {
            each(route);
        }
    })
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`; addresses are
/// numbers in the machine's byte order. `None` for the heading and garbage.
pub(in super::super) fn ipv4_line(line: &[u8]) -> Option<Ipv4Route> {
    const RTF_UP: u32 = 1;
    const RTF_REJECT: u32 = 0x200;
    let words: Vec<&str> = str::from_utf8(line).ok()?.split_ascii_whitespace().collect();
    let hex = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
    let address = |at: usize| hex(at).map(|number| Ipv4Addr::from(number.to_ne_bytes()));
    let flags = hex(3).filter(|flags| flags & RTF_UP != 0)?;
    Some(Ipv4Route {
        interface: words
            .first()
            .filter(|name| **name != "*")
            .map(|name| clean(name.as_bytes()))
            .unwrap_or_default(),
        destination: address(1)?,
        gateway: address(2)?,
        metric: words.get(6)?.parse().ok()?,
        length: address(7)?.to_bits().leading_ones(),
        reject: flags & RTF_REJECT != 0,
    })
}

/// An entry of `fib_trie`, of whatever table.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct FibEntry {
    pub(in super::super) network: Ipv4Addr,
    pub(in super::super) length: u32,
    /// As the kernel writes it, such as `UNICAST`.
    pub(in super::super) kind: String,
}

impl FibEntry {
    pub(in super::super) fn is_local(&self) -> bool {
        self.kind == "LOCAL"
    }

    /// Whether the network holds an address.
    pub(in super::super) fn holds(&self, address: Ipv4Addr) -> bool {
        let differ = self.network.to_bits() ^ address.to_bits();
        self.length == 0 || differ.leading_zeros() >= self.length
    }
}

/// Shows each entry of `fib_trie`.
pub(in super::super) fn fib_entries(host: &HostRoot, each: impl FnMut(FibEntry)) -> io::Result<()> {
    lines(host, FIB_TRIE, fib_parser(each))
}

/// Takes the lines of `fib_trie` in their order: `|-- 192.0.2.2` names a leaf,
/// `/32 host LOCAL` below it is an entry.
pub(in super::super) fn fib_parser(mut each: impl FnMut(FibEntry)) -> impl FnMut(&[u8]) {
    let mut leaf = None;
    move |line| {
        let Ok(line) = str::from_utf8(line.trim_ascii()) else { return };
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
            return;
        }
        let (Some(network), Some(entry)) = (leaf, line.strip_prefix('/')) else { return };
        let mut words = entry.split_ascii_whitespace();
        let length = words.next().and_then(|length| length.parse().ok()).filter(|length| *length <= 32);
        if let (Some(length), Some(kind)) = (length, words.nth(1)) {
            each(FibEntry { network, length, kind: clean(kind.as_bytes()) });
        }
    }
}

/// A line of `ipv6_route`: routes of all tables, one next hop each.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Ipv6Route {
    pub(super) interface: String,
    pub(super) destination: Ipv6Addr,
    pub(super) length: u32,
    pub(super) gateway: Ipv6Addr,
    pub(super) metric: u32,
    /// RTF_REJECT: goes nowhere.
    pub(super) reject: bool,
}

/// `destination length source length next_hop metric references use flags
/// interface`, in hexadecimal. `None` for what is no route of the node to
/// elsewhere: its own and anycast addresses, multicast, cached routes, the
/// loopback, and the entry that stands for the want of one.
pub(in super::super) fn ipv6_line(line: &[u8]) -> Option<Ipv6Route> {
    /// RTF_UP and others of include/uapi/linux/{route,ipv6_route}.h.
    const RTF_UP: u32 = 1;
    const RTF_REJECT: u32 = 0x200;
    const RTF_ANYCAST: u32 = 0x0010_0000;
    const RTF_CACHE: u32 = 0x0100_0000;
    const RTF_LOCAL: u32 = 0x8000_0000;
    let words: Vec<&str> = str::from_utf8(line).ok()?.split_ascii_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
    let address = |at: usize| u128::from_str_radix(words.get(at)?, 16).ok().map(Ipv6Addr::from_bits);
    let (flags, metric) = (number(8)?, number(5)?);
    let reject = flags & RTF_REJECT != 0;
    let route = Ipv6Route {
        interface: clean(words.get(9)?.as_bytes()),
        destination: address(0)?,
        length: number(1).filter(|length| *length <= 128)?,
        gateway: address(4)?,
        metric,
        reject,
    };
    let own = flags & (RTF_ANYCAST | RTF_CACHE | RTF_LOCAL) != 0
        || route.destination.is_multicast()
        || (route.interface == "lo" && !reject)
        || (reject && metric == u32::MAX);
    (!own && (reject || flags & RTF_UP != 0)).then_some(route)
}
