//! Settings of the agent, and who its node is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use contracts::v1::NodeIdentity;
use kit::queue::MAX_NODE_NAME_BYTES;
use kit::settings::SettingError;
use uuid::Uuid;

use crate::host::HostRoot;
use crate::text::truncate;

/// Default address of /metrics, /livez and /readyz.
pub const ADMIN_PORT: u16 = 9101;

/// Finds the assets of this node and publishes what changes.
#[derive(Debug, Parser)]
#[command(
    name = "assettrack-agent",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// Something else than to run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of the running agent.
    #[command(flatten)]
    pub config: Config,
}

/// What the program can do beside running as the agent.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the inventory of this node once; needs neither broker nor store.
    Scan(ScanArgs),
}

/// Settings of `scan`.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Where the node's root is mounted.
    #[arg(long, env = "ASSETTRACK_HOST_ROOT", default_value = "/")]
    pub host_root: PathBuf,
    /// What is looked for.
    #[command(flatten)]
    pub probes: ProbeArgs,
}

/// Form of a printed inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line an asset, for a person.
    Table,
    /// One JSON array.
    Json,
    /// A CycloneDX 1.6 bill of materials, in JSON.
    Cyclonedx,
}

/// Settings of the running agent.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Logs, admin endpoint, shutdown.
    #[command(flatten)]
    pub common: kit::settings::Common,
    /// The broker.
    #[command(flatten)]
    pub amqp: kit::amqp::Settings,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// What is looked for.
    #[command(flatten)]
    pub probes: ProbeArgs,
    /// Folder of the agent's store; one an agent, on a disk that outlives it.
    #[arg(long, env = "ASSETTRACK_STORE_DIR", default_value = "/var/lib/assettrack/agent")]
    pub store_dir: PathBuf,
    /// Bytes of unconfirmed batches at which no more changes are taken until
    /// the broker has confirmed some.
    #[arg(long, env = "ASSETTRACK_OUTBOX_LIMIT_BYTES", default_value_t = 64 * 1024 * 1024,
          value_parser = clap::value_parser!(u64).range(64 * 1024..=64 * 1024 * 1024 * 1024))]
    pub outbox_limit_bytes: u64,
    /// Seconds between full scans; what is watched is scanned at once anyway.
    #[arg(long, env = "ASSETTRACK_SCAN_INTERVAL_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub scan_interval_seconds: u64,
    /// Seconds between scans of what cannot be watched: sockets, modules,
    /// interfaces.
    #[arg(long, env = "ASSETTRACK_PROMPT_SCAN_INTERVAL_SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub prompt_scan_interval_seconds: u64,
    /// Seconds that one probe may take.
    #[arg(long, env = "ASSETTRACK_PROBE_TIMEOUT_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub probe_timeout_seconds: u64,
    /// Seconds between heartbeats; three missed ones make the node stale.
    #[arg(long, env = "ASSETTRACK_HEARTBEAT_INTERVAL_SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub heartbeat_interval_seconds: u64,
    /// Address of the local gRPC service.
    #[arg(long, env = "ASSETTRACK_GRPC_ADDRESS", default_value = "127.0.0.1:50053")]
    pub grpc_address: SocketAddr,
}

/// Settings that say which node this is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Node")]
pub struct NodeArgs {
    /// Name of the cluster; part of the identity of its nodes.
    #[arg(long, env = "ASSETTRACK_CLUSTER", default_value = "default", value_parser = node_name)]
    pub cluster: String,
    /// Name of the node for people; its host name if it is not given.
    #[arg(long, env = "ASSETTRACK_NODE_NAME", value_parser = node_name)]
    pub node_name: Option<String>,
    /// Identity of the machine; its machine-id(5) if it is not given.
    #[arg(long, env = "ASSETTRACK_MACHINE_ID", value_parser = machine_identity)]
    pub machine_id: Option<String>,
    /// Where the node's root is mounted.
    #[arg(long, env = "ASSETTRACK_HOST_ROOT", default_value = "/")]
    pub host_root: PathBuf,
}

/// Settings of what is looked for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Discovery")]
pub struct ProbeArgs {
    /// Name of the node in Kubernetes (`spec.nodeName`).
    #[arg(long, env = "ASSETTRACK_KUBERNETES_NODE_NAME", value_parser = node_name)]
    pub kubernetes_node_name: Option<String>,
    /// Labels of the node, as `key=value,key=value`; at most 64.
    #[arg(long = "node-labels", env = "ASSETTRACK_NODE_LABELS", value_delimiter = ',', value_parser = node_label)]
    pub node_labels: Vec<(String, String)>,
    /// Socket of the container runtime (CRI), below the host root; the usual
    /// ones are tried if it is not given.
    #[arg(long, env = "ASSETTRACK_CRI_SOCKET")]
    pub cri_socket: Option<PathBuf>,
}

impl Config {
    /// How the probes are run.
    #[must_use]
    pub fn scheduling(&self) -> crate::scheduler::Settings {
        crate::scheduler::Settings {
            full_interval: Duration::from_secs(self.scan_interval_seconds),
            prompt_interval: Duration::from_secs(self.prompt_scan_interval_seconds),
            timeout: Duration::from_secs(self.probe_timeout_seconds),
        }
    }
}

/// Opens the host root.
///
/// # Errors
/// It cannot be opened; names the setting.
pub fn host_root(path: &PathBuf) -> Result<HostRoot, SettingError> {
    HostRoot::new(path)
        .map_err(|error| SettingError::new("host-root", format!("cannot open {}: {error}", path.display())))
}

impl NodeArgs {
    /// Who the node is, and its UUID.
    ///
    /// # Errors
    /// The machine has no identity of its own; names the setting to give.
    pub fn identity(&self, host: &HostRoot) -> Result<(NodeIdentity, Uuid), SettingError> {
        let machine_id = match &self.machine_id {
            Some(id) => id.clone(),
            None => read_machine_id(host)?,
        };
        let uid = kit::identity::node_uid(&self.cluster, &machine_id);
        let named = self.node_name.clone().or_else(|| host.line("proc/sys/kernel/hostname"));
        let mut display_name = named.or_else(|| host.line("etc/hostname")).unwrap_or_else(|| uid.to_string());
        truncate(&mut display_name, MAX_NODE_NAME_BYTES);
        Ok((NodeIdentity { uid: uid.to_string(), cluster: self.cluster.clone(), display_name }, uid))
    }
}

/// Where machine-id(5) is; the second is D-Bus's own, on systems without systemd.
const MACHINE_ID_FILES: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];

fn read_machine_id(host: &HostRoot) -> Result<String, SettingError> {
    let valid = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    // An image made for many machines has an empty one, or "uninitialized".
    let found = MACHINE_ID_FILES.iter().filter_map(|path| host.line(path)).find(valid);
    found.map(|id| id.to_lowercase()).ok_or_else(|| {
        let files = MACHINE_ID_FILES.map(|path| host.path().join(path).display().to_string()).join(" nor ");
        SettingError::new("machine-id", format!("must be given, as neither {files} holds a machine ID"))
    })
}

fn node_name(text: &str) -> Result<String, String> {
    let fits =
        !text.trim().is_empty() && text.len() <= MAX_NODE_NAME_BYTES && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or_else(|| format!("must be 1 to {MAX_NODE_NAME_BYTES} bytes of text"))
}

fn node_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let fits = !key.trim().is_empty()
        && key.len() <= MAX_NODE_NAME_BYTES
        && value.len() <= MAX_NODE_NAME_BYTES
        && !text.chars().any(char::is_control);
    fits.then(|| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| format!("must be key=value, each of at most {MAX_NODE_NAME_BYTES} bytes"))
}

fn machine_identity(text: &str) -> Result<String, String> {
    let fits = (8..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| "must be 8 to 128 visible ASCII characters".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(machine_id: Option<&str>) -> NodeArgs {
        NodeArgs {
            cluster: "prod".into(),
            node_name: None,
            machine_id: machine_id.map(Into::into),
            host_root: "/".into(),
        }
    }

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostRoot) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = HostRoot::new(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn the_machine_id_is_taken_from_where_it_is() {
        let id = "3d1219c7c4c5404aaa1f6d2a48adfda4";
        let expected = kit::identity::node_uid("prod", id);
        let line = format!("{id}\n");
        for files in [
            &[("etc/machine-id", line.as_str())][..],
            &[("var/lib/dbus/machine-id", &line)],
            &[("etc/machine-id", "uninitialized\n"), ("var/lib/dbus/machine-id", &line)],
            &[("etc/machine-id", ""), ("var/lib/dbus/machine-id", &line.to_uppercase())],
        ] {
            let (_root, host) = host(files);
            assert_eq!(args(None).identity(&host).unwrap().1, expected, "{files:?}");
        }
        let (_root, host) = host(&[("etc/machine-id", "0123456789abcdef0123456789abcdef\n")]);
        assert_eq!(args(Some(id)).identity(&host).unwrap().1, expected, "the setting wins");
    }

    #[test]
    fn a_machine_without_identity_is_told_what_to_set() {
        for files in [&[][..], &[("etc/machine-id", "uninitialized")], &[("etc/machine-id", "abc")]] {
            let (_root, host) = host(files);
            let error = args(None).identity(&host).unwrap_err().to_string();
            assert!(error.contains("--machine-id (ASSETTRACK_MACHINE_ID)"), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn the_node_is_named_by_its_host_name() {
        let (_root, host) = host(&[("proc/sys/kernel/hostname", "worker-7\n")]);
        let (identity, uid) = args(Some("0123456789")).identity(&host).unwrap();
        assert_eq!((identity.display_name.as_str(), identity.cluster.as_str()), ("worker-7", "prod"));
        assert_eq!(identity.uid, uid.to_string());
    }

    #[test]
    fn settings_are_checked() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["assettrack-agent"], args].concat());
        assert!(parse(&["--amqp-url", "amqp://x"]).is_ok());
        assert!(parse(&["scan", "--output", "json"]).is_ok());
        assert!(parse(&["scan", "--output", "cyclonedx"]).is_ok());
        for wrong in [
            &["--cluster", ""][..],
            &["--machine-id", "short"],
            &["--scan-interval-seconds", "0"],
            &["--outbox-limit-bytes", "1"],
            &["--grpc-address", "nowhere"],
            &["scan", "--output", "xml"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
