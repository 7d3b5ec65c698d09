//! What a kubelet asks of a runtime to run a pod, as far as these tests need
//! it. The agent's own client has none of this: it changes nothing.

use std::collections::HashMap;
use std::path::Path;

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Message)]
pub struct PodMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct NamespaceOption {
    /// 2 is the node's.
    #[prost(int32, tag = "1")]
    pub network: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct SandboxSecurity {
    #[prost(message, optional, tag = "1")]
    pub namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxSandbox {
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<SandboxSecurity>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodMetadata>,
    #[prost(map = "string, string", tag = "6")]
    pub labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "7")]
    pub annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxSandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct RunSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct IdAndTimeout {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int64, tag = "2")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImageSpec {
    #[prost(string, tag = "1")]
    pub image: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Capability {
    #[prost(string, repeated, tag = "1")]
    pub add_capabilities: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerSecurity {
    #[prost(message, optional, tag = "1")]
    pub capabilities: Option<Capability>,
    #[prost(message, optional, tag = "3")]
    pub namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainer {
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<ContainerSecurity>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    pub image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "4")]
    pub args: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub envs: Vec<KeyValue>,
    #[prost(map = "string, string", tag = "10")]
    pub annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainer>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

/// A kubelet's side of the runtime.
pub struct Kubelet(Grpc<Channel>);

impl Kubelet {
    /// Connects; `None` while nobody answers.
    pub async fn connect(socket: &Path) -> Option<Self> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let mut kubelet = Self(Grpc::new(endpoint.connect().await.ok()?));
        kubelet.call::<_, Empty>("Version", Empty {}).await.ok()?;
        Some(kubelet)
    }

    async fn call<Q, A>(&mut self, name: &str, request: Q) -> Result<A, tonic::Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{name}")).unwrap();
        let codec = ProstCodec::<Q, A>::default();
        Ok(self.0.unary(tonic::Request::new(request), path, codec).await?.into_inner())
    }

    /// Starts a sandbox; its ID.
    pub async fn run_sandbox(&mut self, config: &SandboxConfig) -> String {
        let request = RunSandbox { config: Some(config.clone()) };
        self.call::<_, Id>("RunPodSandbox", request).await.unwrap().id
    }

    /// Starts a container; its ID.
    pub async fn run_container(
        &mut self,
        sandbox: &str,
        sandbox_config: &SandboxConfig,
        config: ContainerConfig,
    ) -> String {
        let request = CreateContainer {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let id = self.call::<_, Id>("CreateContainer", request).await.unwrap().id;
        self.call::<_, Empty>("StartContainer", Id { id: id.clone() }).await.unwrap();
        id
    }

    pub async fn stop_container(&mut self, id: &str) {
        let request = IdAndTimeout { id: id.to_owned(), timeout: 0 };
        self.call::<_, Empty>("StopContainer", request).await.unwrap();
    }

    pub async fn remove_sandbox(&mut self, id: &str) {
        let request = || Id { id: id.to_owned() };
        self.call::<_, Empty>("StopPodSandbox", request()).await.unwrap();
        self.call::<_, Empty>("RemovePodSandbox", request()).await.unwrap();
    }
}
