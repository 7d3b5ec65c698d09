//! A node with many packages: what this machine's dpkg has installed, and where
//! that is too little, the same again under other names. Whoever is measured sees
//! it in place of the machine's own list, ours and the rivals alike.

use std::{fs, path::Path};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::Uid,
};

use crate::error::{Context, Error};

/// dpkg's list of packages (dpkg(1), FILES).
const STATUS: &str = "/var/lib/dpkg/status";

/// Lets this program, and all that it starts from here on, see at least `wanted`
/// packages, if that can be had; says what they see. What stands in for dpkg's own
/// list is written into `directory`.
pub fn show(wanted: usize, directory: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(STATUS).unwrap_or_default();
    let installed = text.split("\n\n").filter(|stanza| is_installed(stanza)).count();
    if installed >= wanted {
        return Ok(format!("{installed} packages, as dpkg has them here"));
    }
    if installed == 0 || !Uid::effective().is_root() {
        let why = if installed == 0 { "nothing to repeat" } else { "no root to show more" };
        return Ok(format!("{installed} packages only: {why}"));
    }
    let path = directory.join("dpkg-status");
    fs::write(&path, extended(&text, wanted)).on("write", &path)?;
    if let Err(error) = cover(Path::new(STATUS), &path) {
        return Ok(format!("{installed} packages only: {error}"));
    }
    let added = wanted - installed;
    Ok(format!("{wanted} packages in dpkg's list: {installed} of this machine, {added} repeated"))
}

/// Puts one file over another in a mount namespace of our own (mount_namespaces(7)),
/// which goes with the last process in it; nobody else sees it.
fn cover(file: &Path, by: &Path) -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNS).trying(|| "make a mount namespace".to_owned())?;
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).trying(|| "keep mounts to ourselves".to_owned())?;
    mount(Some(by), file, none, MsFlags::MS_BIND, none).on("cover", file)
}

fn is_installed(stanza: &str) -> bool {
    stanza.lines().any(|line| line.starts_with("Status: ") && line.ends_with(" installed"))
}

/// dpkg's list with installed packages repeated until there are `wanted`.
fn extended(text: &str, wanted: usize) -> String {
    let all: Vec<&str> = text.split("\n\n").map(str::trim_end).filter(|stanza| !stanza.is_empty()).collect();
    let installed: Vec<&str> = all.iter().copied().filter(|stanza| is_installed(stanza)).collect();
    let mut stanzas: Vec<String> = all.iter().map(|stanza| (*stanza).to_owned()).collect();
    let missing = if installed.is_empty() { 0 } else { wanted.saturating_sub(installed.len()) };
    for (number, stanza) in installed.iter().cycle().take(missing).enumerate() {
        let round = number / installed.len() + 1;
        let lines: Vec<String> = stanza
            .lines()
            .map(|line| match line.strip_prefix("Package: ") {
                Some(name) => format!("Package: {name}-again{round}"),
                None => line.to_owned(),
            })
            .collect();
        stanzas.push(lines.join("\n"));
    }
    stanzas.join("\n\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, io::ErrorKind, path::Path, process::Command, thread};

    use nix::unistd::Uid;

    use super::{STATUS, cover, extended, is_installed};
    use crate::{command, error::Error};

    const LIST: &str = "Package: a\nStatus: install ok installed\nVersion: 1\n\n\
        Package: b\nStatus: deinstall ok config-files\nVersion: 2\n\n\
        Package: c\nStatus: install ok installed\nDescription: d\n Package: no field\n";

    #[test]
    fn installed_packages_are_repeated_under_other_names() {
        let text = extended(LIST, 5);
        let installed: Vec<&str> = text.split("\n\n").filter(|stanza| is_installed(stanza)).collect();
        let names: BTreeSet<&str> = installed.iter().filter_map(|stanza| stanza.lines().next()).collect();
        let expected =
            ["Package: a", "Package: a-again1", "Package: a-again2", "Package: c", "Package: c-again1"];
        assert_eq!(names, BTreeSet::from(expected));
        assert_eq!(installed.len(), 5);
        assert!(text.starts_with(LIST));
        assert!(installed[4].contains("Version: 1"));
        assert_eq!(extended(LIST, 1), LIST);
        assert_eq!(extended("", 9), "\n");
    }

    #[test]
    fn what_is_started_sees_the_stand_in_and_others_do_not() {
        if !Uid::effective().is_root() || !Path::new(STATUS).exists() {
            eprintln!("SKIPPED: needs root and dpkg");
            return;
        }
        let path = std::env::temp_dir().join(format!("assettrack-stand-in-{}", std::process::id()));
        fs::write(&path, LIST).unwrap();
        // The namespace is this thread's, and goes with it.
        let shown = thread::scope(|scope| {
            let thread = scope.spawn(|| match cover(Path::new(STATUS), &path) {
                Ok(()) => Some(command::output(Command::new("cat").arg(STATUS)).unwrap()),
                // A container's root may not.
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                    eprintln!("SKIPPED: {source}");
                    None
                }
                Err(error) => panic!("{error}"),
            });
            thread.join().unwrap()
        });
        fs::remove_file(&path).unwrap();
        if let Some(shown) = shown {
            assert_eq!(shown, LIST);
        }
        assert_ne!(fs::read_to_string(STATUS).unwrap(), LIST);
    }
}
