//! The probes: each finds the assets of one kind. A probe is a pure parser over
//! file contents and a thin reader below the host root.

mod accelerators;
mod accounts;
mod block;
mod boards;
mod certificates;
mod containers;
mod cron;
mod disks;
mod dns;
mod filesystems;
mod firmware;
mod hardware_ids;
mod kernel_parameters;
mod memory;
mod modules;
mod network;
mod node;
mod numa;
pub mod packages;
mod pci;
mod processors;
mod routes;
mod smbios;
mod sockets;
mod swap;
mod sysfs;
mod systemd;
mod usb;
mod volumes;

use std::io;
use std::sync::Arc;

use contracts::v1::{AssetKind, ImageContentSource, PackageDetails};

use crate::asset::ScannedAsset;
use crate::config::ProbeArgs;
use crate::host::{HostRoot, is_absent};
use crate::text::scrub;

pub use containers::follow as follow_containers;
pub use node::keep_boot_time;

/// Most warnings that one scan reports; the rest is counted in one more.
const MAX_WARNINGS: usize = 20;

/// What a scan of one kind found.
#[derive(Debug, Default)]
pub struct Scan {
    /// The assets. Where two have one natural key, the first counts.
    pub assets: Vec<ScannedAsset>,
    /// What is in images that were read for the first time.
    pub contents: Vec<ImageContents>,
    /// What could not be read and was left out, or was cut.
    pub warnings: Vec<String>,
    /// Beginnings of natural keys of what could not be looked at, such as
    /// `/etc/ssl/private/`: what was recorded of it before is not gone, and stays
    /// as it was last seen. An empty one means all of the kind.
    pub unread: Vec<String>,
}

impl Scan {
    /// Leaves a block device out until udev has looked at it. As it may be one
    /// that is known, nothing of its kind is taken for gone until then.
    fn wait_for_udev(&mut self, name: &str) {
        self.warnings.push(format!("{name} is left out until udev has looked at it"));
        self.unread.push(String::new());
    }
}

/// The packages in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageContents {
    /// Natural key of the image.
    pub image_digest: String,
    /// What was found; sorted by manager, name, architecture and version.
    pub packages: Vec<PackageDetails>,
    /// Where it was read.
    pub source: ImageContentSource,
}

/// What the probes are told from outside.
#[derive(Clone)]
pub struct Context {
    /// Natural keys of the listening sockets last recorded: they need not prove
    /// themselves anew.
    pub known_sockets: Vec<String>,
    /// Whether images of containers are recorded: then a container runtime is
    /// here, though it may not have begun yet.
    pub known_images: bool,
    /// What only the agent's settings say of the node.
    pub settings: ProbeArgs,
    /// Whether the contents of an image, by its natural key, are recorded.
    pub knows_image: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Whether the sockets wait, where they have to know what runs in which
    /// container, until containers were looked for. Then that has to happen before
    /// or beside them, or they wait for ever.
    pub sockets_wait: bool,
}

impl Context {
    /// For a look that nothing is remembered of.
    #[must_use]
    pub fn forgetful(settings: ProbeArgs) -> Self {
        Self {
            known_sockets: Vec::new(),
            known_images: false,
            settings,
            knows_image: Arc::new(|_| false),
            sockets_wait: false,
        }
    }
}

/// What makes a probe run at once, beside changes of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Network interfaces, addresses or routes changed (rtnetlink(7)).
    Network,
    /// The kernel said that a device of this subsystem came, went or changed.
    Device(&'static str),
    /// A container started or ended.
    Containers,
}

/// Why a probe found nothing. What it found before stays.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A file that it needs cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Path below the host root.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel does not list the addresses of the interfaces.
    #[error("cannot list addresses: {0}")]
    Addresses(#[source] io::Error),
    /// A file does not have the form that it is known to have.
    #[error("{path}: {problem}")]
    Malformed {
        /// Path below the host root.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The container runtime does not answer as it should.
    #[error("container runtime at {path}: {problem}")]
    Runtime {
        /// Its socket below the host root.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

impl ProbeError {
    /// For `map_err` on reading `path`.
    pub(crate) fn read(path: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Read { path: path.to_owned(), source }
    }
}

/// Whether something is at `path`.
fn exists(host: &HostRoot, path: &str) -> Result<bool, ProbeError> {
    host.exists(path).map_err(ProbeError::read(path))
}

/// What was read of `path`; nothing if nothing is there.
fn unless_absent<T: Default>(path: &str, read: io::Result<T>) -> Result<T, ProbeError> {
    match read {
        Err(error) if is_absent(&error) => Ok(T::default()),
        read => read.map_err(ProbeError::read(path)),
    }
}

/// How soon a probe runs again without a sign of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// With each full scan: what is watched, or seldom changes.
    Full,
    /// More often: what changes without leaving a trace to watch.
    Prompt,
}

type ScanFn = dyn Fn(&HostRoot) -> Result<Scan, ProbeError> + Send + Sync;

/// One probe.
#[derive(Clone)]
pub struct Probe {
    /// Its name, such as `packages`.
    pub name: &'static str,
    /// The kind that it alone finds.
    pub kind: AssetKind,
    /// How soon it runs again.
    pub cadence: Cadence,
    /// Files and folders whose change makes it run at once, below the host
    /// root; they need not exist yet. A folder counts with the files in it, one
    /// that ends in `/*` with the folders in it too, in `/**` with all below
    /// (bounded). Below `proc` only mount tables, `proc/swaps` and `proc/mdstat`
    /// tell of changes, below `sys` nothing does: signals do.
    pub watched: &'static [&'static str],
    /// What else makes it run at once.
    pub signals: &'static [Signal],
    scan: Arc<ScanFn>,
}

impl Probe {
    /// A probe of one kind.
    pub fn new(
        name: &'static str,
        kind: AssetKind,
        cadence: Cadence,
        watched: &'static [&'static str],
        scan: impl Fn(&HostRoot) -> Result<Scan, ProbeError> + Send + Sync + 'static,
    ) -> Self {
        Self { name, kind, cadence, watched, signals: &[], scan: Arc::new(scan) }
    }

    /// The same probe, also woken by these.
    #[must_use]
    pub fn woken_by(mut self, signals: &'static [Signal]) -> Self {
        self.signals = signals;
        self
    }

    /// Looks at the node. Blocks; may hang with the node's devices.
    ///
    /// # Errors
    /// When what it needs cannot be read.
    pub fn scan(&self, host: &HostRoot) -> Result<Scan, ProbeError> {
        let mut scan = (self.scan)(host)?;
        let cut: Vec<String> = scan.assets.iter_mut().filter_map(ScannedAsset::limit).collect();
        scan.warnings.extend(cut);
        // As it was done to the keys that they begin.
        scan.unread.iter_mut().for_each(scrub);
        // A name that was nothing but control characters, say.
        let all = scan.assets.len();
        scan.assets.retain(|asset| !asset.natural_key.is_empty());
        if scan.assets.len() < all {
            scan.warnings.push(format!("{} without a name are left out", all - scan.assets.len()));
        }
        if scan.warnings.len() > MAX_WARNINGS {
            let more = scan.warnings.len() - MAX_WARNINGS;
            scan.warnings.truncate(MAX_WARNINGS);
            scan.warnings.push(format!("and {more} more"));
        }
        Ok(scan)
    }
}

/// All probes, in the order of their kinds.
#[must_use]
pub fn all(context: &Context) -> Vec<Probe> {
    use AssetKind as Kind;
    use Cadence::{Full, Prompt};
    let settings = context.settings.clone();
    let containers = containers::Containers::new(context);
    let sockets = sockets::Sockets::new(context.known_sockets.iter().cloned(), containers.clone());
    let (pods, images) = (containers.clone(), containers.clone());
    vec![
        Probe::new("node", Kind::Node, Full, node::WATCHED, move |host| node::scan(host, &settings)),
        Probe::new("disks", Kind::Disk, Full, disks::WATCHED, disks::scan)
            .woken_by(&[Signal::Device("block")]),
        Probe::new("filesystems", Kind::Filesystem, Full, filesystems::WATCHED, filesystems::scan)
            .woken_by(&[Signal::Device("block")]),
        Probe::new("network", Kind::NetworkInterface, Prompt, network::WATCHED, network::scan)
            .woken_by(&[Signal::Network]),
        Probe::new("packages", Kind::Package, Full, packages::WATCHED, packages::scan),
        Probe::new("systemd", Kind::SystemdUnit, Full, systemd::WATCHED, systemd::scan),
        Probe::new("modules", Kind::KernelModule, Prompt, modules::WATCHED, modules::scan)
            .woken_by(&[Signal::Device("module")]),
        Probe::new("pods", Kind::Pod, Prompt, containers::WATCHED, move |host| pods.pods(host))
            .woken_by(&[Signal::Containers]),
        Probe::new("containers", Kind::Container, Prompt, containers::WATCHED, move |host| {
            containers.containers(host)
        })
        .woken_by(&[Signal::Containers]),
        Probe::new("images", Kind::ContainerImage, Prompt, containers::WATCHED, move |host| {
            images.images(host)
        })
        .woken_by(&[Signal::Containers]),
        // After the containers, which it asks what processes run in.
        Probe::new("sockets", Kind::ListeningSocket, Prompt, sockets::WATCHED, move |host| {
            sockets.scan(host)
        }),
        Probe::new("cron", Kind::CronEntry, Full, cron::WATCHED, cron::scan),
        Probe::new("users", Kind::User, Full, accounts::WATCHED_BY_USERS, accounts::scan_users),
        Probe::new("groups", Kind::Group, Full, accounts::WATCHED_BY_GROUPS, accounts::scan_groups),
        Probe::new("certificates", Kind::Certificate, Full, certificates::WATCHED, certificates::scan),
        Probe::new("firmware", Kind::Firmware, Full, firmware::WATCHED, firmware::scan),
        Probe::new("boards", Kind::Board, Full, boards::WATCHED, boards::scan),
        Probe::new("processors", Kind::Processor, Full, processors::WATCHED, processors::scan)
            .woken_by(&[Signal::Device("cpu")]),
        Probe::new("memory", Kind::MemoryModule, Full, memory::WATCHED, memory::scan)
            .woken_by(&[Signal::Device("memory")]),
        Probe::new("numa", Kind::NumaNode, Full, numa::WATCHED, numa::scan).woken_by(&[
            Signal::Device("node"),
            Signal::Device("cpu"),
            Signal::Device("memory"),
        ]),
        Probe::new("pci", Kind::PciDevice, Full, pci::WATCHED, pci::scan).woken_by(&[Signal::Device("pci")]),
        Probe::new("usb", Kind::UsbDevice, Full, usb::WATCHED, usb::scan).woken_by(&[Signal::Device("usb")]),
        Probe::new("accelerators", Kind::Accelerator, Full, accelerators::WATCHED, accelerators::scan)
            .woken_by(&[Signal::Device("pci"), Signal::Device("drm")]),
        Probe::new(
            "kernel_parameters",
            Kind::KernelParameter,
            Full,
            kernel_parameters::WATCHED,
            kernel_parameters::scan,
        ),
        Probe::new("volumes", Kind::Volume, Full, volumes::WATCHED, volumes::scan)
            .woken_by(&[Signal::Device("block")]),
        Probe::new("swap", Kind::Swap, Prompt, swap::WATCHED, swap::scan)
            .woken_by(&[Signal::Device("block")]),
        Probe::new("routes", Kind::Route, Prompt, routes::WATCHED, routes::scan).woken_by(&[Signal::Network]),
        Probe::new("dns", Kind::DnsResolver, Full, dns::WATCHED, dns::scan),
    ]
}

#[cfg(test)]
mod mutation;
