//! How names are resolved: resolv.conf(5).

use contracts::v1::{DnsResolverDetails, asset_details::Details};

use super::{ProbeError, Scan, is_absent};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const RESOLV_CONF: &str = "etc/resolv.conf";
/// The servers that systemd-resolved(8) asks, where the file of /etc says only
/// to ask it.
const RESOLVED: &str = "run/systemd/resolve/resolv.conf";
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

pub(super) const WATCHED: &[&str] = &[RESOLV_CONF, RESOLVED];

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut scan = Scan::default();
    for path in [RESOLV_CONF, RESOLVED] {
        let text = match host.read(path, 1024 * 1024) {
            Err(error) if is_absent(&error) => break,
            read => read.map_err(ProbeError::read(path))?,
        };
        let key = format!("/{path}");
        let resolver = DnsResolverDetails { path: key.clone(), ..parse(&text) };
        let is_stub = resolver.name_servers.iter().any(|server| STUBS.contains(&server.as_str()));
        scan.assets.push(ScannedAsset::new(key.clone(), key, Details::DnsResolver(resolver)));
        if !is_stub {
            break;
        }
    }
    Ok(scan)
}

/// A keyword stands at the start of its line. Of `domain` and `search` the last
/// counts; options add up.
fn parse(text: &[u8]) -> DnsResolverDetails {
    let mut resolver = DnsResolverDetails::default();
    for line in text.split(|&byte| byte == b'\n') {
        let line = clean(line);
        if line.starts_with(char::is_whitespace) {
            continue;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => resolver.name_servers.extend(words.next()),
            Some("search") => resolver.search_domains = words.collect(),
            Some("domain") => resolver.search_domains = words.take(1).collect(),
            Some("options") => resolver.options.extend(words),
            _ => {}
        }
    }
    resolver
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn reads_resolv_conf() {
        let text = b"# nameserver 1.1.1.1\n; search x\nnameserver 10.0.0.10\nnameserver\tfe80::1%eth0\n\
            domain old.example\nsearch a.example b.example\n nameserver 9.9.9.9\noptions ndots:5 rotate\n\
            options timeout:1\nnameserver\nsortlist 130.155.0.0\n\xff\n";
        let resolver = parse(text);
        assert_eq!(resolver.name_servers, ["10.0.0.10", "fe80::1%eth0"]);
        assert_eq!(resolver.search_domains, ["a.example", "b.example"]);
        assert_eq!(resolver.options, ["ndots:5", "rotate", "timeout:1"]);
        assert_eq!(parse(b"search a b\ndomain c d\n").search_domains, ["c"]);
    }

    #[test]
    fn behind_a_stub_are_the_servers_that_it_asks() {
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path()).unwrap();
        let keys = || -> Vec<String> {
            scan(&host).unwrap().assets.into_iter().map(|asset| asset.natural_key).collect()
        };
        assert!(keys().is_empty());
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir_all(root.path().join("run/systemd/resolve")).unwrap();
        fs::write(root.path().join(RESOLVED), "nameserver 192.0.2.1\n").unwrap();
        assert!(keys().is_empty(), "nothing says that it is asked");
        fs::write(root.path().join(RESOLV_CONF), "nameserver 192.0.2.9\n").unwrap();
        assert_eq!(keys(), ["/etc/resolv.conf"]);
        fs::write(root.path().join(RESOLV_CONF), "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(keys(), ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]);
    }
}
