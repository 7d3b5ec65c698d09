//! A client of the Container Runtime Interface, version v1. One connection a
//! look; every step has a deadline, so that a runtime that hangs costs seconds.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use crate::config::ProbeArgs;
use crate::host::{HostRoot, is_absent};
use crate::probe::ProbeError;
use crate::text::{scrub, truncate};

/// Messages and clients as they are generated.
#[allow(missing_docs, clippy::all)]
pub(crate) mod v1 {
    tonic::include_proto!("runtime.v1");
}

use v1::image_service_client::ImageServiceClient;
use v1::runtime_service_client::RuntimeServiceClient;

/// Where runtimes have their sockets, the usual one first.
const SOCKETS: [&str; 8] = [
    "run/containerd/containerd.sock",
    "run/crio/crio.sock",
    "run/k3s/containerd/containerd.sock",
    "run/cri-dockerd.sock",
    "var/run/containerd/containerd.sock",
    "var/run/crio/crio.sock",
    "var/run/k3s/containerd/containerd.sock",
    "var/run/cri-dockerd.sock",
];

const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// For all calls of one look; below the time that a probe may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(15);
/// Questions that the runtime is asked side by side: it has a hundred answers to
/// give, each of which takes it little.
pub(crate) const SIDE_BY_SIDE: usize = 8;
/// As much as the kubelet accepts (kubelet, pkg/kubelet/cri/remote); the lists
/// of a full node take some hundred KiB.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// What came of a question to the runtime.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    /// It answered.
    Told(T),
    /// No runtime with this interface is here; the reason where a socket is.
    Absent(Option<String>),
    /// There is one that the agent may not ask.
    Refused(String),
}

/// A connection to the runtime. A clone asks over the same one, beside it.
#[derive(Clone)]
pub(crate) struct Client {
    path: String,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// Why there is no connection.
enum NoClient {
    Absent(Option<String>),
    Refused(String),
    Failed(ProbeError),
}

/// The runtime's socket, below the host root; also one that cannot be told of.
pub(crate) fn socket(host: &HostRoot, settings: &ProbeArgs) -> Option<String> {
    if let Some(path) = &settings.cri_socket {
        // Written as a URL by those who are used to the kubelet's setting.
        let path = path.to_string_lossy();
        return Some(path.strip_prefix("unix://").unwrap_or(&path).to_owned());
    }
    let mut hidden = None;
    for path in SOCKETS {
        match host.handle(path) {
            Err(error) if is_absent(&error) => {}
            // Another that may be seen goes before.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                hidden.get_or_insert(path);
            }
            // It is there, or it cannot be told: then whoever connects to it
            // gets the error.
            _ => return Some(path.to_owned()),
        }
    }
    hidden.map(str::to_owned)
}

/// Asks the runtime and waits for its answer, in a small runtime of its own, as
/// probes run on blocking threads.
///
/// # Errors
/// The runtime is there, but does not answer as it should, or in time.
pub(crate) fn ask<T>(
    host: &HostRoot,
    settings: &ProbeArgs,
    question: impl AsyncFnOnce(&mut Client) -> Result<T, ProbeError>,
) -> Result<Answer<T>, ProbeError> {
    let Some(path) = socket(host, settings) else { return Ok(Answer::Absent(None)) };
    let own = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let own = own.map_err(|error| failed(&path, error.to_string()))?;
    own.block_on(async {
        let look = async {
            match Client::connect(host, &path).await {
                Ok(mut client) => question(&mut client).await.map(Answer::Told),
                Err(NoClient::Absent(why)) => Ok(Answer::Absent(why)),
                Err(NoClient::Refused(why)) => Ok(Answer::Refused(why)),
                Err(NoClient::Failed(error)) => Err(error),
            }
        };
        let all = format!("has not told all within {} s", LOOK_DEADLINE.as_secs());
        timeout(LOOK_DEADLINE, look).await.unwrap_or_else(|_| Err(failed(&path, all)))
    })
}

fn failed(path: &str, mut problem: String) -> ProbeError {
    // Foreign text, which a log shows.
    scrub(&mut problem);
    truncate(&mut problem, 300);
    ProbeError::Runtime { path: path.to_owned(), problem }
}

impl Client {
    async fn connect(host: &HostRoot, path: &str) -> Result<Self, NoClient> {
        let socket: OwnedFd = match host.handle(Path::new(path)) {
            Ok(socket) => socket,
            Err(error) if is_absent(&error) => return Err(NoClient::Absent(None)),
            Err(error) => return Err(no_client(path, &error)),
        };
        // By its descriptor: so the connection stays below the host root, and a
        // long path does not matter (unix(7): 108 bytes).
        let address = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let stream = match timeout(CONNECT_DEADLINE, UnixStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(no_client(path, &error)),
            Err(_) => {
                return Err(NoClient::Failed(failed(path, "cannot be connected to in time".to_owned())));
            }
        };
        // One connection and never another: a look sees one runtime.
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().ok_or(io::Error::from(io::ErrorKind::NotConnected));
            std::future::ready(stream)
        });
        let endpoint = Endpoint::from_static("http://localhost").user_agent("assettrack-agent");
        let endpoint = endpoint.map_err(|error| NoClient::Failed(failed(path, error.to_string())))?;
        let connected = timeout(CONNECT_DEADLINE, endpoint.connect_with_connector(connector)).await;
        let channel = match connected {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(NoClient::Failed(failed(path, error.to_string()))),
            Err(_) => {
                return Err(NoClient::Failed(failed(path, "cannot be connected to in time".to_owned())));
            }
        };
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let images = ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut client = Self { path: path.to_owned(), runtime, images };
        let version = v1::VersionRequest { version: "v1".to_owned() };
        match client.runtime_call("Version", async |runtime| runtime.version(version).await).await {
            Ok(_) => Ok(client),
            // containerd without its CRI plugin, as Docker's packages set it
            // up, or older than 1.6.
            Err(Refusal { code: Some(Code::Unimplemented), .. }) => {
                Err(NoClient::Absent(Some(format!("{path} does not speak version v1 of the CRI"))))
            }
            Err(refusal) => Err(NoClient::Failed(refusal.error)),
        }
    }

    /// One call of the runtime's own service, within its deadline.
    async fn runtime_call<T>(
        &mut self,
        name: &str,
        call: impl AsyncFnOnce(&mut RuntimeServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Refusal> {
        within(&self.path, name, call(&mut self.runtime)).await
    }

    /// Sandboxes, whatever their state.
    pub(crate) async fn sandboxes(&mut self) -> Result<Vec<v1::PodSandbox>, ProbeError> {
        let call = async |runtime: &mut RuntimeServiceClient<Channel>| {
            runtime.list_pod_sandbox(v1::ListPodSandboxRequest {}).await
        };
        Ok(self.runtime_call("ListPodSandbox", call).await?.items)
    }

    /// A sandbox more closely; `None` when it is gone.
    pub(crate) async fn sandbox(&mut self, id: &str) -> Result<Option<v1::PodSandboxStatus>, ProbeError> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned() };
        let call =
            async |runtime: &mut RuntimeServiceClient<Channel>| runtime.pod_sandbox_status(request).await;
        unless_gone(self.runtime_call("PodSandboxStatus", call).await)
            .map(|answer| answer.and_then(|answer| answer.status))
    }

    /// Containers, whatever their state.
    pub(crate) async fn containers(&mut self) -> Result<Vec<v1::Container>, ProbeError> {
        let call = async |runtime: &mut RuntimeServiceClient<Channel>| {
            runtime.list_containers(v1::ListContainersRequest {}).await
        };
        Ok(self.runtime_call("ListContainers", call).await?.containers)
    }

    /// A container more closely; `None` when it is gone.
    pub(crate) async fn container(&mut self, id: &str) -> Result<Option<v1::ContainerStatus>, ProbeError> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned() };
        let call =
            async |runtime: &mut RuntimeServiceClient<Channel>| runtime.container_status(request).await;
        unless_gone(self.runtime_call("ContainerStatus", call).await)
            .map(|answer| answer.and_then(|answer| answer.status))
    }

    /// Images on the node.
    pub(crate) async fn images(&mut self) -> Result<Vec<v1::Image>, ProbeError> {
        let call = self.images.list_images(v1::ListImagesRequest {});
        Ok(within(&self.path, "ListImages", call).await?.images)
    }

    /// Follows what happens to containers; `None` where the runtime has no such call.
    async fn events(&mut self) -> Result<Option<Streaming<v1::ContainerEventResponse>>, ProbeError> {
        let call = async |runtime: &mut RuntimeServiceClient<Channel>| {
            runtime.get_container_events(v1::GetEventsRequest {}).await
        };
        match self.runtime_call("GetContainerEvents", call).await {
            Ok(events) => Ok(Some(events)),
            Err(Refusal { code: Some(Code::Unimplemented), .. }) => Ok(None),
            Err(refusal) => Err(refusal.error),
        }
    }
}

/// Follows the runtime's events until it ends them; `None` where none can be
/// followed. Unlike in a look, the connection stays.
pub(crate) async fn events(
    host: &HostRoot,
    settings: &ProbeArgs,
) -> Result<Option<Streaming<v1::ContainerEventResponse>>, ProbeError> {
    let Some(path) = socket(host, settings) else { return Ok(None) };
    match Client::connect(host, &path).await {
        Ok(mut client) => client.events().await,
        Err(NoClient::Absent(_) | NoClient::Refused(_)) => Ok(None),
        Err(NoClient::Failed(error)) => Err(error),
    }
}

fn no_client(path: &str, error: &io::Error) -> NoClient {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return NoClient::Refused(format!("{path}: permission denied, needs root"));
    }
    NoClient::Failed(failed(path, error.to_string()))
}

/// A call that failed, and the runtime's code if it was the runtime that refused.
struct Refusal {
    code: Option<Code>,
    error: ProbeError,
}

impl From<Refusal> for ProbeError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

async fn within<T>(
    path: &str,
    name: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Refusal> {
    match timeout(CALL_DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            let problem = format!("{name}: {:?}: {}", status.code(), status.message());
            Err(Refusal { code: Some(status.code()), error: failed(path, problem) })
        }
        Err(_) => {
            let problem = format!("{name} was not answered within {} s", CALL_DEADLINE.as_secs());
            Err(Refusal { code: None, error: failed(path, problem) })
        }
    }
}

/// What ended between the list and the closer look is not there.
fn unless_gone<T>(answer: Result<T, Refusal>) -> Result<Option<T>, ProbeError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Refusal { code: Some(Code::NotFound), .. }) => Ok(None),
        Err(refusal) => Err(refusal.error),
    }
}

#[cfg(test)]
pub(crate) mod tests;
