//! Loaded kernel modules: `/proc/modules` (proc_modules(5)) with version and
//! taint from `/sys/module`.

use std::io;

use contracts::v1::{KernelModuleDetails, asset_details::Details};

use super::{ProbeError, Scan, exists};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const MODULES: &str = "proc/modules";

pub(super) const WATCHED: &[&str] = &[];

/// A line of `/proc/modules` has some 60 bytes; a kernel has at most some
/// thousands of modules.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let text = match host.read(MODULES, MAX_BYTES) {
        Ok(text) => text,
        // A kernel built without modules has no such file; a host root without
        // /proc has not even this one.
        Err(error) if error.kind() == io::ErrorKind::NotFound && exists(host, "proc/version")? => Vec::new(),
        Err(error) => return Err(ProbeError::read(MODULES)(error)),
    };
    let (mut modules, warnings) = parse_modules(&text);
    for module in &mut modules {
        let folder = format!("sys/module/{}", module.module);
        module.version = host.line(format!("{folder}/version")).unwrap_or_default();
        if let Some(taint) = host.line(format!("{folder}/taint")) {
            module.taint = taint;
        }
    }
    let asset = |module: KernelModuleDetails| {
        ScannedAsset::new(module.module.clone(), module.module.clone(), Details::KernelModule(module))
    };
    Ok(Scan { assets: modules.into_iter().map(asset).collect(), warnings, ..Scan::default() })
}

/// Parses lines `name size count users state address (taint)`. Modules that
/// are being unloaded are gone already.
fn parse_modules(text: &[u8]) -> (Vec<KernelModuleDetails>, Vec<String>) {
    let (mut modules, mut warnings) = (Vec::new(), Vec::new());
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let line = clean(line);
        match parse_line(&line) {
            Some(Some(module)) => modules.push(module),
            Some(None) => {}
            None => warnings.push(format!("{MODULES}: cannot read the line `{}`", line.escape_debug())),
        }
    }
    (modules, warnings)
}

fn parse_line(line: &str) -> Option<Option<KernelModuleDetails>> {
    let mut words = line.split(' ');
    let module = words.next().filter(|name| !name.is_empty())?.to_owned();
    let size_bytes = words.next()?.parse().ok()?;
    let _references = words.next()?;
    // `-` for none, else names that each end with a comma; `[permanent]` stands
    // among them for a module that cannot be unloaded.
    let users = words.next()?;
    let mut used_by: Vec<String> = users
        .split(',')
        .filter(|user| !user.is_empty() && *user != "-" && !user.starts_with('['))
        .map(str::to_owned)
        .collect();
    used_by.sort();
    if words.next()? == "Unloading" {
        return Some(None);
    }
    let _address = words.next()?;
    let taint =
        words.next().unwrap_or_default().trim_matches(['(', ')']).trim_end_matches(['+', '-']).to_owned();
    Some(Some(KernelModuleDetails { module, version: String::new(), size_bytes, used_by, taint }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_kernels_write() {
        let (modules, warnings) = parse_modules(
            b"nf_tables 319488 5 nft_chain_nat,nft_compat, Live 0xffffffffc0a4e000\n\
            zfs 5000000 6 - Live 0x0000000000000000 (POE)\n\
            evm 16384 1 [permanent], Live 0x0\n\
            ext4 983040 2 - Live 0x0 (E+)\n\
            leaving 4096 0 - Unloading 0x0\n\
            coming 4096 1 - Loading 0x0\n",
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        let names: Vec<&str> = modules.iter().map(|module| module.module.as_str()).collect();
        assert_eq!(names, ["nf_tables", "zfs", "evm", "ext4", "coming"]);
        assert_eq!(modules[0].used_by, ["nft_chain_nat", "nft_compat"]);
        assert_eq!(modules[0].size_bytes, 319_488);
        assert_eq!((modules[1].taint.as_str(), modules[3].taint.as_str()), ("POE", "E"));
        assert!(modules[2].used_by.is_empty());
    }

    #[test]
    fn the_order_of_users_does_not_matter() {
        let (one, _) = parse_modules(b"a 1 2 c,b, Live 0x0\n");
        let (two, _) = parse_modules(b"a 1 2 b,c, Live 0x1\n");
        assert_eq!(one, two);
    }

    #[test]
    fn garbage_is_named_and_the_rest_is_complete() {
        let (modules, warnings) =
            parse_modules(b"\xff\xfe\n\nshort 12\nname size 0 - Live 0x0\ngood 1 0 - Live 0x0");
        assert_eq!(modules.len(), 1);
        assert_eq!(warnings.len(), 3);
    }

    #[test]
    fn a_kernel_without_modules_has_none_and_a_root_without_proc_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let host = HostRoot::new(folder.path()).unwrap();
        assert!(scan(&host).is_err());
        std::fs::create_dir(folder.path().join("proc")).unwrap();
        std::fs::write(folder.path().join("proc/version"), "Linux version 6.18\n").unwrap();
        assert!(scan(&host).unwrap().assets.is_empty());
        std::fs::write(folder.path().join("proc/modules"), "zfs 5 0 - Live 0x0 (POE)\n").unwrap();
        std::fs::create_dir_all(folder.path().join("sys/module/zfs")).unwrap();
        std::fs::write(folder.path().join("sys/module/zfs/version"), "2.2.0-1\n").unwrap();
        let Details::KernelModule(zfs) = &scan(&host).unwrap().assets[0].details else { panic!("no module") };
        assert_eq!((zfs.version.as_str(), zfs.taint.as_str()), ("2.2.0-1", "POE"));
    }
}
