//! A real agent on a machine of files, by way of the agents' line.

use std::{collections::BTreeMap, fs, net::SocketAddr, time::Duration};

use contracts::v1::{AgentStatus, GetAgentStatusRequest, agent_service_client::AgentServiceClient};
use testkit::{Service, free_address, wait_until};

use crate::{
    bed::{Bed, PATIENCE},
    row::Run,
};

/// The agent and its machine: packages that come and go.
pub struct Agent {
    pub service: Service,
    root: tempfile::TempDir,
    _store: tempfile::TempDir,
    grpc: SocketAddr,
    packages: BTreeMap<String, u32>,
}

impl Agent {
    /// Starts it, and waits until it has told what it found.
    pub async fn start(bed: &Bed) -> Self {
        let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, text) in [
            ("etc/machine-id", "abcdef0123456789abcdef0123456789\n"),
            ("etc/os-release", "ID=debian\n"),
            ("var/lib/dpkg/status", ""),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let (grpc, admin) = (free_address().await, free_address().await);
        let service = Service::new("assettrack-agent")
            .env("ASSETTRACK_AMQP_URL", &bed.agent_amqp_url())
            .env("ASSETTRACK_QUEUE_NAMESPACE", &bed.namespace)
            .env("ASSETTRACK_HOST_ROOT", &root.path().display())
            .env("ASSETTRACK_STORE_DIR", &store.path().display())
            .env("ASSETTRACK_NODE_NAME", "real-node")
            .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
            .env("ASSETTRACK_ADMIN_ADDRESS", &admin);
        let packages = (0..40).map(|n| (format!("package-{n:04}"), 0)).collect();
        let mut agent = Self { service, root, _store: store, grpc, packages };
        agent.save();
        agent.service.start();
        agent.service.ready(admin, PATIENCE).await;
        agent.drained().await;
        agent
    }

    /// Installs a package.
    pub fn install(&mut self, name: &str) {
        self.packages.insert(name.to_owned(), 1);
        self.save();
    }

    /// Installs many packages at once, and waits until it has numbered the first
    /// batches of them: some are on their way now.
    pub async fn burst(&mut self, version: u32) {
        let before = self.status().await.unwrap().last_sequence;
        self.packages.extend((0..400).map(|n| (format!("burst-{n:04}"), version)));
        self.save();
        wait_until(PATIENCE, "batches of the agent", async || {
            self.status().await.is_some_and(|status| status.last_sequence > before)
        })
        .await;
    }

    fn save(&self) {
        let stanza = |(name, version): (&String, &u32)| {
            format!(
                "Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n\n"
            )
        };
        let status = self.root.path().join("var/lib/dpkg/status");
        fs::write(status.with_extension("new"), self.packages.iter().map(stanza).collect::<String>())
            .unwrap();
        fs::rename(status.with_extension("new"), status).unwrap();
    }

    /// What it says of itself.
    pub async fn status(&self) -> Option<AgentStatus> {
        let address = format!("http://{}", self.grpc);
        let asking = async {
            let mut client = AgentServiceClient::connect(address).await.ok()?;
            Some(client.get_agent_status(GetAgentStatusRequest {}).await.ok()?.into_inner())
        };
        tokio::time::timeout(Duration::from_secs(5), asking).await.ok()?
    }

    /// Waits until it says that it is cut off from the broker.
    pub async fn disconnected(&self, within: Duration) {
        wait_until(within, "the agent to notice that the broker is away", async || {
            self.status().await.is_some_and(|status| !status.connected)
        })
        .await;
    }

    /// Waits until its outbox is empty.
    pub async fn drained(&self) {
        wait_until(PATIENCE, "an empty outbox of the agent", async || {
            self.status().await.is_some_and(|status| {
                status.connected && status.outbox_batches == 0 && status.last_sequence > 0
            })
        })
        .await;
    }

    /// Whether all that it ever numbered is in the log, once, and the node's
    /// packages are known as they are.
    pub async fn check(&self, run: &mut Run, bed: &Bed) {
        self.drained().await;
        let last = self.status().await.unwrap().last_sequence;
        let client = bed.sql().await;
        let received = "SELECT received::text FROM node_stream JOIN node ON node.uid = node_uid \
                        WHERE display_name = 'real-node'";
        let whole = vec![format!("{{[1,{})}}", last + 1)];
        wait_until(PATIENCE, "every batch of the agent", async || {
            let rows = client.query(received, &[]).await.unwrap();
            rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>() == whole
        })
        .await;
        let rows = client
            .query(
                "SELECT asset.display_name, attributes #>> '{details,package,version}' FROM asset JOIN node \
                 ON node.uid = node_uid WHERE state = 1 AND natural_key LIKE 'dpkg/%' \
                 AND node.display_name = 'real-node'",
                &[],
            )
            .await
            .unwrap();
        let stored: BTreeMap<String, u32> =
            rows.iter().map(|row| (row.get(0), row.get::<_, String>(1).parse().unwrap())).collect();
        run.holds(stored == self.packages, || {
            format!("{} packages of the agent are known, {} are there", stored.len(), self.packages.len())
        });
    }
}
