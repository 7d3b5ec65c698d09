//! Packages in dpkg's database: `/var/lib/dpkg/status`, and one file a package
//! in `status.d` as distroless images have it. Format: deb-control(5), dpkg(1).

use std::io::{self, BufRead, BufReader};

use contracts::v1::{PackageDetails, asset_details::Details};

use super::{ProbeError, Scan, is_absent, unless_absent};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;
use crate::text::clean;

const STATUS: &str = "var/lib/dpkg/status";
const STATUS_FOLDER: &str = "var/lib/dpkg/status.d";

pub(super) const WATCHED: &[&str] = &[STATUS, STATUS_FOLDER];

/// Most packages of one node; far above any distribution's archive.
const MAX_PACKAGES: usize = 200_000;
/// Most bytes of one line; the longest real ones (dependencies) have 20 KiB.
const MAX_LINE_BYTES: u64 = 1024 * 1024;
/// Most bytes of the whole database.
const MAX_DATABASE_BYTES: u64 = 512 * 1024 * 1024;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut scan = Scan::default();
    match host.open(STATUS) {
        Ok(file) => {
            let stanzas = Stanzas::new(BufReader::new(file));
            collect(stanzas, STATUS, false, &mut scan)?;
        }
        // A node without dpkg has no packages of dpkg.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ProbeError::read(STATUS)(error)),
    }
    for name in unless_absent(STATUS_FOLDER, host.list(STATUS_FOLDER))? {
        let name = clean(name.as_encoded_bytes());
        if name.ends_with(".md5sums") {
            continue;
        }
        let path = format!("{STATUS_FOLDER}/{name}");
        match host.open(&path) {
            Ok(file) => collect(Stanzas::new(BufReader::new(file)), &path, true, &mut scan)?,
            Err(error) if is_absent(&error) => scan.warnings.push(format!("cannot read {path}: {error}")),
            Err(error) => return Err(ProbeError::read(&path)(error)),
        }
    }
    Ok(scan)
}

/// `implied`: files of `status.d` hold installed packages and state no status.
fn collect(
    stanzas: Stanzas<impl BufRead>,
    path: &str,
    implied: bool,
    scan: &mut Scan,
) -> Result<(), ProbeError> {
    for stanza in stanzas {
        let mut stanza = stanza.map_err(ProbeError::read(path))?;
        if implied && stanza.status.is_empty() {
            stanza.status = "install ok installed".to_owned();
        }
        if scan.assets.len() == MAX_PACKAGES {
            let problem = format!("more than {MAX_PACKAGES} packages");
            return Err(ProbeError::Malformed { path: path.to_owned(), problem });
        }
        match stanza.into_asset() {
            Ok(Some(asset)) => scan.assets.push(asset),
            Ok(None) => {}
            Err(problem) => scan.warnings.push(format!("{path}: {problem}")),
        }
    }
    Ok(())
}

/// The fields of one stanza that are reported.
#[derive(Debug, Default, PartialEq)]
struct Stanza {
    package: String,
    status: String,
    version: String,
    architecture: String,
    source: String,
    maintainer: String,
    section: String,
    installed_size: String,
    description: String,
}

impl Stanza {
    fn field(&mut self, name: &[u8]) -> Option<&mut String> {
        // Field names are not case-sensitive.
        Some(match name.to_ascii_lowercase().as_slice() {
            b"package" => &mut self.package,
            b"status" => &mut self.status,
            b"version" => &mut self.version,
            b"architecture" => &mut self.architecture,
            b"source" => &mut self.source,
            b"maintainer" => &mut self.maintainer,
            b"section" => &mut self.section,
            b"installed-size" => &mut self.installed_size,
            b"description" => &mut self.description,
            _ => return None,
        })
    }

    /// The package as an asset; `None` for one that is not there.
    fn into_asset(self) -> Result<Option<ScannedAsset>, String> {
        if self.package.is_empty() {
            return Err("a stanza without Package is left out".to_owned());
        }
        // `Status: want flag state`; only the last says what is on the disk.
        let state = self.status.split_whitespace().nth(2).unwrap_or_default();
        if state.is_empty() {
            return Err(format!("{} states no Status and is left out", self.package));
        }
        if matches!(state, "not-installed" | "config-files") {
            return Ok(None);
        }
        // `Source: name (version)`, the version only when it is another.
        let (source, source_version) = match self.source.split_once(" (") {
            Some((source, version)) => (source.to_owned(), version.trim_end_matches(')').to_owned()),
            None => (self.source.clone(), String::new()),
        };
        let kibibytes: u64 = self.installed_size.parse().unwrap_or(0);
        let details = PackageDetails {
            package: self.package.clone(),
            version: self.version,
            architecture: self.architecture.clone(),
            manager: "dpkg".to_owned(),
            source,
            source_version,
            maintainer: self.maintainer,
            section: self.section,
            installed_size_bytes: kibibytes.saturating_mul(1024),
            status: state.to_owned(),
            summary: self.description,
            ..PackageDetails::default()
        };
        let key = format!("dpkg/{}:{}", self.package, self.architecture);
        Ok(Some(ScannedAsset::new(key, self.package, Details::Package(details))))
    }
}

/// Reads stanza by stanza, so that memory does not grow with the database.
struct Stanzas<R> {
    reader: R,
    line: Vec<u8>,
    bytes: u64,
    ended: bool,
}

impl<R: BufRead> Stanzas<R> {
    fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), bytes: 0, ended: false }
    }

    /// Fills `self.line` without its end; `false` at the end of the file.
    fn next_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let read = io::Read::take(&mut self.reader, MAX_LINE_BYTES).read_until(b'\n', &mut self.line)? as u64;
        self.bytes += read;
        if read == MAX_LINE_BYTES && self.line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 1 MiB"));
        }
        if self.bytes > MAX_DATABASE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 512 MiB"));
        }
        while matches!(self.line.last(), Some(b'\n' | b'\r')) {
            self.line.pop();
        }
        Ok(read > 0)
    }
}

impl<R: BufRead> Iterator for Stanzas<R> {
    type Item = io::Result<Stanza>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stanza = Stanza::default();
        let mut any = false;
        while !self.ended {
            match self.next_line() {
                Ok(true) => {}
                Ok(false) => {
                    self.ended = true;
                    break;
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
            if self.line.iter().all(u8::is_ascii_whitespace) {
                if any {
                    break;
                }
                continue;
            }
            any = true;
            // A line that begins with a space continues the field before; of
            // the fields here none has more than its first line.
            if self.line.first().is_some_and(u8::is_ascii_whitespace) {
                continue;
            }
            let Some(colon) = self.line.iter().position(|&byte| byte == b':') else { continue };
            if let Some(field) = stanza.field(&self.line[..colon]) {
                *field = clean(self.line[colon + 1..].trim_ascii());
            }
        }
        any.then_some(Ok(stanza))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Scan {
        let mut scan = Scan::default();
        collect(Stanzas::new(text), "status", false, &mut scan).unwrap();
        scan
    }

    fn details(asset: &ScannedAsset) -> &PackageDetails {
        match &asset.details {
            Details::Package(details) => details,
            other => panic!("not a package: {other:?}"),
        }
    }

    #[test]
    fn reads_all_fields() {
        let scan = parse(
            b"Package: libssl3\nStatus: install ok installed\nPriority: optional\nSection: libs\n\
            Installed-Size: 6028\nMaintainer: Debian OpenSSL Team <x@y>\nArchitecture: amd64\n\
            Multi-Arch: same\nSource: openssl (3.0.17-1)\nVersion: 3.0.17-1~deb12u2\n\
            Depends: libc6 (>= 2.34)\nDescription: Secure Sockets Layer toolkit\n long: text\n .\n more\n\n",
        );
        assert!(scan.warnings.is_empty());
        assert_eq!(scan.assets[0].natural_key, "dpkg/libssl3:amd64");
        assert_eq!(scan.assets[0].display_name, "libssl3");
        let expected = PackageDetails {
            package: "libssl3".into(),
            version: "3.0.17-1~deb12u2".into(),
            architecture: "amd64".into(),
            manager: "dpkg".into(),
            source: "openssl".into(),
            source_version: "3.0.17-1".into(),
            maintainer: "Debian OpenSSL Team <x@y>".into(),
            section: "libs".into(),
            installed_size_bytes: 6028 * 1024,
            status: "installed".into(),
            summary: "Secure Sockets Layer toolkit".into(),
            ..PackageDetails::default()
        };
        assert_eq!(details(&scan.assets[0]), &expected);
    }

    #[test]
    fn only_what_is_on_the_disk_counts() {
        for (status, expected) in [
            ("install ok installed", Some("installed")),
            ("hold ok installed", Some("installed")),
            ("install ok unpacked", Some("unpacked")),
            ("install reinstreq half-configured", Some("half-configured")),
            ("install ok triggers-pending", Some("triggers-pending")),
            ("deinstall ok config-files", None),
            ("purge ok not-installed", None),
        ] {
            let scan = parse(format!("Package: a\nStatus: {status}\nArchitecture: all\n").as_bytes());
            assert_eq!(scan.assets.first().map(|asset| details(asset).status.as_str()), expected, "{status}");
            assert!(scan.warnings.is_empty());
        }
    }

    #[test]
    fn bad_stanzas_are_named_and_the_rest_is_complete() {
        let scan = parse(
            b"Version: 1\n\n\n\nPackage: no-status\nVersion: 1\n\n\
            no colon here\nPackage: latin\nStatus: install ok installed\nMaintainer: J\xf6rg\0\nArchitecture: all\n\
            Installed-Size: many\r\n \n\r\nPACKAGE: last\nstatus: install ok installed\nArchitecture: all",
        );
        assert_eq!(scan.warnings.len(), 2, "{:?}", scan.warnings);
        let names: Vec<&str> = scan.assets.iter().map(|asset| asset.display_name.as_str()).collect();
        assert_eq!(names, ["latin", "last"]);
        assert_eq!(details(&scan.assets[0]).maintainer, "J\u{fffd}rg");
        assert_eq!(details(&scan.assets[0]).installed_size_bytes, 0);
    }

    #[test]
    fn garbage_gives_no_package_and_an_endless_line_an_error() {
        assert!(parse(b"").assets.is_empty());
        assert!(parse(&[0xff; 4096]).assets.is_empty());
        let endless = vec![b'x'; 2 * 1024 * 1024];
        let mut scan = Scan::default();
        assert!(collect(Stanzas::new(endless.as_slice()), "status", false, &mut scan).is_err());
    }

    #[test]
    fn status_d_holds_installed_packages() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join(STATUS_FOLDER);
        std::fs::create_dir_all(&database).unwrap();
        std::fs::write(database.join("base"), "Package: base-files\nVersion: 12\nArchitecture: amd64\n")
            .unwrap();
        std::fs::write(database.join("base.md5sums"), "0123  etc/x\n").unwrap();
        let scan = scan(&HostRoot::new(folder.path()).unwrap()).unwrap();
        assert_eq!(scan.assets.len(), 1);
        assert_eq!(details(&scan.assets[0]).status, "installed");
    }

    #[test]
    fn what_cannot_be_read_of_status_d_fails_the_probe() {
        // A name longer than any can be: neither there nor absent.
        let unreadable = "x".repeat(300);
        for path in [STATUS_FOLDER, "var/lib/dpkg/status.d/base"] {
            let folder = tempfile::tempdir().unwrap();
            let link = folder.path().join(path);
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&unreadable, link).unwrap();
            let error = scan(&HostRoot::new(folder.path()).unwrap()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("cannot read {path}:")), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_in_status_d_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join(STATUS_FOLDER);
        std::fs::create_dir_all(database.join("folder")).unwrap();
        std::os::unix::fs::symlink("nowhere", database.join("dangling")).unwrap();
        std::os::unix::fs::symlink("circle", database.join("circle")).unwrap();
        let scan = scan(&HostRoot::new(folder.path()).unwrap()).unwrap();
        assert_eq!((scan.assets.len(), scan.warnings.len()), (0, 3), "{:?}", scan.warnings);
    }

    #[test]
    fn a_node_without_dpkg_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let scan = scan(&HostRoot::new(folder.path()).unwrap()).unwrap();
        assert!(scan.assets.is_empty() && scan.warnings.is_empty());
    }
}
