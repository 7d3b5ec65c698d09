//! Labels, formed as Kubernetes forms them
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).

const MAX_NAME: usize = 63;
const MAX_PREFIX: usize = 253;

const KEY: &str = "a key is a name, or a DNS name of at most 253 characters, `/` and a name; a name is 1 to 63 \
     characters of A-Z a-z 0-9 . _ - and begins and ends with a letter or a digit";
const VALUE: &str = "a value is empty, or 1 to 63 characters of A-Z a-z 0-9 . _ - that begin and end with a letter \
     or a digit";

/// Checks a label.
///
/// # Errors
/// What would be right.
pub fn check(key: &str, value: &str) -> Result<(), &'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !is_name(name) || !prefix.is_none_or(is_dns_name) {
        return Err(KEY);
    }
    if !value.is_empty() && !is_name(value) {
        return Err(VALUE);
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= MAX_NAME
        && ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

/// A DNS subdomain (RFC 1123).
fn is_dns_name(text: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= MAX_PREFIX
        && text.split('.').all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(|byte| lower(*byte))
                && bytes.last().is_some_and(|byte| lower(*byte))
                && bytes.len() <= MAX_NAME
                && bytes.iter().all(|byte| lower(*byte) || *byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_formed_as_in_kubernetes() {
        for (key, value) in [
            ("env", "prod"),
            ("E", ""),
            ("app.kubernetes.io/name", "web-1_a.B"),
            (&"k".repeat(63), &"v".repeat(63)),
            (&format!("{}.{}/k", "p".repeat(63), "q".repeat(63)), "x"),
        ] {
            assert_eq!(check(key, value), Ok(()), "{key}={value}");
        }
        let long = format!("{}a/k", "p.".repeat(127));
        for key in ["", "/", "a/", "/a", "a/b/c", "Ä", "-x", "x-", "a b", "A.io/x", "a..b/x", "a_b/x", &long]
        {
            assert_eq!(check(key, ""), Err(KEY), "{key}");
        }
        assert_eq!(check(&"k".repeat(64), ""), Err(KEY));
        for value in ["row 4", "-x", "x.", "ä", "a/b", "a\0b", &"v".repeat(64)] {
            assert_eq!(check("k", value), Err(VALUE), "{value}");
        }
    }
}
