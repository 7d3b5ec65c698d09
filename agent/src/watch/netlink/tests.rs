use super::*;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{MsgFlags, getsockname, sendto, setsockopt, sockopt};
use testkit::wait_until;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_uevent_names_its_subsystem() {
    for (message, expected) in [
        (&b"add@/devices/x/block/sdb\0ACTION=add\0SUBSYSTEM=block\0DEVNAME=sdb\0"[..], Some("block")),
        (b"change@/x\0SUBSYSTEM=net", Some("net")),
        (b"remove@/module/dummy\0ACTION=remove\0SUBSYSTEM=module\0SEQNUM=7\0", Some("module")),
        (b"add@/x\0SUBSYSTEM=\0", None),
        (b"add@/x\0ACTION=add\0", None),
        (b"add@/x\0SUBSYSTEM=\xff\0", None),
        // What udev passes on, and a name that only looks like the key.
        (b"libudev\0\xfe\xed\xca\xfeSUBSYSTEM=block\0", None),
        (b"add@/SUBSYSTEM=block\0", None),
        (b"add@/x\0MYSUBSYSTEM=block\0", None),
        (b"", None),
        (b"\0\0\0", None),
        (b"@", None),
    ] {
        assert_eq!(subsystem(message), expected, "{}", String::from_utf8_lossy(message));
    }
}

#[test]
fn udev_is_heard_of_block_devices_alone() {
    let header =
        b"libudev\0\xfe\xed\xca\xfe\x28\0\0\0\x28\0\0\0\x40\0\0\0\x01\x02\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0";
    for (fields, expected) in [
        (&b"ACTION=add\0SUBSYSTEM=block\0DEVNAME=/dev/sdb\0"[..], true),
        (b"SUBSYSTEM=block\0", true),
        (b"ACTION=add\0SUBSYSTEM=net\0", false),
        (b"MYSUBSYSTEM=block\0", false),
        (b"", false),
    ] {
        assert_eq!(is_block_of_udev(&[&header[..], fields].concat()), expected);
    }
    assert!(!is_block_of_udev(b"add@/x\0SUBSYSTEM=block\0"));
}

#[test]
fn damaged_uevents_harm_nothing() {
    let whole = b"add@/devices/x/block/sdb\0ACTION=add\0SUBSYSTEM=block\0DEVNAME=sdb\0";
    for at in 0..whole.len() {
        let _ = subsystem(&whole[..at]);
        for byte in [0, b'@', b'=', 0xff] {
            let mut damaged = whole.to_vec();
            damaged[at] = byte;
            let _ = subsystem(&damaged);
        }
    }
}

/// Runs `test` in a network namespace of its own; SKIPPED without the right to one.
fn in_a_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        let run = || {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                println!("SKIPPED: no network namespace of our own: {error}");
                return;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test());
        };
        scope.spawn(run).join().unwrap();
    });
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

#[derive(Clone, Default)]
struct Heard {
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
    lost: Arc<Mutex<usize>>,
}

impl Heard {
    fn listen(&self, socket: OwnedFd) -> tokio::task::JoinHandle<io::Result<Infallible>> {
        let (heard, other) = (self.clone(), self.clone());
        let told = move |message: &[u8]| heard.messages.lock().unwrap().push(message.to_vec());
        tokio::task::spawn(watch(socket, move || *other.lost.lock().unwrap() += 1, told))
    }

    /// Waits for news, and forgets them.
    async fn news(&self, what: &str) {
        wait_until(SOON, what, async || !std::mem::take(&mut *self.messages.lock().unwrap()).is_empty())
            .await;
    }
}

#[test]
fn links_addresses_and_routes_are_heard_of() {
    if Command::new("ip").arg("-V").output().is_err() {
        println!("SKIPPED: no ip here");
        return;
    }
    in_a_namespace(async || {
        let heard = Heard::default();
        heard.listen(open(SockProtocol::NetlinkRoute, NETWORK_GROUPS).unwrap());
        for command in [
            "link set lo up",
            "link add veth0 type veth peer name veth1",
            "link set veth0 up",
            "address add 192.0.2.1/24 dev veth0",
            "address add 2001:db8::1/64 dev veth0",
            "link set veth1 up",
            "route add 198.51.100.0/24 via 192.0.2.2",
            "-6 route add 2001:db8:1::/48 via 2001:db8::2",
            "route del 198.51.100.0/24",
            "address del 192.0.2.1/24 dev veth0",
            "link del veth0",
        ] {
            ip(command);
            heard.news(command).await;
        }
        assert_eq!(*heard.lost.lock().unwrap(), 0);
    });
}

/// A uevent of the loopback interface, which only its own namespace hears; false
/// if that must not be asked for here.
fn ask_for_uevent() -> bool {
    let asked = std::fs::write("/sys/class/net/lo/uevent", "change");
    asked.map_err(|error| println!("SKIPPED: no uevent can be asked for: {error}")).is_ok()
}

#[tokio::test]
async fn devices_are_heard_of_and_forged_events_are_not() {
    let socket = open(SockProtocol::NetlinkKObjectUEvent, KERNEL_UEVENTS).unwrap();
    let address: NetlinkAddr = getsockname(socket.as_raw_fd()).unwrap();
    let heard = Heard::default();
    heard.listen(socket);
    let forger = open(SockProtocol::NetlinkKObjectUEvent, 0).unwrap();
    let forged = b"add@/forged\0SUBSYSTEM=forged\0";
    let to = NetlinkAddr::new(address.pid(), 0);
    if let Err(error) = sendto(forger.as_raw_fd(), forged, &to, MsgFlags::empty()) {
        println!("SKIPPED: the forged part: {error}");
    }
    if !ask_for_uevent() {
        return;
    }
    wait_until(SOON, "the loopback's event", async || {
        let messages = heard.messages.lock().unwrap();
        messages.iter().any(|message| subsystem(message) == Some("net"))
    })
    .await;
    let messages = heard.messages.lock().unwrap();
    assert!(messages.iter().all(|message| subsystem(message) != Some("forged")));
}

#[tokio::test]
async fn what_the_socket_could_not_hold_is_told_as_lost() {
    let socket = open(SockProtocol::NetlinkKObjectUEvent, KERNEL_UEVENTS).unwrap();
    setsockopt(&socket, sockopt::RcvBuf, &1).unwrap();
    // Nobody listens yet.
    for _ in 0..100 {
        if !ask_for_uevent() {
            return;
        }
    }
    let heard = Heard::default();
    heard.listen(socket);
    wait_until(SOON, "the loss", async || *heard.lost.lock().unwrap() > 0).await;
}
