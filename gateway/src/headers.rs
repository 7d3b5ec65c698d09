//! Which headers cross the gateway, and the deadline among them.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_TYPE, HOST, TE},
};

/// Header of a call's deadline: gRPC over HTTP/2, "Timeout".
pub const GRPC_TIMEOUT: &str = "grpc-timeout";
/// How much longer upstream gets, so that the gateway decides about the end.
const MARGIN: Duration = Duration::from_millis(100);
/// Headers of one connection, not of the call (RFC 9110, 7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What browsers and intermediaries say to the gateway, and nobody behind it
/// needs; and names that only the gateway may set.
const PRIVATE: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "content-length",
    "cookie",
    "dnt",
    "expect",
    "forwarded",
    "origin",
    "priority",
    "referer",
    "x-grpc-web",
    "x-real-ip",
    "x-user-agent",
];
const PRIVATE_PREFIXES: &[&str] = &["access-control-", "sec-", "x-assettrack-", "x-forwarded-"];

/// Leaves the headers that are metadata of the call, and sets those that gRPC
/// needs.
pub fn to_upstream(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    let unwanted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let text = name.as_str();
            named.contains(name)
                || HOP_BY_HOP.contains(&text)
                || PRIVATE.contains(&text)
                || PRIVATE_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
                || *name == CONNECTION
                || *name == HOST
        })
        .cloned()
        .collect();
    for name in unwanted {
        headers.remove(name);
    }
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
}

/// Headers that `connection` names belong to the connection too.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// Headers that a REST call hands on.
pub fn rest_to_upstream(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in ["traceparent", "tracestate", "user-agent"] {
        if let Some(value) = headers.get(name) {
            kept.insert(HeaderName::from_static(name), value.clone());
        }
    }
    to_upstream(&mut kept);
    kept
}

/// Reads `grpc-timeout`.
///
/// # Errors
/// It is not 1 to 8 digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, &'static str> {
    const WRONG: &str = "must be 1 to 8 digits and one of H, M, S, m, u, n";
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let text = value.to_str().map_err(|_| WRONG)?;
    let Some((digits, unit)) = text.split_at_checked(text.len().saturating_sub(1)) else { return Err(WRONG) };
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WRONG);
    }
    let amount: u64 = digits.parse().map_err(|_| WRONG)?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return Err(WRONG),
    }))
}

/// Writes the deadline for upstream: a little later than the gateway's own.
pub fn set_timeout(headers: &mut HeaderMap, timeout: Duration) {
    let milliseconds = (timeout + MARGIN).as_millis();
    let text = if milliseconds < 100_000_000 {
        format!("{milliseconds}m")
    } else {
        format!("{}S", (milliseconds / 1000).min(99_999_999))
    };
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn metadata_crosses_and_the_rest_does_not() {
        let mut headers = map(&[
            ("custom", "1"),
            ("custom-bin", "AAE"),
            ("traceparent", "t"),
            ("user-agent", "u"),
            ("x-request-id", "r"),
            ("grpc-encoding", "gzip"),
            ("connection", "close, x-secret"),
            ("x-secret", "s"),
            ("te", "trailers, deflate"),
            ("cookie", "c"),
            ("host", "h"),
            ("origin", "o"),
            ("x-assettrack-principal", "forged"),
            ("x-forwarded-for", "1.2.3.4"),
            ("content-type", "application/grpc+proto"),
        ]);
        to_upstream(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let expected = [
            "content-type",
            "custom",
            "custom-bin",
            "grpc-encoding",
            "te",
            "traceparent",
            "user-agent",
            "x-request-id",
        ];
        assert_eq!(left, expected);
        assert_eq!(
            (&headers["te"], &headers["content-type"]),
            (&"trailers".parse().unwrap(), &"application/grpc".parse().unwrap())
        );
    }

    #[test]
    fn timeouts_are_read_and_written_with_the_margin() {
        for (text, expected) in [
            ("1S", Ok(Some(Duration::from_secs(1)))),
            ("250m", Ok(Some(Duration::from_millis(250)))),
            ("99999999H", Ok(Some(Duration::from_secs(99_999_999 * 3600)))),
            ("", Err(())),
            ("S", Err(())),
            ("1", Err(())),
            ("1x", Err(())),
            ("-1S", Err(())),
            ("123456789S", Err(())),
        ] {
            assert_eq!(timeout(&map(&[(GRPC_TIMEOUT, text)])).map_err(|_| ()), expected, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
        for (given, written) in [(Duration::from_secs(1), "1100m"), (Duration::from_secs(200_000), "200000S")]
        {
            let mut headers = HeaderMap::new();
            set_timeout(&mut headers, given);
            assert_eq!(headers[GRPC_TIMEOUT], written);
        }
    }
}
