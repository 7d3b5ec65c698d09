//! Tools from outside: found, or installed after saying so, or named with the
//! command that installs them.

mod node;
mod python;

use std::path::PathBuf;

pub use node::Node;
pub use python::{Python, install as install_python};

use crate::{
    apt,
    checkout::Checkout,
    error::{Error, Shortage},
    interrupt::Interrupt,
    progress::Progress,
    servers::{postgres, rabbitmq},
};

/// What a test of the agent asks where it stands beside it, and the packages that
/// bring it; `sleep` and its like are there anyway.
const OTHER_TOOLS: &[&str] = &[
    "blkid",
    "containerd",
    "cron",
    "db5.3_load",
    "dmidecode",
    "findmnt",
    "fusioninventory-inventory",
    "ip",
    "lspci",
    "lsusb",
    "mkfs.ext4",
    "numactl",
    "openssl",
    "rpm",
    "runc",
    "sfdisk",
    "sqlite3",
    "ss",
    "sudo",
    "sysctl",
    "systemctl",
    "unshare",
];
const OTHER_PACKAGES: &[&str] = &[
    "containerd",
    "cron",
    "db5.3-util",
    "dmidecode",
    "e2fsprogs",
    "fdisk",
    "fusioninventory-agent",
    "iproute2",
    "mount",
    "numactl",
    "openssl",
    "passwd",
    "pciutils",
    "procps",
    "rpm",
    "runc",
    "sqlite3",
    "sudo",
    "systemd",
    "usbutils",
    "util-linux",
];

/// A tool that some command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// For build scripts that compile C (ring, zstd).
    Compiler,
    Postgres,
    RabbitMq,
    /// With npm, to build the web UI.
    Node,
    /// For the browser test.
    Chromium,
    /// That the agent's findings are compared with.
    OtherTools,
    /// To measure the agent beside it.
    NodeExporter,
    /// To measure the agent beside it.
    FusionInventory,
    /// For the containers of a measured node.
    Containerd,
}

impl Need {
    fn what(self) -> &'static str {
        match self {
            Self::Compiler => "a C compiler (cc), for ring and zstd",
            Self::Postgres => "PostgreSQL 14 or newer, the processor's store",
            Self::RabbitMq => "RabbitMQ with Erlang, the queue",
            Self::Node => "Node.js 20.19 or newer with npm, for the web UI",
            Self::Chromium => "Chromium, for the browser test",
            Self::OtherTools => "tools that the agent's findings are compared with",
            Self::NodeExporter => "prometheus-node-exporter, to compare with",
            Self::FusionInventory => "fusioninventory-agent, to compare with",
            Self::Containerd => "containerd, runc and curl, for the containers of the measured node",
        }
    }

    /// Debian's and Ubuntu's packages that bring it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Compiler => &["build-essential"],
            Self::Postgres => &["postgresql"],
            Self::RabbitMq => &["rabbitmq-server"],
            // Node.js itself comes by pip: Debian 12 has version 18.
            Self::Node => &["python3-venv"],
            Self::Chromium => &["chromium"],
            Self::OtherTools => OTHER_PACKAGES,
            Self::NodeExporter => &["prometheus-node-exporter"],
            Self::FusionInventory => &["fusioninventory-agent"],
            Self::Containerd => &["containerd", "runc", "curl"],
        }
    }

    fn is_met(self, checkout: &Checkout) -> bool {
        match self {
            Self::Compiler => apt::find_in_path("cc").is_some(),
            Self::Postgres => !postgres::installations().is_empty(),
            Self::RabbitMq => rabbitmq::find().is_some(),
            Self::Node => Node::find(checkout).is_some(),
            Self::Chromium => chromium().is_some(),
            Self::OtherTools => OTHER_TOOLS.iter().all(|tool| apt::find_in_path(tool).is_some()),
            Self::NodeExporter => apt::find_in_path("prometheus-node-exporter").is_some(),
            Self::FusionInventory => apt::find_in_path("fusioninventory-inventory").is_some(),
            Self::Containerd => ["containerd", "ctr", "runc", "curl"]
                .into_iter()
                .all(|tool| apt::find_in_path(tool).is_some()),
        }
    }

    /// Whether packages are missing for it; Node.js may be missing where what
    /// installs it is not.
    fn lacks_packages(self, checkout: &Checkout) -> bool {
        let comes_otherwise = self == Self::Node && node::python().is_some();
        !self.is_met(checkout) && !comes_otherwise
    }

    fn shortage(self) -> Shortage {
        let remedy = match self {
            Self::Node => {
                format!("{}, then run this again; or put Node.js into PATH", apt::remedy(self.packages()))
            }
            _ => apt::remedy(self.packages()),
        };
        Shortage { what: self.what().to_owned(), remedy }
    }
}

/// Makes sure that all of these are there. All that is missing is installed at
/// once; what cannot be is told at once too.
pub fn provide(
    needs: &[Need],
    checkout: &Checkout,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<(), Error> {
    let lacking: Vec<Need> = needs.iter().copied().filter(|need| need.lacks_packages(checkout)).collect();
    if !lacking.is_empty() {
        let shortages = || lacking.iter().map(|need| need.shortage()).collect();
        if !apt::is_usable() {
            return Err(Error::Missing(shortages()));
        }
        let packages: Vec<&str> = lacking.iter().flat_map(|need| need.packages()).copied().collect();
        for need in &lacking {
            progress.say(&format!("missing: {}", need.what()));
        }
        progress.say(&format!("installing it: {}", apt::remedy(&packages)));
        if let Err(error) = apt::install(&packages) {
            progress.say(&error.to_string());
            return Err(Error::Missing(shortages()));
        }
        interrupt.check()?;
    }
    if needs.contains(&Need::Node) && !Need::Node.is_met(checkout) {
        node::install(checkout, interrupt, progress)?;
    }
    let missing: Vec<Shortage> =
        needs.iter().filter(|need| !need.is_met(checkout)).map(|need| need.shortage()).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing)) }
}

/// The browser: `CHROMIUM` when it is set, else by its usual names.
pub fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    named
        .or_else(|| ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(apt::find_in_path))
}
