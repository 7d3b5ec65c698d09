//! AssetTrack's own processes: what each is told.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{
    checkout::Checkout,
    error::Error,
    instance::{Instance, Launch},
    servers::Urls,
};

/// The gateway's process; its port is the public one.
pub const GATEWAY: &str = "gateway";
/// Settings that belong to single services: none may see another's, or one that
/// the user's shell happens to hold.
const OURS: [&str; 12] = [
    "ASSETTRACK_ADMIN_ADDRESS",
    "ASSETTRACK_AMQP_URL",
    "ASSETTRACK_AMQP_URL_FILE",
    "ASSETTRACK_COLLECTOR_URLS",
    "ASSETTRACK_DATABASE_URL",
    "ASSETTRACK_DATABASE_URL_FILE",
    "ASSETTRACK_GRPC_ADDRESS",
    "ASSETTRACK_HOST_ROOT",
    "ASSETTRACK_LISTEN_ADDRESS",
    "ASSETTRACK_PROCESSOR_URL",
    "ASSETTRACK_STORE_DIR",
    "ASSETTRACK_UI_DIR",
];
/// Two, so that they compete as they do in production.
const COLLECTORS: u8 = 2;

/// All services in the order of their start. The gateway's port is decided
/// before; the others get free ones.
pub fn plan(
    checkout: &Checkout,
    instance: &mut Instance,
    urls: &Urls,
    public_port: u16,
) -> Result<Vec<Launch>, Error> {
    let mut planner = Planner { checkout, instance, binaries: checkout.binaries().to_owned() };
    let (processor, mut launch) = planner.launch("processor", "assettrack-processor")?;
    launch.set("ASSETTRACK_DATABASE_URL", &urls.database);
    let mut plan = vec![launch];
    let processor_url = format!("http://127.0.0.1:{processor}");

    let mut collector_urls = Vec::new();
    for number in 1..=COLLECTORS {
        let (port, mut launch) = planner.launch(&format!("collector-{number}"), "assettrack-collector")?;
        launch.set("ASSETTRACK_AMQP_URL", &urls.amqp);
        launch.set("ASSETTRACK_PROCESSOR_URL", &processor_url);
        collector_urls.push(format!("http://127.0.0.1:{port}"));
        plan.push(launch);
    }

    let (_, mut launch) = planner.launch("agent", "assettrack-agent")?;
    launch.set("ASSETTRACK_AMQP_URL", &urls.amqp);
    launch.set("ASSETTRACK_STORE_DIR", planner.instance.directory().join("agent"));
    launch.set("ASSETTRACK_HOST_ROOT", Path::new("/"));
    plan.push(launch);

    planner.instance.state.ports.insert(GATEWAY.to_owned(), public_port);
    let (_, mut launch) = planner.launch(GATEWAY, "assettrack-gateway")?;
    launch.set("ASSETTRACK_LISTEN_ADDRESS", format!("127.0.0.1:{public_port}"));
    launch.set("ASSETTRACK_PROCESSOR_URL", &processor_url);
    launch.set("ASSETTRACK_COLLECTOR_URLS", collector_urls.join(","));
    launch.set("ASSETTRACK_UI_DIR", checkout.webui().join("dist"));
    // It has one public address in place of a gRPC one.
    launch.environment.retain(|(name, _)| name != "ASSETTRACK_GRPC_ADDRESS");
    launch.port = Some(public_port);
    plan.push(launch);
    Ok(plan)
}

/// Gives each service its ports and what all are told.
pub struct Planner<'a> {
    pub checkout: &'a Checkout,
    pub instance: &'a mut Instance,
    /// Where the binaries are.
    pub binaries: PathBuf,
}

impl Planner<'_> {
    /// What every service is told; answers its gRPC port too.
    pub fn launch(&mut self, name: &str, binary: &str) -> Result<(u16, Launch), Error> {
        let port = self.instance.port(name)?;
        let admin_port = self.instance.port(&format!("{name}-admin"))?;
        let mut launch = Launch {
            name: name.to_owned(),
            program: self.binaries.join(binary),
            arguments: Vec::new(),
            environment: Vec::new(),
            hidden: OURS.map(str::to_owned).to_vec(),
            account: None,
            directory: self.checkout.root().to_owned(),
            port: Some(port),
            admin_port: Some(admin_port),
        };
        launch.set("ASSETTRACK_GRPC_ADDRESS", format!("127.0.0.1:{port}"));
        launch.set("ASSETTRACK_ADMIN_ADDRESS", format!("127.0.0.1:{admin_port}"));
        launch.set("ASSETTRACK_LOG_FORMAT", "json");
        Ok((port, launch))
    }
}

impl Launch {
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }
}
