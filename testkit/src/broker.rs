//! A private corner of the test broker.

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
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (user, rest) = rest.rsplit_once('@')?;
        let (address, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        Some((scheme, user, address, vhost.split('?').next().unwrap_or_default()))
    });
    let Some((scheme, user, address, vhost)) = parts else {
        panic!("ASSETTRACK_TEST_AMQP_URL is not amqp://user:password@host:port/vhost")
    };
    let proxy = Proxy::start(address.to_owned()).await;
    let url = format!("{scheme}://{user}@{}/{vhost}?heartbeat=2", proxy.address);
    (proxy, url)
}
