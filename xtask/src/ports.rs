//! Ports on the loopback interface: which are free, and who has the others.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use crate::error::Error;

/// Where our ports come from: below the range that the kernel gives to outgoing
/// connections (32768 and up), which could take a port between two starts.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// Whether nothing listens on the port. Takes the port for a moment, so this is no
/// way to wait for a process of ours: that could find it taken. See [`listens`].
pub fn is_free(port: u16) -> bool {
    // Some listen on both loopback addresses. A machine may have no IPv6 at all.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && TcpListener::bind((Ipv6Addr::LOCALHOST, port))
            .map_or_else(|error| error.kind() != ErrorKind::AddrInUse, |_| true)
}

/// Whether somebody takes connections on the port.
pub fn listens(port: u16) -> bool {
    const TIMEOUT: Duration = Duration::from_secs(2);
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), TIMEOUT).is_ok()
}

/// A free port that is not in `taken`. The search begins at a place that `seed`
/// decides, so that two checkouts begin apart.
pub fn find(seed: u64, taken: &[u16]) -> Result<u16, Error> {
    let span = u64::from(LAST - FIRST) + 1;
    for step in 0..span {
        // Below `span`, which fits.
        let port = FIRST + u16::try_from((seed + step) % span).unwrap_or_default();
        if !taken.contains(&port) && is_free(port) {
            return Ok(port);
        }
    }
    Err(Error::NoPort { first: FIRST, last: LAST })
}

/// Describes who listens on a port, as far as this user may know.
pub fn owner(port: u16) -> String {
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = fs::read_to_string(table) else { continue };
        for line in text.lines().skip(1) {
            let Some(listener) = parse_listener(line) else { continue };
            if listener.port == port {
                return match holder(listener.inode) {
                    Some((pid, command)) => format!("process {pid} ({command})"),
                    None => format!(
                        "a process of user {} (which one cannot be seen without root: `sudo ss -lntp sport = :{port}`)",
                        listener.user
                    ),
                };
            }
        }
    }
    "a process that cannot be seen from here".to_owned()
}

#[derive(Debug, PartialEq, Eq)]
struct Listener {
    port: u16,
    user: u32,
    inode: u64,
}

/// Parses a line of `/proc/net/tcp` (proc(5)); only listening sockets.
fn parse_listener(line: &str) -> Option<Listener> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    Some(Listener {
        port: u16::from_str_radix(port, 16).ok()?,
        user: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// The process that has a socket open, and its command line.
fn holder(inode: u64) -> Option<(u32, String)> {
    let link = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let open =
            files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|to| to == Path::new(&link)));
        if open {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            return Some((pid, command.trim().chars().take(80).collect()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        process::id,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        thread,
    };

    use super::{Listener, find, is_free, listens, owner, parse_listener};

    #[test]
    fn only_listening_sockets_are_taken_from_the_table() {
        let head = "  0: 0100007F:1F90 00000000:0000";
        let rest =
            "00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0";
        let expected = Listener { port: 8080, user: 1000, inode: 12345 };
        assert_eq!(parse_listener(&format!("{head} 0A {rest}")), Some(expected));
        assert_eq!(parse_listener(&format!("{head} 01 {rest}")), None);
        assert_eq!(parse_listener("garbage"), None);
    }

    #[test]
    fn the_owner_of_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        assert!(listens(port));
        assert!(owner(port).starts_with(&format!("process {} (", id())), "{}", owner(port));
    }

    #[test]
    fn waiting_for_a_listener_never_takes_its_port() {
        let port = find(11, &[]).unwrap();
        let waiting = AtomicBool::new(true);
        let refused = thread::scope(|scope| {
            scope.spawn(|| {
                while waiting.load(Relaxed) {
                    listens(port);
                }
            });
            let refused = (0..200).find_map(|_| TcpListener::bind(("127.0.0.1", port)).err());
            waiting.store(false, Relaxed);
            refused
        });
        assert!(refused.is_none(), "{refused:?}");
    }

    #[test]
    fn a_port_is_not_given_twice() {
        let first = find(7, &[]).unwrap();
        assert_ne!(find(7, &[first]).unwrap(), first);
    }
}
