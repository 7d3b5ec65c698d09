//! Where things are.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::{Context, Error};

/// A checkout of AssetTrack.
#[derive(Clone, Debug)]
pub struct Checkout {
    root: PathBuf,
    profile: PathBuf,
}

impl Checkout {
    /// The checkout that this program was built from.
    pub fn find() -> Result<Self, Error> {
        // Set by `cargo run`: the directory of this package.
        let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).ok_or(Error::NoCheckout)?;
        let root = package.parent().ok_or(Error::NoCheckout)?.to_owned();
        if !root.join("xtask/Cargo.toml").is_file() {
            return Err(Error::NoCheckout);
        }
        // Cargo put this program into the profile's directory of the target
        // directory, however that was chosen.
        let program = env::current_exe().trying(|| "tell where this program is".to_owned())?;
        let profile = program.parent().ok_or(Error::NoCheckout)?.to_owned();
        Ok(Self { root, profile })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The web UI's directory.
    pub fn webui(&self) -> PathBuf {
        self.root.join("webui")
    }

    /// The directory that holds the services' binaries.
    pub fn binaries(&self) -> &Path {
        &self.profile
    }

    /// The directory that holds what is built in the profile `small`.
    pub fn small_binaries(&self) -> PathBuf {
        self.profile.with_file_name("small")
    }

    /// The directory that holds what is built in the profile `release`.
    pub fn release_binaries(&self) -> PathBuf {
        self.profile.with_file_name("release")
    }

    /// `.local/`, made when it is not there. Other users may pass through it to
    /// what is theirs; what is secret is closed by itself.
    pub fn local(&self) -> Result<PathBuf, Error> {
        let local = self.root.join(".local");
        fs::create_dir_all(&local).on("make", &local)?;
        fs::set_permissions(&local, fs::Permissions::from_mode(0o755)).on("open to others", &local)?;
        Ok(local)
    }

    /// Cargo on this workspace, into the same target directory as this program.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        if let Some(target) = self.profile.parent() {
            cargo.env("CARGO_TARGET_DIR", target);
        }
        // `cargo run` describes this package to this program; the next Cargo
        // must not take that for a setting.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&name);
            }
        }
        cargo
    }
}
