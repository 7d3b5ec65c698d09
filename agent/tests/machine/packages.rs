//! Packages, against the package managers. Databases of rpm are made by rpm, in
//! folders of their own, from packages that are built here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::config::ProbeArgs;
use agent::host::HostRoot;
use agent::probe::packages::Owners;
use agent::probe::{self, Scan};
use contracts::v1::{PackageDetails, asset_details::Details};

use super::{scan, tool};

#[test]
fn packages_are_those_of_dpkg_query() {
    let format = "${Package}\t${Architecture}\t${Version}\t${db:Status-Status}\t${Installed-Size}\n";
    let Some(listed) = tool("dpkg-query", &["-W", "-f", format]) else { return };
    // Rule: config-files is what a removed package leaves behind; it is not there.
    let expected: BTreeSet<String> = listed
        .lines()
        .filter(|line| line.split('\t').nth(3) != Some("config-files"))
        .map(str::to_owned)
        .collect();
    assert!(!expected.is_empty());
    let found: BTreeSet<String> = scan("packages")
        .assets
        .iter()
        .map(|asset| {
            let Details::Package(package) = &asset.details else { panic!("no package") };
            let size = package.installed_size_bytes / 1024;
            let size = if size == 0 { String::new() } else { size.to_string() };
            let fields = [&package.package, &package.architecture, &package.version, &package.status, &size];
            fields.map(String::as_str).join("\t")
        })
        .collect();
    let zero_is_empty =
        |line: &String| line.strip_suffix("\t0").map_or(line.clone(), |line| format!("{line}\t"));
    let expected: BTreeSet<String> = expected.iter().map(zero_is_empty).collect();
    assert_eq!(found, expected);
    println!("{} packages", found.len());
}

const FOLDER: &str = "var/lib/rpm";
const FORMAT: &str = "%{NAME}\t%{EVR}\t%{ARCH}\t%{LICENSE}\t%{SUMMARY}\t%{LONGSIZE}\t%{VENDOR}\t%{PACKAGER}\t%{SOURCERPM}\t%{GROUP}\t%{URL}\n";
/// Many small packages, so that tables have inner pages.
const MANY: usize = 1000;

/// Builds the packages of a spec; where they are.
fn build(folder: &Path, name: &str, spec: &str) -> Option<Vec<String>> {
    let (top, file) = (folder.join(name), folder.join(format!("{name}.spec")));
    fs::write(&file, spec).unwrap();
    let top = format!("_topdir {}", top.display());
    let args =
        ["-bb", "--quiet", "--define", &top, "--define", "_build_id_links none", file.to_str().unwrap()];
    tool("rpmbuild", &args)?;
    let built = tool("find", &[folder.join(name).join("RPMS").to_str().unwrap(), "-name", "*.rpm"])?;
    Some(built.lines().map(str::to_owned).collect())
}

fn spec(name: &str, version: &str, more: &str, architecture: &str, files: &str) -> String {
    format!(
        "Name: {name}\nVersion: {version}\nRelease: 1%{{?dist}}\nLicense: MIT\n{more}\n{architecture}\n\
        %description\nx\n%install\nmkdir -p %{{buildroot}}/opt/{name}\necho {name} > %{{buildroot}}/opt/{name}/file\n\
        %files\n/opt/{name}/file\n{files}\n"
    )
}

fn rpm(root: &Path, args: &[&str]) -> Option<String> {
    let root = root.to_str().unwrap();
    tool("rpm", &[&["--root", root, "--dbpath", "/var/lib/rpm"], args].concat())
}

/// A root into which rpm has installed packages of all sorts.
fn root_of_rpm(folder: &Path) -> Option<(PathBuf, Vec<Vec<String>>)> {
    let root = folder.join("root");
    let mut many = spec("many", "1", "Summary: Many", "BuildArch: noarch", "");
    for number in 0..MANY {
        many += &format!(
            "%package -n many-{number}\nSummary: Number {number}\n%description -n many-{number}\nx\n%files -n many-{number}\n"
        );
    }
    // A header that takes many pages.
    let long = format!(
        "Summary: Long\nProvides: {}",
        (0..3000).map(|n| format!("long({n})")).collect::<Vec<_>>().join(" ")
    );
    let all = "Summary: Größe und Maß\nSummary(de): Auf Deutsch\nEpoch: 3\nURL: https://example.org/a?b=c\nVendor: Some Vendor\nPackager: Some One <o@example.org>\nGroup: Some/Group";
    let mut files = Vec::new();
    for (name, spec) in [
        ("many", many),
        ("long", spec("long", "1", &long, "BuildArch: noarch", "")),
        ("all", spec("all", "2.1~rc1", all, "", "")),
        ("vendor", spec("vendor", "2", "Summary: v\nVendor: Only Vendor", "", "")),
        ("kernel1", spec("kernel-core", "6.1", "Summary: k\nProvides: installonlypkg(kernel)", "", "")),
        ("kernel2", spec("kernel-core", "6.10", "Summary: k\nProvides: installonlypkg(kernel)", "", "")),
        ("twice1", spec("twice", "9", "Summary: t", "BuildArch: noarch", "")),
        ("twice2", spec("twice", "10", "Summary: t", "BuildArch: noarch", "")),
        ("zero", spec("zero", "1", "Summary: z\nEpoch: 0", "BuildArch: noarch", "")),
    ] {
        files.push(build(folder, name, &spec)?);
    }
    install(&root, &[], &files)?;
    Some((root, files))
}

fn install(root: &Path, args: &[&str], files: &[Vec<String>]) -> Option<()> {
    fs::create_dir_all(root).unwrap();
    for files in files {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let install = ["-i", "--justdb", "--nodeps", "--noscripts", "--force", "--noorder", "--nosignature"];
        rpm(root, &[args, &install[..], &files].concat())?;
    }
    Some(())
}

fn scan_below(root: &Path) -> Scan {
    let context = probe::Context::forgetful(ProbeArgs::default());
    let packages = probe::all(&context).into_iter().find(|probe| probe.name == "packages").unwrap();
    packages.scan(&HostRoot::new(root).unwrap()).unwrap()
}

fn packages_of(scan: Scan) -> Vec<(String, PackageDetails)> {
    assert!(scan.warnings.is_empty(), "{:?}", scan.warnings);
    let package = |asset: agent::asset::ScannedAsset| match asset.details {
        Details::Package(package) => (asset.natural_key, package),
        other => panic!("no package: {other:?}"),
    };
    scan.assets.into_iter().map(package).collect()
}

/// Compares the packages below a root with what `rpm -qa` lists there.
fn is_what_rpm_lists(root: &Path, args: &[&str]) -> Option<usize> {
    let listed = rpm(root, &[args, &["-qa", "--qf", FORMAT]].concat())?;
    let mut expected: Vec<Vec<String>> = listed
        .lines()
        .map(|line| {
            let mut fields: Vec<String> = line.split('\t').map(|field| field.replace("(none)", "")).collect();
            // Rule: who maintains it is the packager, or else the vendor.
            let vendor = fields.remove(6);
            if fields[6].is_empty() {
                fields[6] = vendor;
            }
            // Rule: of a source package name and version are told, each only if
            // it is another. A version is here without its epoch.
            let source = fields[7].strip_suffix(".src.rpm").unwrap_or_default().to_owned();
            let version = fields[1].rsplit(':').next().unwrap().to_owned();
            fields[7] = if source == format!("{}-{version}", fields[0]) { String::new() } else { source };
            fields
        })
        .collect();
    expected.sort();
    let mut found: Vec<Vec<String>> = packages_of(scan_below(root))
        .into_iter()
        .map(|(_, package)| {
            let version = package.version.rsplit(':').next().unwrap().to_owned();
            let source = match (package.source.as_str(), package.source_version.as_str()) {
                ("", "") => String::new(),
                (name, "") => format!("{name}-{version}"),
                (name, version) => format!("{name}-{version}"),
            };
            let size = package.installed_size_bytes.to_string();
            assert_eq!((package.manager.as_str(), package.status.as_str()), ("rpm", "installed"));
            vec![
                package.package,
                package.version,
                package.architecture,
                package.license,
                package.summary,
                size,
                package.maintainer,
                source,
                package.section,
                package.homepage,
            ]
        })
        .collect();
    found.sort();
    assert_eq!(found, expected);
    Some(found.len())
}

/// A copy of the files of a database, as a crash leaves them: SQLite's shared
/// memory is gone.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join(FOLDER)).unwrap();
    for name in ["rpmdb.sqlite", "rpmdb.sqlite-wal"] {
        fs::copy(from.join(FOLDER).join(name), to.join(FOLDER).join(name)).unwrap();
    }
}

#[test]
fn packages_of_rpm_are_those_of_rpm_in_every_form_of_its_database() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some((root, files)) = root_of_rpm(folder) else { return };
    let Some(count) = is_what_rpm_lists(&root, &[]) else { return };
    assert_eq!(count, MANY + 9);
    println!("{count} packages in SQLite");
    let keys: BTreeSet<String> = packages_of(scan_below(&root)).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), count);
    let architecture = std::env::consts::ARCH;
    for key in [
        format!("rpm/kernel-core.{architecture}/6.1-1"),
        format!("rpm/kernel-core.{architecture}/6.10-1"),
        format!("rpm/all.{architecture}"),
        // The one that was installed last has the key.
        "rpm/twice.noarch".to_owned(),
        "rpm/twice.noarch/9-1".to_owned(),
        "rpm/many-999.noarch".to_owned(),
    ] {
        assert!(keys.contains(&key), "{key}");
    }
    rpm(&root, &["-e", "--justdb", "twice-9", "kernel-core-6.10"]).unwrap();
    assert_eq!(is_what_rpm_lists(&root, &[]), Some(count - 2));
    let later: BTreeSet<String> = packages_of(scan_below(&root)).into_iter().map(|(key, _)| key).collect();
    let gone: Vec<&String> = keys.difference(&later).collect();
    assert_eq!(gone, [&format!("rpm/kernel-core.{architecture}/6.10-1"), "rpm/twice.noarch/9-1"]);
    assert!(later.is_subset(&keys));

    files_are_found(&root);
    suse(folder, &files, count);
    berkeley_db(folder, &root, count - 2);
    unclean_logs(folder, &root, count - 2);
}

/// Who installed a file, as `rpm -qf` says it.
fn files_are_found(root: &Path) {
    let listed = rpm(root, &["-qa", "--qf", "[%{=NAME}\t%{FILENAMES}\n]"]).unwrap();
    let expected: BTreeMap<String, String> = listed
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, path)| (path.into(), name.into()))
        .collect();
    assert!(expected.len() > 5);
    let mut asked: BTreeSet<String> = expected.keys().cloned().collect();
    asked.insert("/opt/none/file".to_owned());
    let found = Owners::default().find(&HostRoot::new(root).unwrap(), &asked).unwrap();
    let found: BTreeMap<String, String> = found.into_iter().map(|(path, owner)| (path, owner.name)).collect();
    assert_eq!(found, expected);
}

#[test]
fn programs_belong_to_the_packages_that_dpkg_says() {
    let mut asked = BTreeSet::new();
    for folder in ["/usr/bin", "/usr/sbin", "/usr/lib/openssh", "/usr/local/bin"] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                asked.insert(entry.path().to_str().unwrap().to_owned());
            }
        }
    }
    // Rule: on a merged system dpkg knows a file only under the name that its
    // package has it.
    let unmerged = asked.iter().filter_map(|path| path.strip_prefix("/usr"));
    let output = Command::new("dpkg-query").arg("-S").args(&asked).args(unmerged).output();
    let Ok(output) = output else { return println!("SKIPPED: no dpkg-query here") };
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (packages, path) = line.rsplit_once(": ").unwrap();
        // Rule: diverted files are tested in owners/tests.rs.
        if packages.starts_with("diversion by") {
            asked.remove(path);
            expected.remove(path);
            continue;
        }
        let path = if asked.contains(path) { path.to_owned() } else { format!("/usr{path}") };
        let packages = packages.split(", ").map(|package| package.split(':').next().unwrap().to_owned());
        expected.entry(path).or_default().extend(packages);
    }
    expected.retain(|path, _| asked.contains(path));
    let mut owners = Owners::default();
    let found = owners.find(&HostRoot::new("/").unwrap(), &asked).unwrap();
    let keys: BTreeSet<String> = scan("packages").assets.into_iter().map(|asset| asset.natural_key).collect();
    for (path, owner) in &found {
        assert!(expected.get(path).is_some_and(|names| names.contains(&owner.name)), "{path}: {owner:?}");
        assert!(keys.contains(&owner.natural_key), "{owner:?}");
    }
    assert_eq!(found.len(), expected.len());
    println!("{} of {} programs belong to packages", found.len(), asked.len());
}

/// What is only in the write-ahead log counts, up to the last whole commit.
fn unclean_logs(folder: &Path, root: &Path, count: usize) {
    let database = root.join(FOLDER).join("rpmdb.sqlite");
    let sqlite = Command::new("sqlite3").arg(&database).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut sqlite) = sqlite else { return println!("SKIPPED: no sqlite3 here") };
    let (mut input, output) = (sqlite.stdin.take().unwrap(), sqlite.stdout.take().unwrap());
    let sql = "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;\n\
        DELETE FROM Packages WHERE hnum % 3 = 0;\nDELETE FROM Packages WHERE hnum % 3 = 1;\n\
        SELECT 'done';\n";
    input.write_all(sql.as_bytes()).unwrap();
    assert!(BufReader::new(output).lines().any(|line| line.unwrap() == "done"));
    let (unclean, cut) = (folder.join("unclean"), folder.join("cut"));
    copy(root, &unclean);
    copy(root, &cut);
    drop(input);
    sqlite.wait().unwrap();
    let log = fs::File::options().write(true).open(cut.join(FOLDER).join("rpmdb.sqlite-wal")).unwrap();
    log.set_len(log.metadata().unwrap().len() - 100).unwrap();
    // Of the cut log the second DELETE is lost.
    for (root, left) in [(unclean, count / 3), (cut, count * 2 / 3)] {
        // Ours first: rpm writes what is in the log into the database.
        let found = packages_of(scan_below(&root)).len();
        assert!(found.abs_diff(left) <= 2, "{found}");
        assert_eq!(is_what_rpm_lists(&root, &["--nodigest"]), Some(found));
        println!("{found} packages with an unclean log");
    }
}

/// Debian's rpm has no such databases; agent/src/probe/packages/rpm/samples has
/// one for all machines.
fn suse(folder: &Path, files: &[Vec<String>], count: usize) {
    let (root, ndb) = (folder.join("suse"), ["--define", "_db_backend ndb"]);
    if install(&root, &ndb, files).is_some() && root.join(FOLDER).join("Packages.db").exists() {
        assert_eq!(is_what_rpm_lists(&root, &ndb), Some(count));
        println!("{count} packages in a database of SUSE");
    }
}

/// rpm reads these databases and no longer writes them: libdb's own tool does.
fn berkeley_db(folder: &Path, root: &Path, count: usize) {
    let database = root.join(FOLDER).join("rpmdb.sqlite");
    let select = "SELECT hnum, hex(blob) FROM Packages";
    let Some(rows) = tool("sqlite3", &["-separator", " ", database.to_str().unwrap(), select]) else {
        return;
    };
    for page_size in ["512", "4096", "65536"] {
        let mut dump = format!(
            "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize={page_size}\nHEADER=END\n 00000000\n ffff0000\n"
        );
        for row in rows.lines() {
            let (number, blob) = row.split_once(' ').unwrap();
            let key: String = number
                .parse::<u32>()
                .unwrap()
                .to_ne_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            dump += &format!(" {key}\n {}\n", blob.to_lowercase());
        }
        dump += "DATA=END\n";
        let root = folder.join(format!("bdb{page_size}"));
        fs::create_dir_all(root.join(FOLDER)).unwrap();
        fs::write(folder.join("dump"), dump).unwrap();
        let (dump, packages) = (folder.join("dump"), root.join(FOLDER).join("Packages"));
        let load = ["-f", dump.to_str().unwrap(), packages.to_str().unwrap()];
        if tool("db5.3_load", &load).is_none() {
            return;
        }
        let found = is_what_rpm_lists(&root, &["--define", "_db_backend bdb_ro"]);
        assert!(found.is_none_or(|found| found == count), "{found:?}");
        println!("{found:?} packages in Berkeley DB with pages of {page_size} bytes");
    }
}
