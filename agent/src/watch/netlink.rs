//! Sockets by which the kernel tells of interfaces, addresses and routes
//! (rtnetlink(7)), and of devices (uevents: netlink(7), NETLINK_KOBJECT_UEVENT).
//!
//! The first belongs to the agent's own network namespace. Uevents reach every
//! network namespace of the machine's own users.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::io::Interest;

use super::ready::registered;
use super::wake::{Source, WakeSender};
use crate::host::HostRoot;
use crate::probe::Signal;

/// Multicast groups of links, addresses and routes.
const NETWORK_GROUPS: i32 = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_ROUTE;
/// The kernel's own uevents, and those that udev passes on when it has looked at
/// a device and its database knows it.
const KERNEL_UEVENTS: i32 = 1;
const UDEV_EVENTS: i32 = 2;
/// Larger than a uevent can be (UEVENT_BUFFER_SIZE is 2,048); of rtnetlink
/// only the arrival counts.
const MESSAGE_BYTES: usize = 8 * 1024;
/// Pause between two turns, and messages of one turn: a storm of containers
/// makes thousands, and what the socket cannot hold counts as lost.
const TURN: Duration = Duration::from_millis(100);
const MAX_MESSAGES: usize = 1024;

/// Waits for changes of interfaces, addresses and routes. Those of another
/// namespace than the node's say nothing.
pub(super) async fn watch_network(host: &HostRoot, wakes: &WakeSender) -> io::Result<Infallible> {
    if !host.shares_network()? {
        return Err(io::Error::other("the agent is not in the node's network namespace"));
    }
    let socket = open(SockProtocol::NetlinkRoute, NETWORK_GROUPS)?;
    wakes.up(Source::Network);
    watch(socket, || wakes.lost(Source::Network), |_| wakes.signal(Signal::Network)).await
}

/// Waits for devices that come, go or change.
pub(super) async fn watch_devices(wakes: &WakeSender) -> io::Result<Infallible> {
    let socket = open(SockProtocol::NetlinkKObjectUEvent, KERNEL_UEVENTS | UDEV_EVENTS)?;
    wakes.up(Source::Devices);
    let told = |message: &[u8]| {
        if is_block_of_udev(message) {
            wakes.device("block");
        } else if let Some(subsystem) = subsystem(message) {
            wakes.device(subsystem);
        }
    };
    watch(socket, || wakes.lost(Source::Devices), told).await
}

fn open(protocol: SockProtocol, groups: i32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups.unsigned_abs()))?;
    Ok(socket)
}

async fn watch(socket: OwnedFd, lost: impl Fn(), told: impl Fn(&[u8])) -> io::Result<Infallible> {
    let socket = registered(socket, Interest::READABLE)?;
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let mut guard = socket.readable().await?;
        for _ in 0..MAX_MESSAGES {
            match recvfrom::<NetlinkAddr>(guard.get_inner().as_raw_fd(), &mut buffer) {
                // Only what the kernel sends itself counts, and of udev that a
                // block device may have changed: a forged event costs a scan,
                // and to send one takes CAP_NET_ADMIN in this namespace.
                Ok((length, Some(sender))) => {
                    let message = &buffer[..length.min(MESSAGE_BYTES)];
                    if sender.pid() == 0 || is_block_of_udev(message) {
                        told(message);
                    }
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => lost(),
                Err(Errno::EAGAIN) => {
                    guard.clear_ready();
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        tokio::time::sleep(TURN).await;
    }
}

/// Whether udev says that it has looked at a block device: "libudev", a zero byte
/// and a header of numbers, then `KEY=VALUE` each (monitor_netlink_header of
/// systemd's sd-device). Only devices of storage are named by what udev knows.
fn is_block_of_udev(message: &[u8]) -> bool {
    message.starts_with(b"libudev\0")
        && message.split(|&byte| byte == 0).any(|field| field == b"SUBSYSTEM=block")
}

/// Subsystem of a uevent: `ACTION@DEVPATH`, then `KEY=VALUE` each, all ended by
/// a zero byte (kobject_uevent_env in the kernel's lib/kobject_uevent.c).
fn subsystem(message: &[u8]) -> Option<&str> {
    let mut fields = message.split(|&byte| byte == 0);
    fields.next().filter(|header| header.contains(&b'@'))?;
    let value = fields.find_map(|field| field.strip_prefix(b"SUBSYSTEM="))?;
    std::str::from_utf8(value).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
