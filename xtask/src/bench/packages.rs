//! A node with many packages: what this machine's dpkg has installed, and where
//! that is too little, the same again under other names. Whoever is measured sees
//! it in place of the machine's own list, ours and the rivals alike.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use nix::unistd::Uid;

use crate::error::{Context, Error};

/// dpkg's list of packages (dpkg(1), FILES).
const STATUS: &str = "/var/lib/dpkg/status";

/// What those who are measured see of packages.
#[derive(Debug)]
pub struct Packages {
    /// Stands in for [`STATUS`] where it does not do by itself.
    stand_in: Option<PathBuf>,
    /// For the result.
    pub note: String,
}

impl Packages {
    /// At least `wanted` packages, if that can be had. The stand-in is written
    /// into `directory`.
    pub fn prepare(wanted: usize, directory: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(STATUS).unwrap_or_default();
        let installed = text.split("\n\n").filter(|stanza| is_installed(stanza)).count();
        let plain = |note| Self { stand_in: None, note };
        if installed >= wanted {
            return Ok(plain(format!("{installed} packages, as dpkg has them here")));
        }
        if installed == 0 || !Uid::effective().is_root() {
            let why = if installed == 0 { "nothing to repeat" } else { "no root to show more" };
            return Ok(plain(format!("{installed} packages only: {why}")));
        }
        let path = directory.join("dpkg-status");
        fs::write(&path, extended(&text, wanted)).on("write", &path)?;
        let added = wanted - installed;
        let note = format!("{wanted} packages in dpkg's list: {installed} of this machine, {added} repeated");
        Ok(Self { stand_in: Some(path), note })
    }

    /// A command and its arguments, such that the program sees these packages.
    pub fn shown_to(&self, program: &Path, arguments: &[&str]) -> (PathBuf, Vec<OsString>) {
        let own = arguments.iter().map(OsString::from);
        let Some(stand_in) = &self.stand_in else { return (program.to_owned(), own.collect()) };
        // A mount namespace of its own, gone with the program; both replace
        // themselves by the next, so that the process is the program at last.
        let script = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
        let mut words: Vec<OsString> = ["--mount", "sh", "-c", script].map(OsString::from).to_vec();
        words.extend([stand_in.into(), STATUS.into(), program.into()]);
        words.extend(own);
        (PathBuf::from("unshare"), words)
    }
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
    use std::{collections::BTreeSet, path::Path, process::Command};

    use nix::unistd::Uid;

    use super::{Packages, extended, is_installed};
    use crate::command;

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
    fn a_program_sees_the_stand_in_and_others_do_not() {
        if !Uid::effective().is_root() || !Path::new(super::STATUS).exists() {
            eprintln!("SKIPPED: needs root and dpkg");
            return;
        }
        let directory = std::env::temp_dir();
        let path = directory.join(format!("assettrack-stand-in-{}", std::process::id()));
        std::fs::write(&path, LIST).unwrap();
        let packages = Packages { stand_in: Some(path.clone()), note: String::new() };
        let (program, arguments) = packages.shown_to(Path::new("cat"), &[super::STATUS]);
        let shown = command::output(Command::new(program).args(arguments));
        std::fs::remove_file(&path).unwrap();
        match shown {
            Ok(shown) => assert_eq!(shown, LIST),
            Err(error) => eprintln!("SKIPPED: no mount namespaces here: {error}"),
        }
        assert_ne!(std::fs::read_to_string(super::STATUS).unwrap(), LIST);
    }
}
