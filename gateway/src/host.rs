//! Which host names a request may use. A web page whose own name is made to
//! resolve to this machine (DNS rebinding) would count as of the same origin,
//! and could read and change everything; so while there is no access control,
//! only names that mean this machine by themselves are answered.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header::HOST, uri::Authority};

/// Whether the host that a request names is a loopback address or `localhost`.
/// One that names none comes from no browser.
pub fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let named = match (uri.authority(), headers.get(HOST)) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(host)) => match Authority::try_from(host.as_bytes()) {
            Ok(authority) => Some(authority),
            Err(_) => return false,
        },
        (None, None) => None,
    };
    let Some(named) = named else { return true };
    let host = named.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        // RFC 6761, 6.3: `localhost` and all below it mean this machine.
        Err(_) => host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for (host, expected) in [
            (Some("127.0.0.1:8080"), true),
            (Some("127.0.0.1"), true),
            (Some("[::1]:8080"), true),
            (Some("localhost:5173"), true),
            (Some("LocalHost."), true),
            (Some("assettrack.localhost"), true),
            (Some("evil.example:8080"), false),
            (Some("localhost.evil.example"), false),
            (Some("notlocalhost"), false),
            (Some("192.0.2.1"), false),
            (Some("127.0.0.1.evil.example"), false),
            (Some(""), false),
            (Some("a b"), false),
            (None, true),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, host.parse().unwrap());
            }
            assert_eq!(is_local(&Uri::from_static("/v1/assets"), &headers), expected, "HTTP/1.1 {host:?}");
            if let Some(uri) = host.and_then(|host| format!("http://{host}/v1").parse::<Uri>().ok()) {
                assert_eq!(is_local(&uri, &HeaderMap::new()), expected, "HTTP/2 {host:?}");
            }
        }
    }
}
