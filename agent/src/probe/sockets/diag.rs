//! Listening sockets by sock_diag(7): the kernel looks at those alone, while for
//! `/proc/net/tcp` it walks its whole table of connections, which costs
//! milliseconds each time. Only of the agent's own network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use super::table::{LISTEN, Row, UNCONNECTED};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// The table changed while it was listed, so something may be missing.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Lengths of nlmsghdr, inet_diag_req_v2 and inet_diag_msg.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;
/// As much as the kernel puts into one answer (NLMSG_GOODSIZE and more).
const BUFFER_BYTES: usize = 32 * 1024;
/// Lists that were interrupted before it is given up.
const ATTEMPTS: usize = 3;

/// The sockets of a protocol that listen, at most `most`; also how many were too
/// many.
///
/// # Errors
/// The kernel cannot tell of this protocol this way, or the list did not come to
/// rest.
pub(super) fn read(protocol: &'static str, most: usize) -> io::Result<(Vec<Row>, usize)> {
    for _ in 0..ATTEMPTS {
        let mut list = List { protocol, most, rows: Vec::new(), surplus: 0, interrupted: false };
        list.fill()?;
        if !list.interrupted {
            return Ok((list.rows, list.surplus));
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

struct List {
    protocol: &'static str,
    most: usize,
    rows: Vec<Row>,
    surplus: usize,
    interrupted: bool,
}

impl List {
    fn fill(&mut self) -> io::Result<()> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(5, 0))?;
        send(socket.as_raw_fd(), &request(self.protocol), MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if length == 0 || self.take(buffer.get(..length).unwrap_or(&buffer))? {
                return Ok(());
            }
        }
    }

    /// Takes the messages of one answer; true after the last.
    fn take(&mut self, mut answer: &[u8]) -> io::Result<bool> {
        while let Some(message) = Message::parse(answer) {
            self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            match message.kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    // A negative errno, or 0.
                    let code = message.body.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                SOCK_DIAG_BY_FAMILY => match parse_socket(message.body, self.protocol) {
                    Some(row) if self.rows.len() < self.most => self.rows.push(row),
                    Some(_) => self.surplus += 1,
                    None => {}
                },
                _ => {}
            }
            answer = answer.get(message.length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }
}

fn is_tcp(protocol: &str) -> bool {
    protocol.starts_with("tcp")
}

fn family(protocol: &str) -> libc::c_int {
    if protocol.ends_with('6') { libc::AF_INET6 } else { libc::AF_INET }
}

/// inet_diag_req_v2 of all sockets in the state that a listener has.
fn request(protocol: &str) -> Vec<u8> {
    let (number, state) =
        if is_tcp(protocol) { (libc::IPPROTO_TCP, LISTEN) } else { (libc::IPPROTO_UDP, UNCONNECTED) };
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    request.extend(u32::to_ne_bytes((HEADER + REQUEST) as u32));
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([family(protocol).to_ne_bytes()[0], number.to_ne_bytes()[0], 0, 0]);
    request.extend((1_u32 << state).to_ne_bytes());
    request.resize(HEADER + REQUEST, 0);
    request
}

struct Message<'a> {
    length: usize,
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// nlmsghdr (netlink(7)): length, type, flags, number, port.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let flags = u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?);
        Some(Self { length, kind, flags, body: bytes.get(HEADER..length)? })
    }
}

/// inet_diag_msg: family and state; ports and addresses in network byte order;
/// further on user and inode. `None` for one that does not listen.
fn parse_socket(body: &[u8], protocol: &'static str) -> Option<Row> {
    let body: &[u8; MESSAGE] = body.first_chunk()?;
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let number = |at: usize| u32::from_ne_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
    let expected = if is_tcp(protocol) { LISTEN } else { UNCONNECTED };
    let connected = !is_tcp(protocol) && port(6) != 0;
    if i32::from(body[0]) != family(protocol) || body[1] != expected || connected || port(4) == 0 {
        return None;
    }
    let source: [u8; 16] = body[8..24].try_into().ok()?;
    let address = match family(protocol) {
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(source)),
        _ => IpAddr::V4(Ipv4Addr::new(source[0], source[1], source[2], source[3])),
    };
    Some(Row { protocol, address, port: port(4), uid: number(64), inode: u64::from(number(68)) })
}

#[cfg(test)]
pub(in crate::probe) mod tests {
    use super::*;

    /// An answer with one socket, and the end of the list.
    pub(in crate::probe) fn answer() -> Vec<u8> {
        let mut body = vec![0; MESSAGE];
        (body[0], body[1]) = (libc::AF_INET as u8, LISTEN);
        body[4..6].copy_from_slice(&22_u16.to_be_bytes());
        body[8..12].copy_from_slice(&[10, 0, 0, 5]);
        body[64..68].copy_from_slice(&7_u32.to_ne_bytes());
        body[68..72].copy_from_slice(&1147_u32.to_ne_bytes());
        [message(SOCK_DIAG_BY_FAMILY, 0, &body), message(NLMSG_DONE, 0, &[0; 4])].concat()
    }

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        message.extend(u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        message
    }

    fn take(answer: &[u8]) -> (io::Result<bool>, Vec<Row>, bool) {
        let mut list = List { protocol: "tcp", most: 9, rows: vec![], surplus: 0, interrupted: false };
        let ended = list.take(answer);
        (ended, list.rows, list.interrupted)
    }

    /// For the mutation tests: nothing may panic.
    pub(in crate::probe) fn survives(answer: &[u8]) {
        let _ = take(answer);
    }

    #[test]
    fn reads_sockets_until_the_end_of_the_list() {
        let (ended, rows, interrupted) = take(&answer());
        assert!(ended.unwrap() && !interrupted);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].natural_key().as_str(), rows[0].uid, rows[0].inode),
            ("tcp/10.0.0.5:22", 7, 1147)
        );
        let refused = message(NLMSG_ERROR, 0, &(-libc::ENOENT).to_ne_bytes());
        assert_eq!(take(&refused).0.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(take(&message(NLMSG_DONE, NLM_F_DUMP_INTR, &[0; 4])).2);
        assert!(!take(b"").0.unwrap());
    }

    #[test]
    fn the_kernel_lists_what_its_tables_list() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = format!("tcp/{}", tcp.local_addr().unwrap());
        match read("tcp", 1000) {
            Ok((rows, _)) => assert!(rows.iter().any(|row| row.natural_key() == own), "{rows:?}"),
            // A kernel without it: the tables are read instead.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
        }
    }
}
