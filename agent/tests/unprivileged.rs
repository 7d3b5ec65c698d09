//! An agent without privileges finds what root finds, but for what is named here
//! and told on standard error.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// User and group that own nothing (nobody and nogroup).
const NOBODY: u32 = 65534;

/// Kinds of which an unprivileged agent may miss assets, each by a probe that
/// says so, and why.
const FEWER: &[(&str, &str, &str)] = &[
    ("cron", "ASSET_KIND_CRON_ENTRY", "users' crontabs are for root"),
    ("certificates", "ASSET_KIND_CERTIFICATE", "folders of private keys are closed"),
    ("memory", "ASSET_KIND_MEMORY_MODULE", "SMBIOS has serial numbers, so its table is for root"),
    ("pods", "ASSET_KIND_POD", "the runtime's socket is for root, as it gives root"),
    ("containers", "ASSET_KIND_CONTAINER", "likewise; they are then found by cgroups, some by other keys"),
    ("images", "ASSET_KIND_CONTAINER_IMAGE", "likewise"),
];

/// Kinds of which it may know less, by a probe that says so.
const LESS: &[(&str, &str, &str)] = &[
    ("users", "ASSET_KIND_USER", "shadow and sudoers are for root"),
    ("kernel_parameters", "ASSET_KIND_KERNEL_PARAMETER", "some may be read by root alone"),
    ("boards", "ASSET_KIND_BOARD", "serial numbers are for root"),
    ("network", "ASSET_KIND_NETWORK_INTERFACE", "VLAN IDs, in a network of its own"),
    ("sockets", "ASSET_KIND_LISTENING_SOCKET", "descriptors of others' processes are for root"),
    ("accelerators", "ASSET_KIND_ACCELERATOR", "what its driver tells root alone"),
];

fn scan(binary: &Path, as_nobody: bool) -> Output {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ASSETTRACK_") {
            command.env_remove(name);
        }
    }
    if as_nobody {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["scan", "--output", "json"]).current_dir("/").output().unwrap()
}

/// Assets by kind and natural key.
fn assets(output: &Output) -> BTreeMap<(String, String), Value> {
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |asset: &Value, field: &str| asset[field].as_str().unwrap().to_owned();
    all.into_iter().map(|asset| ((text(&asset, "kind"), text(&asset, "naturalKey")), asset)).collect()
}

/// What standard error says, without the word before it.
fn told(output: &Output) -> BTreeSet<String> {
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    lines
        .lines()
        // The last line of a scan of which probes failed counts them.
        .filter(|line| !line.ends_with(" of the probes failed"))
        .map(|line| match line.strip_prefix("warning: ").or_else(|| line.strip_prefix("error: ")) {
            Some(told) => told.to_owned(),
            None => panic!("neither warning nor error: {lines}"),
        })
        .collect()
}

/// Whether a probe says that it was not let in, and what would help.
fn says_so(told: &BTreeSet<String>, probe: &str) -> bool {
    told.iter().any(|line| {
        line.starts_with(&format!("{probe}: "))
            && ["needs root", "permission denied", "Permission denied"].iter().any(|why| line.contains(why))
    })
}

#[test]
fn an_agent_without_privileges_finds_what_root_finds() {
    let folder = tempfile::tempdir().unwrap();
    // Where nobody may go, unlike to the folders of a build.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("agent");
    fs::copy(env!("CARGO_BIN_EXE_assettrack-agent"), &binary).unwrap();
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: not root, so there is nothing to compare with");
        let output = scan(&binary, false);
        assert!(output.status.success(), "{output:?}");
        told(&output);
        assert!(assets(&output).contains_key(&("ASSET_KIND_NODE".to_owned(), "node".to_owned())));
        return;
    }
    let mut found = Vec::new();
    // What comes and goes meanwhile, such as a socket, is tried again.
    for _ in 0..5 {
        let outputs = [scan(&binary, false), scan(&binary, true), scan(&binary, false)];
        for (output, is_root) in outputs.iter().zip([true, false, true]) {
            let lines = String::from_utf8_lossy(&output.stderr);
            // A probe may fail that is let in nowhere, and the exit status says so.
            let has_failed = lines.lines().any(|line| line.starts_with("error: "));
            assert!(output.status.success() != has_failed, "{lines}");
            assert!(!(is_root && has_failed), "{lines}");
        }
        found = differences(&outputs);
        if found.is_empty() {
            let told = &told(&outputs[1]) - &told(&outputs[0]);
            println!("{} assets; told: {told:#?}", assets(&outputs[1]).len());
            return;
        }
    }
    panic!("{found:#?}");
}

/// What the second of three scans has not and both others have, or has otherwise,
/// without being named above.
fn differences([before, nobody, after]: &[Output; 3]) -> Vec<String> {
    let told_to_root = &told(before) | &told(after);
    let told = &told(nobody) - &told_to_root;
    let (before, nobody, after) = (assets(before), assets(nobody), assets(after));
    let mut found = Vec::new();
    for line in &told {
        let mut named = FEWER.iter().chain(LESS);
        if !named.any(|(probe, ..)| line.starts_with(&format!("{probe}: ")) && says_so(&told, probe)) {
            found.push(format!("told without need: {line}"));
        }
    }
    let may = |list: &[(&str, &str, &str)], kind: &str| {
        list.iter().any(|(probe, of, _)| *of == kind && says_so(&told, probe))
    };
    for (name, asset) in &before {
        let kind = name.0.as_str();
        match (nobody.get(name), after.get(name)) {
            (None, Some(_)) if !may(FEWER, kind) => found.push(format!("{name:?} is missing")),
            (Some(own), Some(later))
                if own != asset && asset == later && !may(LESS, kind) && !may(FEWER, kind) =>
            {
                found.push(format!("{name:?} is {own} and not {asset}"));
            }
            _ => {}
        }
    }
    for name in nobody.keys().filter(|name| !before.contains_key(name) && !after.contains_key(name)) {
        // By cgroups alone, some containers have other keys.
        if !may(FEWER, &name.0) {
            found.push(format!("{name:?} is there for nobody alone"));
        }
    }
    found
}
