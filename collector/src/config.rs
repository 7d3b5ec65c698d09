//! The settings of the collector.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use kit::settings::{Common, SettingError};
use tonic::transport::Channel;

/// Frames that messages come in. The client keeps 64 of them in memory: 8 MiB with
/// the broker's own 128 KiB, and nothing is gained by it.
const FRAME_BYTES: u32 = 32 << 10;

/// Consumes what agents published and delivers it to the processor.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "assettrack-collector", version, about)]
pub struct Config {
    /// The broker.
    #[command(flatten)]
    pub broker: kit::amqp::Settings,
    /// What every service can be told.
    #[command(flatten)]
    pub common: Common,
    /// Address of CollectorService.
    #[arg(long, env = "ASSETTRACK_GRPC_ADDRESS", default_value = "0.0.0.0:50052")]
    pub grpc_address: SocketAddr,
    /// Where the processor is: http://host:port.
    #[arg(long, env = "ASSETTRACK_PROCESSOR_URL", default_value = "http://127.0.0.1:50051")]
    pub processor_url: String,
    /// Event queues that the 64 shards are spread over. May be changed at any
    /// time; all collectors should agree.
    #[arg(long, env = "ASSETTRACK_QUEUES", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub queues: u8,
    /// Bytes at which an event queue takes no more, and agents keep their
    /// batches. A queue that exists keeps the limit it was declared with.
    #[arg(long, env = "ASSETTRACK_QUEUE_MAX_BYTES", default_value_t = 1 << 30,
          value_parser = clap::value_parser!(i64).range(1 << 20..))]
    pub queue_max_bytes: i64,
    /// Bytes of messages that the broker may hand over before they are
    /// committed, all queues together: at 64 KiB a message, at least 4 a queue;
    /// larger foreign messages are bounded by the broker's max_message_size
    /// alone.
    #[arg(long, env = "ASSETTRACK_PREFETCH_BYTES", default_value_t = 16 << 20,
          value_parser = clap::value_parser!(u64).range(1 << 20..=1 << 32))]
    pub prefetch_bytes: u64,
    /// IngestEvents calls in flight at once.
    #[arg(long, env = "ASSETTRACK_INGEST_CALLS", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub ingest_calls: u8,
    /// Seconds that messages are held while the processor fails, before the
    /// broker gets them back.
    #[arg(long, env = "ASSETTRACK_HOLD_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub hold_seconds: u64,
}

/// Settings that were checked.
pub struct Checked {
    /// The broker.
    pub broker: kit::amqp::Broker,
    /// The same, for publishing commands.
    pub commands: kit::amqp::Broker,
    /// The way to the processor, not opened yet.
    pub processor: Channel,
    /// This collector: host and process, such as `node-7/4711`.
    pub collector: String,
}

impl Config {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// The broker's or the processor's URL is wrong.
    pub fn check(&self) -> Result<Checked, SettingError> {
        let host = nix::unistd::gethostname()
            .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned());
        let collector = format!("{host}/{}", std::process::id());
        Ok(Checked {
            broker: self
                .broker
                .broker(&format!("assettrack-collector {collector}"))?
                .with_frame_max(FRAME_BYTES),
            commands: self.broker.broker(&format!("assettrack-collector {collector} commands"))?,
            processor: kit::grpc::channel("processor-url", &self.processor_url)?,
            collector,
        })
    }

    /// Address of the admin endpoint.
    pub fn admin_address(&self) -> SocketAddr {
        self.common.admin_address.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 9102).into())
    }

    /// How long messages are held while the processor fails.
    pub fn hold(&self) -> Duration {
        Duration::from_secs(self.hold_seconds)
    }

    /// Messages that the broker may hand over a queue.
    pub fn prefetch(&self) -> u16 {
        let each = self.prefetch_bytes / kit::queue::MAX_BATCH_BYTES as u64 / u64::from(self.queues);
        u16::try_from(each.max(4)).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(flags: &[&str]) -> Result<Config, clap::Error> {
        let url = ["assettrack-collector", "--amqp-url", "amqp://127.0.0.1"];
        Config::try_parse_from(url.iter().chain(flags))
    }

    #[test]
    fn prefetch_follows_the_budget() {
        assert_eq!(config(&[]).unwrap().prefetch(), 64);
        assert_eq!(config(&["--queues", "16"]).unwrap().prefetch(), 16);
        assert_eq!(config(&["--queues", "64"]).unwrap().prefetch(), 4);
        assert_eq!(config(&["--queues", "64", "--prefetch-bytes", "1048576"]).unwrap().prefetch(), 4);
        assert_eq!(
            config(&["--queues", "1", "--prefetch-bytes", "4294967296"]).unwrap().prefetch(),
            u16::MAX
        );
    }

    #[test]
    fn wrong_settings_are_named() {
        for (flag, value) in [("--queues", "0"), ("--queues", "65"), ("--hold-seconds", "0")] {
            let error = config(&[flag, value]).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        }
        let error = config(&["--processor-url", "127.0.0.1:1"]).unwrap().check().err().unwrap();
        assert!(error.to_string().contains("ASSETTRACK_PROCESSOR_URL"), "{error}");
    }
}
