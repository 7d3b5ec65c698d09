//! Files of apk's packages: lines `F:` with a folder, then `R:` with a file in it.

use super::super::apk::DATABASES;
use super::super::lines::Lines;
use super::{Owner, Wanted};
use crate::host::HostRoot;
use crate::probe::{ProbeError, is_absent};
use crate::text::clean;

pub(super) fn find(host: &HostRoot, wanted: &mut Wanted) -> Result<(), ProbeError> {
    for path in DATABASES {
        let file = match host.open(path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(ProbeError::read(path)(error)),
        };
        let mut lines = Lines::new(file);
        let (mut package, mut folder) = (String::new(), Vec::new());
        while let Some(line) = lines.next().map_err(ProbeError::read(path))? {
            match line {
                [] => package.clear(),
                [b'P', b':', name @ ..] => package = clean(name),
                [b'F', b':', name @ ..] => {
                    folder.clear();
                    folder.push(b'/');
                    folder.extend(name);
                    if !name.is_empty() {
                        folder.push(b'/');
                    }
                }
                [b'R', b':', name @ ..] => {
                    let length = folder.len();
                    folder.extend(name);
                    let asked = std::str::from_utf8(&folder).ok().and_then(|file| wanted.names.get(file));
                    if let Some(asked) = asked.cloned() {
                        let owner = Owner { natural_key: format!("apk/{package}"), name: package.clone() };
                        wanted.found(asked, owner);
                    }
                    folder.truncate(length);
                }
                _ => {}
            }
        }
    }
    Ok(())
}
