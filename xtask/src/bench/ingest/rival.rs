//! The consumer that ours is compared with: `bench/rivals/node-consumer`.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    checkout::Checkout,
    command,
    error::{Context, Error, Shortage},
    http,
    instance::Launch,
    interrupt::Interrupt,
    need::Node,
    session::Session,
};

use super::database::Database;

/// Name of its process.
pub const NAME: &str = "node-consumer";
const FILES: [&str; 2] = ["package.json", "consumer.js"];
/// Queues that a collector declares if nobody says otherwise.
const QUEUES: u8 = 4;
const START_DEADLINE: Duration = Duration::from_secs(60);

/// The installed consumer.
pub struct Rival {
    node: Node,
    directory: PathBuf,
    protos: PathBuf,
    /// Its packages and their versions.
    pub versions: Vec<(String, String)>,
}

impl Rival {
    /// Installs it into `.local/rivals`.
    pub fn install(checkout: &Checkout, interrupt: &Interrupt) -> Result<Self, Error> {
        let Some(node) = Node::find(checkout) else {
            let remedy = "put Node.js into PATH".to_owned();
            return Err(Error::Missing(vec![Shortage { what: "Node.js".to_owned(), remedy }]));
        };
        let source = checkout.root().join("bench/rivals").join(NAME);
        let directory = checkout.local()?.join("rivals").join(NAME);
        fs::create_dir_all(&directory).on("make", &directory)?;
        for file in FILES {
            fs::copy(source.join(file), directory.join(file)).on("copy", &source.join(file))?;
        }
        let package = directory.join("package.json");
        let text = fs::read_to_string(&package).on("read", &package)?;
        let stamp = directory.join("node_modules/.assettrack-package");
        if !fs::read_to_string(&stamp).is_ok_and(|installed| installed == text) {
            let log = checkout.local()?.join("log/build/rival.log");
            let mut npm: Command = node.npm(checkout);
            npm.current_dir(&directory).args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
            command::run_quietly(&mut npm, &log, interrupt)?;
            fs::write(&stamp, &text).on("write", &stamp)?;
        }
        let package: Value = serde_json::from_str(&text).unwrap_or_default();
        let dependencies = package["dependencies"].as_object().into_iter().flatten();
        let mut versions: Vec<(String, String)> = dependencies
            .map(|(name, version)| (name.clone(), version.as_str().unwrap_or_default().to_owned()))
            .collect();
        let version = command::output(Command::new(node.program()).arg("--version"))?;
        versions.push(("node".to_owned(), version.trim().to_owned()));
        Ok(Self { node, directory, protos: checkout.root().join("proto"), versions })
    }

    /// Starts it on full queues, and does not wait until it consumes.
    pub fn start(
        &self,
        session: &mut Session,
        namespace: &str,
        database: &Database,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        let port = session.instance.port(&format!("{NAME}-admin"))?;
        let mut launch = Launch {
            name: NAME.to_owned(),
            program: self.node.program(),
            arguments: vec!["consumer.js".into()],
            environment: Vec::new(),
            hidden: Vec::new(),
            account: None,
            directory: self.directory.clone(),
            port: None,
            admin_port: Some(port),
        };
        launch.set("AMQP_URL", &session.urls.amqp);
        launch.set("DATABASE_URL", database.url());
        let queues = (0..QUEUES).map(|queue| format!("{namespace}.events.{queue}"));
        launch.set("QUEUES", queues.collect::<Vec<_>>().join(","));
        launch.set("PROTO_DIR", &self.protos);
        launch.set("PORT", port.to_string());
        let mut started = session.instance.start(launch)?;
        started.await_ready(START_DEADLINE, interrupt, || {
            http::body(port, "/metrics").map(drop).ok_or_else(|| "/metrics does not answer".to_owned())
        })
    }
}
