//! `cargo xtask up --watch`: what changed is rebuilt, and what was rebuilt is
//! started anew. The web UI is served by Vite, which reloads by itself.

use std::{path::Path, time::Duration};

use crate::{
    build,
    checkout::Checkout,
    error::{Context, Error, Shortage},
    fingerprint::{self, Snapshot},
    instance::{Instance, Launch},
    interrupt::Interrupt,
    need::Node,
    ports,
    progress::Progress,
    servers::{Durability, Given},
    services, system, webui,
};

/// Name of Vite's process and port.
const VITE: &str = "vite";
/// How long Vite may take to listen.
const VITE_DEADLINE: Duration = Duration::from_secs(30);

/// The sources as they were at the last look.
pub struct Watch {
    sources: Snapshot,
}

impl Watch {
    /// Starts Vite and begins to watch.
    pub fn start(checkout: &Checkout, instance: &mut Instance, public_port: u16) -> Result<Self, Error> {
        let interrupt = Interrupt::default();
        let Some(node) = Node::find(checkout) else {
            let remedy = "cargo xtask up --watch".to_owned();
            return Err(Error::Missing(vec![Shortage { what: "Node.js".to_owned(), remedy }]));
        };
        webui::install_packages(&node, checkout, &interrupt)?;
        let port = instance.port(VITE)?;
        if !instance.is_running(VITE) {
            let mut vite = instance.start(Launch {
                name: VITE.to_owned(),
                program: node.program(),
                arguments: ["node_modules/vite/bin/vite.js", "--host", "127.0.0.1", "--strictPort", "--port"]
                    .into_iter()
                    .map(Into::into)
                    .chain([port.to_string().into()])
                    .collect(),
                environment: vec![(
                    "ASSETTRACK_GATEWAY_URL".to_owned(),
                    format!("http://127.0.0.1:{public_port}").into(),
                )],
                hidden: Vec::new(),
                account: None,
                directory: checkout.webui(),
                port: Some(port),
                admin_port: None,
            })?;
            vite.await_ready(VITE_DEADLINE, &interrupt, || {
                if ports::listens(port) { Ok(()) } else { Err("it does not listen".to_owned()) }
            })?;
        }
        println!("Watching the sources. The web UI with hot reload is at http://127.0.0.1:{port}");
        Ok(Self { sources: snapshot(checkout)? })
    }

    /// Rebuilds and restarts where sources have changed since the last look. What
    /// does not build leaves the running system as it is.
    pub fn look(
        &mut self,
        checkout: &Checkout,
        instance: &mut Instance,
        public_port: u16,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        let now = snapshot(checkout)?;
        let changed: Vec<String> = fingerprint::changes(&self.sources, &now)
            .iter()
            .map(|path| path.strip_prefix(checkout.root()).unwrap_or(path).display().to_string())
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        // First: what fails to build is not built again until it changes again.
        self.sources = now;
        let progress = Progress::start();
        println!("changed: {}", changed.join(", "));
        if changed.iter().any(|path| is_proto(Path::new(path)))
            && let Some(node) = Node::find(checkout)
        {
            let log = checkout.local()?.join("log/build/stubs.log");
            progress.part("stubs generated", || {
                crate::command::run_quietly(node.npm(checkout).args(["run", "generate"]), &log, interrupt)
            })?;
        }
        progress.part("services built", || build::services(checkout, interrupt))?;
        let _lock = instance.lock()?;
        // The servers run: this only tells their URLs.
        let urls = Given::from_environment().start(instance, Durability::Kept, interrupt, &progress)?;
        let plan = services::plan(checkout, instance, &urls, public_port)?;
        system::start_services(instance, plan, interrupt, &progress)
    }
}

/// What services are built from.
fn snapshot(checkout: &Checkout) -> Result<Snapshot, Error> {
    let root = checkout.root();
    let webui = checkout.webui();
    let is_source = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        !path.starts_with(&webui)
            && !path.starts_with(root.join("xtask"))
            && (matches!(kind, "rs" | "proto" | "sql") || name == "Cargo.toml")
    };
    fingerprint::snapshot(root, is_source).on("read", root)
}

fn is_proto(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "proto")
}
