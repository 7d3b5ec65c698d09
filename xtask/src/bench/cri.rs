//! The few calls of the Container Runtime Interface that make pods
//! (`runtime.v1`, the API of the kubelet to its runtime), by curl: a gRPC client
//! in this program would cost more than what it is for.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::error::{Context, Error};

/// A runtime behind a Unix socket.
#[derive(Debug)]
pub struct Runtime {
    pub socket: PathBuf,
    /// Where the headers of an answer are put.
    pub scratch: PathBuf,
}

impl Runtime {
    /// Starts a pod in the node's network, which needs no network plugin; answers
    /// its ID.
    pub fn run_pod(&self, pod: &Pod) -> Result<String, Error> {
        first_text(&self.call("RunPodSandbox", &field(1, &pod.encoded()))?)
    }

    /// Starts a container in a pod.
    pub fn run_container(&self, pod_id: &str, pod: &Pod, name: &str, image: &str) -> Result<(), Error> {
        // ContainerConfig: metadata = 1 (name = 1), image = 2 (image = 1).
        let config = [field(1, &field(1, name.as_bytes())), field(2, &field(1, image.as_bytes()))].concat();
        let request = [field(1, pod_id.as_bytes()), field(2, &config), field(3, &pod.encoded())].concat();
        let id = first_text(&self.call("CreateContainer", &request)?)?;
        self.call("StartContainer", &field(1, id.as_bytes())).map(drop)
    }

    /// Stops and removes all pods with all that is in them.
    pub fn remove_pods(&self) -> Result<(), Error> {
        let list = self.call("ListPodSandbox", &[])?;
        for pod in messages(&list) {
            let request = field(1, first_text(pod)?.as_bytes());
            self.call("StopPodSandbox", &request)?;
            self.call("RemovePodSandbox", &request)?;
        }
        Ok(())
    }

    /// How many containers run.
    pub fn running(&self) -> Result<usize, Error> {
        // ListContainersRequest: filter = 1; ContainerFilter: state = 2;
        // ContainerStateValue: state = 1, CONTAINER_RUNNING = 1.
        let running = field(1, &field(2, &[1 << 3, 1]));
        Ok(messages(&self.call("ListContainers", &running)?).len())
    }

    fn call(&self, method: &str, message: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |reason: String| Error::Io {
            action: format!("call {method} of the container runtime"),
            source: std::io::Error::other(reason),
        };
        let mut child = Command::new("curl")
            .args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "60"])
            .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
            .args(["--data-binary", "@-", "--unix-socket"])
            .arg(&self.socket)
            .arg("--dump-header")
            .arg(&self.scratch)
            .arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .trying(|| "run curl".to_owned())?;
        if let Some(mut input) = child.stdin.take() {
            let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
            // Not compressed (0), its length, itself.
            let frame = [&[0], &length[..], message].concat();
            input.write_all(&frame).trying(|| "write to curl".to_owned())?;
        }
        let output = child.wait_with_output().trying(|| "wait for curl".to_owned())?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let headers = fs::read_to_string(&self.scratch).on("read", &self.scratch)?;
        match header(&headers, "grpc-status") {
            Some("0") => Ok(output.stdout.get(5..).unwrap_or_default().to_vec()),
            _ => Err(failed(header(&headers, "grpc-message").unwrap_or("no answer of gRPC").to_owned())),
        }
    }
}

/// Whether a runtime answers.
pub fn answers(socket: &Path, scratch: &Path) -> Result<(), String> {
    let runtime = Runtime { socket: socket.to_owned(), scratch: scratch.to_owned() };
    runtime.call("Version", &[]).map(drop).map_err(|error| error.to_string())
}

/// A pod to run.
#[derive(Debug)]
pub struct Pod {
    pub name: String,
}

impl Pod {
    /// PodSandboxConfig.
    fn encoded(&self) -> Vec<u8> {
        // metadata = 1: name = 1, uid = 2, namespace = 3.
        let name = self.name.as_bytes();
        let metadata = [field(1, name), field(2, name), field(3, b"bench")].concat();
        // linux = 8, security_context = 2, namespace_options = 1: network = 1,
        // NODE = 2; pid = 2, CONTAINER = 1.
        let options = [1 << 3, 2, 2 << 3, 1];
        let linux = field(2, &field(1, &options));
        [field(1, &metadata), field(8, &linux)].concat()
    }
}

/// A field of text, bytes or a message (Protocol Buffers' encoding, wire type 2).
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(bytes);
    field
}

/// The messages of a list that has nothing but field 1.
fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((message, rest)) = take_first_field(bytes) {
        messages.push(message);
        bytes = rest;
    }
    messages
}

/// Field 1 of a message, which comes first: an ID.
fn first_text(message: &[u8]) -> Result<String, Error> {
    let text = take_first_field(message).and_then(|(text, _)| String::from_utf8(text.to_vec()).ok());
    text.ok_or_else(|| Error::Io {
        action: "read an ID that the container runtime gives".to_owned(),
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

fn take_first_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&tag, mut rest) = bytes.split_first()?;
    if tag != 1 << 3 | 2 {
        return None;
    }
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21] {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return rest.split_at_checked(length);
        }
    }
    None
}

fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    headers
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::{Pod, field, first_text, header, messages};

    #[test]
    fn messages_are_encoded_as_protocol_buffers_say() {
        assert_eq!(field(2, b"testing"), b"\x12\x07testing");
        let long = vec![b'x'; 300];
        assert_eq!(field(1, &long)[..3], [0x0a, 0xac, 0x02]);
        let pod = Pod { name: "p".to_owned() }.encoded();
        assert_eq!(pod, b"\x0a\x0d\x0a\x01p\x12\x01p\x1a\x05bench\x42\x08\x12\x06\x0a\x04\x08\x02\x10\x01");
    }

    #[test]
    fn lists_are_decoded_and_garbage_ends_them() {
        let long = "y".repeat(200);
        let list = [field(1, &field(1, b"one")), field(1, &field(1, long.as_bytes()))].concat();
        let ids: Vec<String> = messages(&list).into_iter().map(|pod| first_text(pod).unwrap()).collect();
        assert_eq!(ids, ["one", &long]);
        for garbage in [&b""[..], b"\x12\x01a", b"\x0a\x7fa", b"\x0a\xff\xff\xff\xff\xff\x01"] {
            assert!(messages(garbage).is_empty() && first_text(garbage).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn trailers_are_headers_too() {
        let headers = "HTTP/2 200 \r\ncontent-type: application/grpc\r\n\r\ngrpc-status: 2\r\ngrpc-message: no: such\r\n";
        assert_eq!(header(headers, "grpc-status"), Some("2"));
        assert_eq!(header(headers, "grpc-message"), Some("no: such"));
        assert_eq!(header(headers, "grpc"), None);
    }
}
