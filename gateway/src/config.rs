//! The gateway's settings.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use http::HeaderValue;
use kit::settings::Common;

use crate::upstream::Address;

/// AssetTrack's gateway: gRPC, gRPC-Web, REST and the web UI on one port.
#[derive(Clone, Debug, Parser)]
#[command(name = "assettrack-gateway", version)]
pub struct Config {
    /// Address for clients. Loopback only: there is no access control yet.
    #[arg(long, env = "ASSETTRACK_LISTEN_ADDRESS", default_value = "127.0.0.1:8080", value_parser = loopback)]
    pub listen_address: SocketAddr,
    /// Where the processor listens.
    #[arg(long, env = "ASSETTRACK_PROCESSOR_URL", default_value = "http://127.0.0.1:50051")]
    pub processor_url: Address,
    /// Where the collectors listen, each by its own address, joined by commas.
    #[arg(
        long,
        env = "ASSETTRACK_COLLECTOR_URLS",
        default_value = "http://127.0.0.1:50052",
        value_delimiter = ','
    )]
    pub collector_urls: Vec<Address>,
    /// Folder of the built web UI; without it the gateway serves the API alone.
    #[arg(long, env = "ASSETTRACK_UI_DIR")]
    pub ui_dir: Option<PathBuf>,
    /// Origins whose pages may call the API from a browser, joined by commas.
    #[arg(long, env = "ASSETTRACK_CORS_ALLOWED_ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub cors_allowed_origins: Vec<HeaderValue>,
    /// How long a call may take whose client sets no deadline, in milliseconds.
    #[arg(long, env = "ASSETTRACK_REQUEST_TIMEOUT_MILLISECONDS", default_value_t = 30_000,
          value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub request_timeout_milliseconds: u64,
    /// Settings of every service.
    #[command(flatten)]
    pub common: Common,
}

/// Where `/metrics`, `/livez` and `/readyz` are unless a setting says
/// otherwise.
pub const ADMIN_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9104);

impl Config {
    /// How long a call may take whose client sets no deadline.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_milliseconds)
    }

    /// Where `/metrics`, `/livez` and `/readyz` are.
    pub fn admin_address(&self) -> SocketAddr {
        self.common.admin_address.unwrap_or(ADMIN_ADDRESS)
    }
}

/// Whoever reaches the port may read and change everything: so nobody from
/// another machine may, until there is access control.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "must be an address and port, such as 127.0.0.1:8080".to_owned())?;
    if !address.ip().is_loopback() {
        return Err(
            "must be a loopback address, such as 127.0.0.1:8080, since there is no access control yet"
                .to_owned(),
        );
    }
    Ok(address)
}

fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = || "must be scheme://host or scheme://host:port, without a path".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let exact =
        uri.scheme_str().zip(uri.authority()).map(|(scheme, authority)| format!("{scheme}://{authority}"));
    if exact.as_deref() != Some(text) {
        return Err(wrong());
    }
    HeaderValue::from_str(text).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        for (address, allowed) in [
            ("127.0.0.1:8080", true),
            ("127.1.2.3:0", true),
            ("[::1]:8080", true),
            ("0.0.0.0:8080", false),
            ("[::]:8080", false),
            ("192.0.2.1:8080", false),
            ("localhost", false),
        ] {
            let parsed = Config::try_parse_from(["x", "--listen-address", address]);
            assert_eq!(parsed.is_ok(), allowed, "{address}");
            if let Err(error) = parsed {
                assert!(error.to_string().contains("--listen-address"), "{error}");
            }
        }
    }

    #[test]
    fn wrong_addresses_and_origins_are_refused() {
        for (flag, value) in [
            ("--processor-url", "https://x:1"),
            ("--processor-url", "x:1"),
            ("--collector-urls", "http://a:1,b"),
            ("--cors-allowed-origins", "https://a.example/"),
            ("--cors-allowed-origins", "*"),
            ("--request-timeout-milliseconds", "0"),
        ] {
            let error = Config::try_parse_from(["x", flag, value]).unwrap_err();
            assert!(error.to_string().contains(flag), "{error}");
        }
        let config = Config::try_parse_from(["x", "--collector-urls", "http://a:1,http://b:2"]).unwrap();
        assert_eq!(config.collector_urls.len(), 2);
    }
}
