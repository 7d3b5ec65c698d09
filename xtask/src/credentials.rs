//! Passwords of the private servers: drawn once, readable by their owner only.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error};

/// Passwords of one instance.
#[derive(Deserialize, Serialize)]
pub struct Credentials {
    pub postgres: String,
    pub rabbitmq: String,
}

impl Credentials {
    /// Reads `credentials.json` of an instance; makes it when it is not there.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("credentials.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| Error::Damaged { path: path.display().to_string(), source }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let credentials = Self { postgres: password()?, rabbitmq: password()? };
                write_private(&path, &serde_json::json!(credentials).to_string())?;
                Ok(credentials)
            }
            Err(error) => Err(error).on("read", &path),
        }
    }
}

/// Writes a new file that only its owner may read.
pub fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).on("write", path)?;
    file.write_all(text.as_bytes()).on("write", path)
}

/// 192 random bits in hexadecimal digits, which need no escaping in a URL, a
/// configuration file or a statement.
fn password() -> Result<String, Error> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0_u8; 24];
    File::open(source).and_then(|mut file| file.read_exact(&mut bytes)).on("read", source)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::fs::PermissionsExt, process::id};

    use super::Credentials;

    #[test]
    fn passwords_are_drawn_once_and_closed_to_others() {
        let directory = env::temp_dir().join(format!("assettrack-credentials-{}", id()));
        fs::create_dir_all(&directory).unwrap();
        let first = Credentials::load(&directory).unwrap();
        let again = Credentials::load(&directory).unwrap();
        assert_eq!(first.postgres, again.postgres);
        assert_eq!(first.postgres.len(), 48);
        assert_ne!(first.postgres, first.rabbitmq);
        let mode = fs::metadata(directory.join("credentials.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&directory).unwrap();
    }
}
