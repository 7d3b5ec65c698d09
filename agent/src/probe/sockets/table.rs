//! `/proc/net/{tcp,tcp6,udp,udp6}` (proc_net(5); net/ipv4/tcp_ipv4.c,
//! `get_tcp4_sock`).

use std::io::{self, BufRead};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// State of a TCP socket that listens: TCP_LISTEN of include/net/tcp_states.h.
pub(super) const LISTEN: u8 = 0x0A;
/// State of a UDP socket that is not connected: TCP_CLOSE.
pub(super) const UNCONNECTED: u8 = 0x07;

/// Most bytes of a table: a million sockets.
const MAX_BYTES: u64 = 160 * 1024 * 1024;
/// Most listening sockets that are reported, of all tables together.
pub(super) const MAX_ROWS: usize = 100_000;

/// A socket that accepts connections or datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) protocol: &'static str,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) uid: u32,
    /// 0 for one that the kernel itself holds.
    pub(super) inode: u64,
}

impl Row {
    /// `tcp/0.0.0.0:22`, `tcp6/[::]:22`.
    pub(super) fn natural_key(&self) -> String {
        match self.address {
            IpAddr::V4(address) => format!("{}/{address}:{}", self.protocol, self.port),
            IpAddr::V6(address) => format!("{}/[{address}]:{}", self.protocol, self.port),
        }
    }
}

/// Reads a table line by line and keeps the sockets that listen, at most `most`.
/// Also says how many lines could not be read or were too many.
pub(super) fn read_table(
    table: impl BufRead,
    protocol: &'static str,
    most: usize,
) -> io::Result<(Vec<Row>, usize)> {
    let (mut rows, mut unreadable) = (Vec::new(), 0);
    let mut line = Vec::new();
    let mut table = table.take(MAX_BYTES);
    let mut is_header = true;
    loop {
        line.clear();
        if table.read_until(b'\n', &mut line)? == 0 {
            return Ok((rows, unreadable));
        }
        let text = std::str::from_utf8(&line).unwrap_or_default().trim();
        if std::mem::take(&mut is_header) || line == b"\n" {
            continue;
        }
        match parse_row(text, protocol) {
            Some(Some(row)) if rows.len() < most => rows.push(row),
            Some(None) => {}
            Some(Some(_)) | None => unreadable += 1,
        }
    }
}

/// `sl local remote state tx:rx timer retransmits uid timeout inode …`;
/// `Some(None)` for a socket that does not listen.
fn parse_row(line: &str, protocol: &'static str) -> Option<Option<Row>> {
    let mut words = line.split_ascii_whitespace();
    let (local, remote, state) = (words.nth(1)?, words.next()?, words.next()?);
    let state = u8::from_str_radix(state, 16).ok()?;
    let (address, port) = parse_endpoint(local)?;
    let (_, remote_port) = parse_endpoint(remote)?;
    let listens =
        if protocol.starts_with("tcp") { state == LISTEN } else { state == UNCONNECTED && remote_port == 0 };
    if !listens || port == 0 {
        return Some(None);
    }
    let uid = words.nth(3)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some(Some(Row { protocol, address, port, uid, inode }))
}

/// `0100007F:0016`: address as words of 32 bits in the processor's byte order,
/// port in hexadecimal.
fn parse_endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for index in 0..4 {
                bytes[index * 4..index * 4 + 4].copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn keys(lines: &str, protocol: &'static str) -> (Vec<String>, usize) {
        let (rows, unreadable) = read_table(format!("{HEADER}{lines}").as_bytes(), protocol, 9).unwrap();
        (rows.iter().map(Row::natural_key).collect(), unreadable)
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn keeps_what_listens() {
        let tcp = "   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 1147 1 0 100 0 0 10 0\n   \
            1: 0100007F:0CEA 0100007F:9999 01 00000000:00000000 00:00000000 00000000   101        0 1148 1 0\n";
        assert_eq!(keys(tcp, "tcp"), (vec!["tcp/127.0.0.1:3306".to_owned()], 0));
        let (rows, _) = read_table(format!("{HEADER}{tcp}").as_bytes(), "tcp", 9).unwrap();
        assert_eq!((rows[0].uid, rows[0].inode), (101, 1147));

        let tcp6 = "0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 5 1\n\
            1: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 6 1\n";
        assert_eq!(keys(tcp6, "tcp6").0, ["tcp6/[::1]:22", "tcp6/[::ffff:127.0.0.1]:80"]);

        let udp = "9: 00000000:0044 00000000:0000 07 0:0 0:0 0 0 0 5 2 0 0\n\
            9: 0200000A:9C40 0800000A:0035 01 0:0 0:0 0 0 0 6 2 0 0\n\
            9: 00000000:0000 00000000:0000 07 0:0 0:0 0 0 0 7 2 0 0\n";
        assert_eq!(keys(udp, "udp").0, ["udp/0.0.0.0:68"]);
    }

    #[test]
    fn garbage_is_counted() {
        assert_eq!(keys("", "tcp"), (vec![], 0));
        assert_eq!(keys("x\n0: 00:00 0 0A\n0: 00000000:0016 00000000:0000 0A\n\n", "tcp"), (vec![], 3));
        assert_eq!(read_table(&b""[..], "tcp", 9).unwrap(), (vec![], 0));
        assert_eq!(read_table(&[0xff, b'\n', 0xff, b'\n'][..], "tcp", 9).unwrap(), (vec![], 1));
        let bad_hex = "0: äö0000Fe:0016 00000000:0000 0A 0:0 0:0 0 0 0 5 1\n";
        assert_eq!(keys(bad_hex, "tcp"), (vec![], 1));
    }
}
