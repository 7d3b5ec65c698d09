//! Installs Debian packages, without starting the services that they bring.

use std::{
    env,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::Uid;

use crate::{
    command::describe,
    error::{Context, Error},
};

/// Runs as root. While the packages are unpacked a policy-rc.d keeps their
/// maintainer scripts from starting services (invoke-rc.d(8): 101 forbids it), and
/// PostgreSQL's from making a cluster of its own; both are taken back at the end.
const INSTALL: &str = r#"
set -e
made=
trap 'for file in $made; do rm -f "$file"; done' EXIT
trap 'exit 130' HUP INT TERM
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    made="$made $policy"
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
clusters=/etc/postgresql-common/createcluster.d
if [ ! -e /etc/postgresql-common ]; then
    mkdir -p "$clusters"
    made="$made $clusters/assettrack-dev.conf"
    echo 'create_main_cluster = false' > "$clusters/assettrack-dev.conf"
fi
# Old lists may do where no new ones can be had.
apt-get update -q || echo 'cannot refresh the package lists' >&2
apt-get install -y -q --no-install-recommends "$@"
"#;

/// The command that a person would type.
pub fn remedy(packages: &[&str]) -> String {
    let sudo = if Uid::effective().is_root() { "" } else { "sudo " };
    format!("{sudo}apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Whether packages can be installed here at all.
pub fn is_usable() -> bool {
    find_in_path("apt-get").is_some() && (Uid::effective().is_root() || find_in_path("sudo").is_some())
}

/// Installs packages by name, by sudo where we are not root.
pub fn install(packages: &[&str]) -> Result<(), Error> {
    let mut command = if Uid::effective().is_root() {
        Command::new("sh")
    } else {
        let mut sudo = Command::new("sudo");
        if !io::stdin().is_terminal() {
            // Nobody is there to type a password.
            sudo.arg("--non-interactive");
        }
        sudo.arg("sh");
        sudo
    };
    command.args(["-c", INSTALL, "install"]).args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    // In our own process group: sudo may ask for a password, and Ctrl-C must reach apt.
    let status = command.status().trying(|| format!("run {}", describe(&command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Command { command: remedy(packages), status: status.to_string(), output: String::new() })
    }
}

/// A program by its name, as a shell would find it.
pub fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Where servers are, and a plain user's PATH may not lead.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).map(|directory| directory.join(program)).find(|file| is_program(file))
}

/// Whether the path is a file that can be run.
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
