//! Packages in apk's database: stanzas of lines `letter:value`, an empty line
//! after each. Format: "Installed Database V2" in the wiki of Alpine
//! (Apk_spec).

use std::io::Read;

use contracts::v1::PackageDetails;

use super::lines::Lines;
use super::{Files, Found, MAX_TEXT_BYTES, shown};
use crate::probe::{ProbeError, is_absent};
use crate::text::clean;

/// Where the database is; the second from apk-tools 3 on, to which the first
/// may be a link.
pub(super) const DATABASES: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

pub(super) fn read(files: &dyn Files, found: &mut Found) -> Result<(), ProbeError> {
    for path in DATABASES {
        match files.open(path) {
            // Through a link both are one; of one package the first read counts.
            Ok(file) => collect(Lines::new(file), path, found)?,
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(ProbeError::read(path)(error)),
        }
    }
    Ok(())
}

fn collect(mut lines: Lines<impl Read>, path: &str, found: &mut Found) -> Result<(), ProbeError> {
    let mut package = PackageDetails::default();
    let mut any = false;
    loop {
        let line = lines.next().map_err(ProbeError::read(path))?;
        let line = match line {
            Some(line) if !line.is_empty() => line,
            ended => {
                let ended = ended.is_none();
                if any {
                    add(std::mem::take(&mut package), path, found)?;
                }
                any = false;
                if ended {
                    return Ok(());
                }
                continue;
            }
        };
        any = true;
        let [letter, b':', value @ ..] = line else { continue };
        let value = || clean(&value[..value.len().min(MAX_TEXT_BYTES)]);
        match letter {
            b'P' => package.package = value(),
            b'V' => package.version = value(),
            b'A' => package.architecture = value(),
            b'T' => package.summary = value(),
            b'L' => package.license = value(),
            b'U' => package.homepage = value(),
            b'I' => package.installed_size_bytes = value().parse().unwrap_or(0),
            b'o' => package.source = value(),
            b'm' => package.maintainer = value(),
            // Flags of a package whose files, scripts or extended attributes
            // could not all be put in place.
            b'f' if value().contains(['f', 's', 'x']) => package.status = "broken".to_owned(),
            _ => {}
        }
    }
}

fn add(mut package: PackageDetails, path: &str, found: &mut Found) -> Result<(), ProbeError> {
    if package.package.is_empty() || package.version.is_empty() {
        let name = shown(&package.package);
        found.warn(format!("{path}: a stanza without name or version is left out: {name:?}"));
        return Ok(());
    }
    package.manager = "apk".to_owned();
    if package.status.is_empty() {
        package.status = "installed".to_owned();
    }
    if package.source == package.package {
        package.source.clear();
    }
    found.add(path, format!("apk/{}", package.package), package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostRoot;

    const BUSYBOX: &str = "C:Q1gKi2XrdiS9ifJtvmbhMgGDkEwGw=\nP:busybox\nV:1.36.1-r29\nA:x86_64\nS:509600\n\
        I:962560\nT:Size optimized toolbox of many common UNIX utilities\nU:https://busybox.net/\n\
        L:GPL-2.0-only\no:busybox\nm:Sören Tempel <soeren@example.org>\nt:1718271452\n\
        c:1747231889a2b80e8e0d4a0b4ab9a1b5a3b3a3b4\nD:so:libc.musl-x86_64.so.1\np:cmd:busybox=1.36.1-r29\n\
        F:bin\nR:busybox\na:0:0:755\nZ:Q1xyz=\n";

    fn parse(text: &[u8]) -> Found {
        let mut found = Found::default();
        collect(Lines::new(text), "installed", &mut found).unwrap();
        found
    }

    #[test]
    fn reads_all_fields() {
        let found =
            parse(format!("{BUSYBOX}\nP:ssl_client\nV:1.36.1-r29\nA:x86_64\no:busybox\nf:fs\n").as_bytes());
        let expected = PackageDetails {
            package: "busybox".into(),
            version: "1.36.1-r29".into(),
            architecture: "x86_64".into(),
            manager: "apk".into(),
            maintainer: "Sören Tempel <soeren@example.org>".into(),
            installed_size_bytes: 962_560,
            status: "installed".into(),
            summary: "Size optimized toolbox of many common UNIX utilities".into(),
            license: "GPL-2.0-only".into(),
            homepage: "https://busybox.net/".into(),
            ..PackageDetails::default()
        };
        assert_eq!(found.packages[0], (expected, "apk/busybox".to_owned()));
        let (client, key) = &found.packages[1];
        assert_eq!(
            (client.source.as_str(), client.status.as_str(), key.as_str()),
            ("busybox", "broken", "apk/ssl_client")
        );
    }

    #[test]
    fn bad_stanzas_are_named_and_the_rest_is_complete() {
        let found =
            parse(b"\n\nV:1\n\n:x\nP\n\nP:a\nV:\n\nnothing\nP:l\xf6w\nV:2\nI:much\n\n\n\nP:last\nV:3");
        let names: Vec<&str> = found.packages.iter().map(|(package, _)| package.package.as_str()).collect();
        assert_eq!((names, found.warnings.len()), (vec!["l\u{fffd}w", "last"], 3));
        assert!(parse(&[0xff; 4096]).packages.is_empty());
    }

    #[test]
    fn one_database_by_two_paths_is_one() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/apk/db");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("installed"), BUSYBOX).unwrap();
        std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
        let (packages, warnings) = super::super::read_all(&HostRoot::new(root.path()).unwrap()).unwrap();
        assert_eq!((packages.len(), warnings.len()), (1, 0));
    }
}
