//! All that FusionInventory's agent lists of this machine is in our inventory:
//! each section, each item, each field. What it lists and we do not record is
//! named in [`left_out`] with the reason; anything else, sections that nobody
//! thought of included, fails.

mod left_out;
mod sections;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use agent::asset::ScannedAsset;
use agent::config::ProbeArgs;
use agent::host::HostRoot;
use agent::probe;

use crate::hardware::smbios;
use crate::namespaces::{PART, in_own_namespaces};

/// One entry of a section: its fields, each with one value or more. A field
/// within a field is `OUTER/INNER`.
type Item = BTreeMap<String, Vec<String>>;

/// What it lists, by section.
type Listed = BTreeMap<String, Vec<Item>>;

/// Runs it, with these folders before those of the programs that it asks; `None`
/// after saying SKIPPED where there is none. It needs no server, and neither
/// sends nor keeps anything.
fn listed(before: &str, more: &[&str]) -> Option<Listed> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("fusioninventory-inventory")
        .args(more)
        .env("PATH", format!("{before}{path}"))
        .env("LC_ALL", "C.UTF-8")
        .output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            println!(
                "SKIPPED: fusioninventory-inventory fails here: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            return None;
        }
        Err(error) => {
            println!("SKIPPED: no fusioninventory-inventory here: {error}");
            return None;
        }
    };
    let listed = parse(&String::from_utf8_lossy(&output.stdout));
    assert!(listed.contains_key("HARDWARE"), "{}", String::from_utf8_lossy(&output.stdout));
    Some(listed)
}

/// Reads its XML, which has elements and texts alone: REQUEST, CONTENT, section,
/// field, and in few fields others.
fn parse(xml: &str) -> Listed {
    let mut listed = Listed::new();
    let mut open: Vec<&str> = Vec::new();
    for piece in xml.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        if tag.starts_with('?') {
            continue;
        }
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed));
            continue;
        }
        let (name, is_empty) = match tag.strip_suffix('/') {
            Some(name) => (name.trim(), true),
            None => (tag, false),
        };
        open.push(name);
        if open.len() == 3 && open[1] == "CONTENT" {
            listed.entry(name.to_owned()).or_default().push(Item::new());
        } else if open.len() > 3 && !text.trim().is_empty() {
            let item = listed.get_mut(open[2]).unwrap().last_mut().unwrap();
            item.entry(open[3..].join("/")).or_default().push(plain(text));
        }
        if is_empty {
            open.pop();
        }
    }
    assert!(open.is_empty(), "{open:?}");
    listed
}

/// A text without entities, and with one space for white space.
fn plain(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Our inventory.
struct Own(Vec<ScannedAsset>);

impl Own {
    fn of(root: impl AsRef<Path>) -> Self {
        let host = HostRoot::new(root).unwrap();
        let probes = probe::all(&probe::Context::forgetful(ProbeArgs::default()));
        Self(probes.iter().filter_map(|probe| probe.scan(&host).ok()).flat_map(|scan| scan.assets).collect())
    }
}

/// Compares the fields of one item with ours.
struct Check<'a> {
    item: &'a Item,
    compared: BTreeSet<&'static str>,
    /// Field, its value, and what we have instead.
    missing: Vec<(String, String, String)>,
}

impl<'a> Check<'a> {
    /// The only value of a field; empty if there is none.
    fn get(&self, field: &str) -> &'a str {
        self.item.get(field).map_or("", |values| values[0].as_str())
    }

    /// By these the item was found, or they are nothing without another.
    fn found_by(&mut self, fields: &[&'static str]) {
        self.compared.extend(fields);
    }

    /// Each value must be ours.
    fn same(&mut self, field: &'static str, own: &(impl ToString + ?Sized)) {
        let own = own.to_string();
        self.holds(field, &own, |value| value == plain(&own));
    }

    /// Each value must be one of ours.
    fn one_of(&mut self, field: &'static str, own: &[String]) {
        self.holds(field, &own.join(", "), |value| own.iter().any(|own| value == plain(own)));
    }

    /// Each value must pass; `own` is for who reads the failure.
    fn holds(&mut self, field: &'static str, own: &str, passes: impl Fn(&str) -> bool) {
        self.compared.insert(field);
        for value in self.item.get(field).into_iter().flatten().filter(|value| !passes(value)) {
            self.missing.push((field.to_owned(), value.clone(), own.to_owned()));
        }
    }
}

/// What is listed and missing in ours, with what ours has instead.
fn missing(listed: &Listed, own: &Own) -> BTreeMap<String, String> {
    let mut missing = BTreeMap::new();
    for (section, items) in listed {
        if left_out::section(section).is_some() {
            continue;
        }
        for (place, item) in items.iter().enumerate() {
            if left_out::item(section, item).is_some() {
                continue;
            }
            let mut check = Check { item, compared: BTreeSet::new(), missing: Vec::new() };
            if !sections::compare(section, place, &mut check, own) {
                missing.insert(format!("{section}: {item:?}"), "nothing".to_owned());
                continue;
            }
            for (field, value, own) in check.missing {
                missing.insert(format!("{section} {field}: {value} of {item:?}"), own);
            }
            for field in item.keys().filter(|field| !check.compared.contains(field.as_str())) {
                if left_out::field(section, field).is_none() {
                    missing
                        .insert(format!("{section} {field}: neither compared nor left out"), String::new());
                }
            }
        }
    }
    missing
}

#[test]
fn nothing_that_fusioninventory_lists_is_missing() {
    compare_this_machine();
}

/// The same with interfaces and addresses that few machines have. A link that
/// the kernel cannot make is not made.
#[test]
fn nothing_is_missing_of_a_network_that_was_made() {
    if std::env::var(PART).is_err() {
        in_own_namespaces("fusioninventory::nothing_is_missing_of_a_network_that_was_made");
        return;
    }
    let mut made = 0;
    for command in [
        "link set lo up",
        "link add bridge0 type bridge",
        "link add dummy0 type dummy",
        "link add bond0 type bond",
        "link add veth0 type veth peer name veth1",
        "link add link veth0 name veth0.5 type vlan id 5",
        "link set veth1 master bridge0",
        "link set dummy0 master bond0",
        "link set veth0 mtu 1400",
        "link set veth0 up",
        "link set veth1 up",
        "link set bridge0 up",
        "link set veth0.5 up",
        "tuntap add tun0 mode tun",
        "address add 10.7.0.1/24 dev veth0",
        "address add 10.8.0.1/32 dev veth0 label veth0:1",
        "address add 10.9.0.1/20 dev bridge0",
        "-6 address add fd01::5/112 dev bridge0 nodad",
        "-6 address add fd02::5/56 dev bridge0 nodad",
        "route add default via 10.7.0.254",
    ] {
        made += usize::from(Command::new("ip").args(command.split(' ')).status().unwrap().success());
    }
    println!("{made} links, addresses and routes made");
    compare_this_machine();
}

fn compare_this_machine() {
    // Other tests make swap areas and interfaces beside this one. What is there
    // all the time is seen before or after; what came and went is tried again.
    let mut seen = BTreeMap::new();
    for _ in 0..5 {
        let before = Own::of("/");
        let Some(listed) = listed("", &[]) else { return };
        let after = Own::of("/");
        seen = missing(&listed, &before);
        let missing_after = missing(&listed, &after);
        seen.retain(|what, _| missing_after.contains_key(what));
        if seen.is_empty() {
            for (section, items) in &listed {
                let skipped = items.iter().filter(|item| left_out::item(section, item).is_some()).count();
                match left_out::section(section) {
                    Some(reason) => println!("{section}: {} left out: {reason}", items.len()),
                    None => println!("{section}: {} of {} found", items.len() - skipped, items.len()),
                }
            }
            return;
        }
    }
    panic!("{seen:#?}");
}

/// Few machines that run tests have a DMI table. Here dmidecode, which it asks,
/// and we read one that was made.
#[test]
fn the_hardware_of_a_described_machine_is_that_of_fusioninventory() {
    let Some(root) = smbios::described_machine() else { return };
    fs::create_dir_all(root.path().join("bin")).unwrap();
    let program = root.path().join("bin/dmidecode");
    let dump = root.path().join("dump");
    let Some(dmidecode) = crate::tool("sh", &["-c", "command -v dmidecode"]) else { return };
    fs::write(
        &program,
        format!("#!/bin/sh\nexec {} --from-dump '{}' \"$@\"\n", dmidecode.trim(), dump.display()),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let Some(mut listed) =
        listed(&format!("{}/bin:", root.path().display()), &["--no-category=software,process,environment"])
    else {
        return;
    };
    // The rest is of this machine.
    listed.retain(|section, _| ["BIOS", "MEMORIES", "HARDWARE"].contains(&section.as_str()));
    let hardware = &mut listed.get_mut("HARDWARE").unwrap()[0];
    // Rule: in a container it takes neither UUID nor serial number for the machine's.
    let in_container = hardware.get("VMSYSTEM").is_some_and(|kind| kind[0] == "Docker");
    hardware.retain(|field, _| field == "CHASSIS_TYPE" || field == "UUID" && !in_container);
    assert!(listed["BIOS"][0].len() >= 8 && listed["MEMORIES"].len() > 1, "{listed:?}");
    let found = missing(&listed, &Own::of(root.path()));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_is_missing_is_told() {
    let listed = |xml: &str| parse(&format!("<REQUEST><CONTENT>{xml}</CONTENT></REQUEST>"));
    let own = Own::of("/");
    for (xml, told) in [
        ("<SOFTWARES><NAME>no&amp;where</NAME><FROM>deb</FROM></SOFTWARES>", "no&where"),
        ("<LOCAL_USERS><LOGIN>root</LOGIN><ID>17</ID></LOCAL_USERS>", "LOCAL_USERS ID: 17"),
        ("<NETWORKS><DESCRIPTION>nowhere0</DESCRIPTION></NETWORKS>", "nowhere0"),
        ("<NETWORKS><DESCRIPTION>lo</DESCRIPTION><NEW>1</NEW></NETWORKS>", "NEW: neither compared"),
        ("<TELEPORTERS><NAME>x</NAME></TELEPORTERS>", "TELEPORTERS"),
    ] {
        let missing = missing(&listed(xml), &own);
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing.keys().next().unwrap().contains(told), "{missing:?}");
    }
}
