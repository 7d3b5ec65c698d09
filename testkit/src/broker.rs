//! A private corner of the test broker.

use std::net::SocketAddr;

use uuid::Uuid;

use crate::Proxy;

/// The broker's AMQP URL.
///
/// # Panics
/// When `ASSETTRACK_TEST_AMQP_URL` is not set.
pub fn amqp_url() -> String {
    crate::required("ASSETTRACK_TEST_AMQP_URL")
}

/// A queue namespace that no other test, in this run or an earlier one, uses.
/// What is declared below it goes with the broker, which is wiped for each run.
pub fn namespace() -> String {
    format!("test-{}", Uuid::new_v4().simple())
}

/// The broker by way of a proxy, with a heartbeat of 2 s; answers its URL too.
///
/// # Panics
/// When `ASSETTRACK_TEST_AMQP_URL` is not set, or is none of
/// `amqp://user:password@host:port/vhost`.
pub async fn broker_by_proxy() -> (Proxy, String) {
    let url = amqp_url();
    let proxy = Proxy::start(authority(&url).to_owned()).await;
    let url = by_way_of(&url, proxy.address);
    let base = url.split('?').next().unwrap_or_default();
    (proxy, format!("{base}?heartbeat=2"))
}

/// `host:port` of a URL such as `scheme://user:password@host:port/path`.
///
/// # Panics
/// When it is no such URL.
pub fn authority(url: &str) -> &str {
    let found = url.split_once("://").and_then(|(_, rest)| {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        Some(rest[..end].rsplit_once('@')?.1)
    });
    match found {
        Some(authority) => authority,
        // The URL itself may hold a password.
        None => panic!("a URL is not scheme://user:password@host:port/path"),
    }
}

/// The same URL with another `host:port`.
///
/// # Panics
/// See [`authority`].
pub fn by_way_of(url: &str, address: SocketAddr) -> String {
    url.replacen(&format!("@{}", authority(url)), &format!("@{address}"), 1)
}

#[cfg(test)]
mod tests {
    use super::{authority, by_way_of};

    #[test]
    fn only_host_and_port_of_a_url_are_replaced() {
        let url = "amqp://u:p@127.0.0.1:5672/%2f?heartbeat=2";
        assert_eq!(authority(url), "127.0.0.1:5672");
        assert_eq!(authority("postgresql://u:p@h:1"), "h:1");
        let address = "127.0.0.1:9".parse().unwrap();
        assert_eq!(by_way_of(url, address), "amqp://u:p@127.0.0.1:9/%2f?heartbeat=2");
        assert_eq!(by_way_of("postgresql://u:p@h:1", address), "postgresql://u:p@127.0.0.1:9");
    }
}
