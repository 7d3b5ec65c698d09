//! Which system the node runs: os-release(5).

use crate::host::HostRoot;
use crate::text::clean;

const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

const MAX_BYTES: u64 = 1024 * 1024;

/// The system's name and version.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Release {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) version: String,
}

impl Release {
    /// Empty where nothing tells.
    pub(super) fn read(host: &HostRoot) -> Self {
        let text = OS_RELEASE.iter().find_map(|path| host.read(path, MAX_BYTES).ok()).unwrap_or_default();
        parse_os_release(&text)
    }
}

fn parse_os_release(text: &[u8]) -> Release {
    let mut release = Release::default();
    for line in clean(text).lines() {
        let Some((name, value)) = line.trim().split_once('=') else { continue };
        let field = match name {
            "PRETTY_NAME" => &mut release.name,
            "ID" => &mut release.id,
            "VERSION_ID" => &mut release.version,
            _ => continue,
        };
        *field = unquote(value);
    }
    release
}

/// A value as a shell would read it: quotes off, backslashes resolved.
fn unquote(value: &str) -> String {
    let value = value.trim();
    if let Some(inner) = value.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let inner = value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value);
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_os_release() {
        for (text, expected) in [
            (
                &b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n"[..],
                ["Debian GNU/Linux 12 (bookworm)", "debian", "12"],
            ),
            (b"# c\nID='alpine'\nPRETTY_NAME=\"a \\\"b\\\" \\$c\"\n", ["a \"b\" $c", "alpine", ""]),
            (b"", ["", "", ""]),
            (b"=\n===\nID\nID=\"\n", ["", "\"", ""]),
        ] {
            let release = parse_os_release(text);
            assert_eq!([release.name, release.id, release.version], expected);
        }
    }
}
