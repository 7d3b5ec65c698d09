//! Runtimes that no distribution packages: one with events, and some that
//! behave badly. `agent/tests/containers` has a real one.

use super::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use super::*;

use std::path::PathBuf;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, UnixListenerStream};
use tonic::Request;

/// How the runtime behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Well; it has no pods, but events.
    Good,
    /// It does not know this version.
    Old,
    /// It tells its version and nothing more.
    Silent,
    /// It cannot list.
    Broken,
}

pub(crate) struct Runtime {
    manner: Manner,
    events: broadcast::Sender<()>,
}

impl Runtime {
    /// Serves below `root` where containerd does; what is sent becomes an event.
    pub(crate) fn serve(root: &Path, manner: Manner) -> broadcast::Sender<()> {
        let socket: PathBuf = root.join("run/containerd/containerd.sock");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let events = broadcast::Sender::new(16);
        let runtime = Self { manner, events: events.clone() };
        let server = tonic::transport::Server::builder().add_service(RuntimeServiceServer::new(runtime));
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        events
    }

    async fn behave(&self) -> Result<(), Status> {
        match self.manner {
            Manner::Good | Manner::Old => Ok(()),
            Manner::Silent => std::future::pending().await,
            Manner::Broken => Err(Status::internal("its\u{7} disk fails")),
        }
    }
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Result<Response<v1::VersionResponse>, Status> {
        if self.manner == Manner::Old {
            return Err(Status::unimplemented("unknown service runtime.v1.RuntimeService"));
        }
        Ok(Response::new(v1::VersionResponse::default()))
    }

    async fn list_pod_sandbox(
        &self,
        _: Request<v1::ListPodSandboxRequest>,
    ) -> Result<Response<v1::ListPodSandboxResponse>, Status> {
        self.behave().await.map(|()| Response::new(v1::ListPodSandboxResponse::default()))
    }

    async fn pod_sandbox_status(
        &self,
        _: Request<v1::PodSandboxStatusRequest>,
    ) -> Result<Response<v1::PodSandboxStatusResponse>, Status> {
        Err(Status::not_found("gone"))
    }

    async fn list_containers(
        &self,
        _: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        self.behave().await.map(|()| Response::new(v1::ListContainersResponse::default()))
    }

    async fn container_status(
        &self,
        _: Request<v1::ContainerStatusRequest>,
    ) -> Result<Response<v1::ContainerStatusResponse>, Status> {
        Err(Status::not_found("gone"))
    }

    type GetContainerEventsStream = BoxStream<'static, Result<v1::ContainerEventResponse, Status>>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        let events = BroadcastStream::new(self.events.subscribe());
        Ok(Response::new(events.map(|_| Ok(v1::ContainerEventResponse::default())).boxed()))
    }
}

/// Asks for the sandboxes as a probe does, from a blocking thread.
async fn sandboxes(root: &Path) -> Result<Answer<usize>, ProbeError> {
    let host = HostRoot::new(root).unwrap();
    let ask = move || {
        ask(&host, &ProbeArgs::default(), async |client| {
            let sandboxes = client.sandboxes().await?;
            assert_eq!(client.sandbox("gone").await?, None);
            Ok(sandboxes.len())
        })
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_is_asked_and_its_failures_are_told() {
    for (manner, expected) in [
        (Manner::Good, Ok(Answer::Told(0))),
        (
            Manner::Old,
            Ok(Answer::Absent(Some(
                "run/containerd/containerd.sock does not speak version v1 of the CRI".into(),
            ))),
        ),
        (Manner::Silent, Err("ListPodSandbox was not answered within 5 s")),
        (Manner::Broken, Err("ListPodSandbox: Internal: its disk fails")),
    ] {
        let root = tempfile::tempdir().unwrap();
        let _events = Runtime::serve(root.path(), manner);
        match (sandboxes(root.path()).await, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(expected)) => {
                let expected = format!("container runtime at run/containerd/containerd.sock: {expected}");
                assert_eq!(error.to_string(), expected);
            }
            (found, _) => panic!("{found:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_looked_for_below_the_host_root_alone() {
    let outer = tempfile::tempdir().unwrap();
    let _events = Runtime::serve(outer.path(), Manner::Good);
    let root = outer.path().join("host");
    std::fs::create_dir_all(root.join("run/containerd")).unwrap();
    assert_eq!(sandboxes(&root).await.unwrap(), Answer::Absent(None));
    for target in [
        "../../../run/containerd/containerd.sock".into(),
        outer.path().join("run/containerd/containerd.sock"),
    ] {
        let link = root.join("run/containerd/containerd.sock");
        std::os::unix::fs::symlink(target, &link).unwrap();
        assert!(!matches!(sandboxes(&root).await, Ok(Answer::Told(_))));
        std::fs::remove_file(link).unwrap();
    }
}
