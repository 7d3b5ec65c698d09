//! The unprivileged user that servers run as: neither PostgreSQL nor RabbitMQ
//! should run as root, and PostgreSQL refuses to.

use std::{
    env, fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::{Uid, User};

use crate::{
    command,
    error::{Context, Error},
    progress::Progress,
};

/// The system user that root's servers run as.
const NAME: &str = "assettrack-dev";

/// A user other than the one at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub user: u32,
    pub group: u32,
}

impl Account {
    /// The user that servers run as: `None` for the one at work, unless that is
    /// root; then a system user, which is made when it is not there.
    pub fn for_servers(progress: &Progress) -> Result<Option<Self>, Error> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let find = || User::from_name(NAME).trying(|| format!("look up user {NAME}"));
        if find()?.is_none() {
            progress.say(&format!("making the system user {NAME}: servers do not run as root"));
            command::output(Command::new("useradd").args([
                "--system",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/usr/sbin/nologin",
                NAME,
            ]))?;
        }
        match find()? {
            Some(user) => Ok(Some(Self { user: user.uid.as_raw(), group: user.gid.as_raw() })),
            None => Err(Error::Io {
                action: format!("find user {NAME}, which was just made"),
                source: std::io::ErrorKind::NotFound.into(),
            }),
        }
    }

    /// Gives a file or directory to this user.
    pub fn own(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.user), Some(self.group)).on("change the owner of", path)
    }

    fn can_reach(&self, directory: &Path) -> bool {
        // Asked of the kernel as that user: mode bits, ACLs and mounts together.
        Command::new("test")
            .arg("-x")
            .arg(directory)
            .uid(self.user)
            .gid(self.group)
            .current_dir("/")
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Chooses and makes the directory of the servers' data: `preferred`, unless the
/// servers' user cannot reach it (a checkout in root's home), or its path holds
/// what RabbitMQ's shell scripts do not take (a space). `tag` tells checkouts apart.
pub fn data_directory(account: Option<&Account>, preferred: &Path, tag: &str) -> Result<PathBuf, Error> {
    let elsewhere = match account {
        Some(_) => PathBuf::from("/var/lib").join(NAME),
        None => env::home_dir().unwrap_or_default().join(".local/share").join(NAME),
    };
    let candidates = [preferred.to_owned(), elsewhere.join(tag)];
    for directory in &candidates {
        if !is_plain(directory) {
            continue;
        }
        fs::create_dir_all(directory).on("make", directory)?;
        if directory.starts_with(&elsewhere) {
            fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755))
                .on("open to others", &elsewhere)?;
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).on("close to others", directory)?;
        let Some(account) = account else { return Ok(directory.clone()) };
        account.own(directory)?;
        if account.can_reach(directory) {
            return Ok(directory.clone());
        }
        // Nothing was put there.
        let _ = fs::remove_dir(directory);
    }
    let directories: Vec<String> =
        candidates.iter().map(|directory| directory.display().to_string()).collect();
    Err(Error::Unreachable { account: NAME.to_owned(), directories: directories.join(", ") })
}

fn is_plain(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::is_plain;

    #[test]
    fn paths_that_shell_scripts_would_split_are_not_plain() {
        assert!(is_plain(Path::new("/srv/asset_track-2.0/.local/data")));
        for path in ["/srv/asset track", "/srv/$x", "/srv/ä", "/srv/'x"] {
            assert!(!is_plain(Path::new(path)), "{path}");
        }
    }
}
