//! IDs of VLANs: from /proc/net/vlan/config, which root alone may read; else
//! from the kernel by rtnetlink(7), which needs no privilege but tells only of
//! the agent's own network namespace; else from the name, if it is the usual one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use super::super::ProbeError;
use super::super::sysfs::if_given;
use super::links::Link;
use crate::host::HostRoot;
use crate::text::clean;

const CONFIG: &str = "proc/1/net/vlan/config";

/// What is known of VLANs.
pub(super) struct Vlans {
    configured: BTreeMap<String, u32>,
    own: bool,
}

impl Vlans {
    /// `own` if the agent's network namespace is the node's.
    pub(super) fn read(host: &HostRoot, own: bool) -> Result<Self, ProbeError> {
        let config = if_given(CONFIG, host.read(CONFIG, 1024 * 1024))?;
        Ok(Self { configured: parse_config(&config), own })
    }

    /// ID of a VLAN; 0 if it cannot be told.
    pub(super) fn id(&self, link: &Link, parent: &str) -> Result<u32, ProbeError> {
        if let Some(id) = self.configured.get(&link.name) {
            return Ok(*id);
        }
        let told = if self.own { if_given("rtnetlink", ask_kernel(link.index))? } else { None };
        Ok(told.unwrap_or_else(|| id_of_name(&link.name, parent)))
    }
}

/// Two headings, then `name | id | parent`.
pub(in super::super) fn parse_config(config: &[u8]) -> BTreeMap<String, u32> {
    let mut vlans = BTreeMap::new();
    for line in clean(config).lines() {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [name, id, _] = parts[..]
            && let Some(id) = valid_id(id)
        {
            vlans.insert(name.to_owned(), id);
        }
    }
    vlans
}

/// `PARENT.ID`, as ip(8) and most others name them.
fn id_of_name(name: &str, parent: &str) -> u32 {
    let id = name.strip_prefix(parent).and_then(|rest| rest.strip_prefix('.')).and_then(valid_id);
    id.filter(|_| !parent.is_empty()).unwrap_or(0)
}

fn valid_id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| (1..=4094).contains(id))
}

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
/// Lengths of nlmsghdr (netlink(7)) and ifinfomsg (rtnetlink(7)).
const HEADER: usize = 16;
const INTERFACE: usize = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;

fn ask_kernel(index: u32) -> io::Result<Option<u32>> {
    Ok(vlan_id(&ask(index)?))
}

/// The kernel's answer to RTM_GETLINK for one interface.
fn ask(index: u32) -> io::Result<Vec<u8>> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(5, 0))?;
    let mut request = Vec::with_capacity(HEADER + INTERFACE);
    request.extend(u32::to_ne_bytes((HEADER + INTERFACE) as u32));
    request.extend(RTM_GETLINK.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // Number of the request and port of the sender, which the kernel fills in;
    // then family and type of the interface, both any.
    request.extend([0; 8 + 4]);
    request.extend(index.to_ne_bytes());
    request.extend([0; 8]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    // The kernel's own buffer for one interface is smaller.
    let mut answer = vec![0; 64 * 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// ID in an RTM_NEWLINK message about a VLAN; `None` for any other.
pub(in super::super) fn vlan_id(message: &[u8]) -> Option<u32> {
    if message.get(4..6)? != RTM_NEWLINK.to_ne_bytes() {
        return None;
    }
    let info = attribute(message.get(HEADER + INTERFACE..)?, IFLA_LINKINFO)?;
    if attribute(info, IFLA_INFO_KIND)?.strip_suffix(b"\0") != Some(b"vlan") {
        return None;
    }
    let id = attribute(attribute(info, IFLA_INFO_DATA)?, IFLA_VLAN_ID)?;
    let id = u32::from(u16::from_ne_bytes(id.try_into().ok()?));
    (1..=4094).contains(&id).then_some(id)
}

/// Value of the first attribute of a type: length with these four bytes, type
/// (its upper two bits are flags), value, and up to the next multiple of four
/// nothing (netlink(7)).
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    const FLAGS: u16 = 0xc000;
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        if kind & !FLAGS == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
pub(in super::super) mod tests {
    use super::*;

    fn put(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
        into.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
        into.extend(kind.to_ne_bytes());
        into.extend(value);
        into.resize(into.len().next_multiple_of(4), 0);
    }

    /// An answer about an interface of this kind.
    pub(in super::super::super) fn message(kind: &[u8], id: u16) -> Vec<u8> {
        const IFLA_VLAN_FLAGS: u16 = 2;
        const IFLA_IFNAME: u16 = 3;
        let (mut data, mut info) = (Vec::new(), Vec::new());
        put(&mut data, IFLA_VLAN_FLAGS, &[1; 8]);
        put(&mut data, IFLA_VLAN_ID, &id.to_ne_bytes());
        put(&mut info, IFLA_INFO_KIND, kind);
        put(&mut info, IFLA_INFO_DATA | 0x8000, &data);
        let mut message = vec![0; HEADER + INTERFACE];
        message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        put(&mut message, IFLA_IFNAME, b"vlan7\0");
        put(&mut message, IFLA_LINKINFO, &info);
        message
    }

    #[test]
    fn reads_what_the_kernel_says_of_a_vlan() {
        assert_eq!(vlan_id(&message(b"vlan\0", 100)), Some(100));
        assert_eq!(vlan_id(&message(b"vlan\0", 4095)), None);
        assert_eq!(vlan_id(&message(b"vxlan\0", 100)), None);
        assert_eq!(vlan_id(&[]), None);
        let whole = message(b"vlan\0", 100);
        for length in 0..whole.len() - 2 {
            assert_eq!(vlan_id(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn the_kernel_answers_of_the_loopback() {
        const IFLA_IFNAME: u16 = 3;
        let answer = ask(1).unwrap();
        assert_eq!(attribute(&answer[HEADER + INTERFACE..], IFLA_IFNAME), Some(&b"lo\0"[..]));
        assert_eq!(ask_kernel(1).unwrap(), None);
        assert_eq!(ask_kernel(u32::MAX / 2).unwrap(), None, "no such interface");
    }

    #[test]
    fn names_tell_vlans_where_they_are_usual() {
        for (name, parent, id) in [
            ("eth0.100", "eth0", 100),
            ("eth0.4095", "eth0", 0),
            ("eth0.0", "eth0", 0),
            ("mgmt", "eth0", 0),
            (".5", "", 0),
            ("eth01", "eth0", 0),
        ] {
            assert_eq!(id_of_name(name, parent), id, "{name}");
        }
    }
}
