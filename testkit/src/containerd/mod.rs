//! A containerd of the test's own, with images that the test makes. Needs root,
//! and the Debian packages `containerd` and `runc`.

#![allow(clippy::unwrap_used, missing_docs)]

pub mod kubelet;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};

use self::kubelet::Kubelet;

/// Listens and sleeps for ever; before, adds a package to its own database, as
/// someone might who installs one in a running container.
const PROGRAM: &str = r#"
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    static const char text[] = "\nPackage: written-later\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n";
    int file = open("/var/lib/dpkg/status", O_WRONLY | O_APPEND);
    if (file >= 0) { if (write(file, text, sizeof text - 1) < 0) return 1; close(file); }
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1)) return 2;
    for (;;) pause();
}
"#;

/// Ends with all that it started and mounted.
pub struct Runtime {
    folder: tempfile::TempDir,
    containerd: Option<Child>,
}

/// Files of one layer, by path.
pub type Layer<'a> = &'a [(&'a str, &'a [u8])];

impl Runtime {
    /// Starts containerd; `None` after saying SKIPPED where it cannot run.
    pub async fn start(snapshotter: &str) -> Option<(Self, Kubelet)> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            println!("SKIPPED: containerd needs root");
            return None;
        }
        for program in ["containerd", "ctr", "runc", "cc", "tar"] {
            if !runs(Command::new(program).arg("--version")) {
                println!("SKIPPED: no {program} here");
                return None;
            }
        }
        let mut runtime =
            Self { folder: tempfile::Builder::new().prefix("ctr").tempdir().unwrap(), containerd: None };
        let path = |name: &str| runtime.folder.path().join(name).display().to_string();
        // One snapshotter, and a state, a socket and runc's own state apart
        // from those of the machine and of other tests.
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"localhost/pause:test\"\n\
             disable_apparmor = true\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = {snapshotter:?}\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
             runtime_type = \"io.containerd.runc.v2\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\nRoot = {:?}\n",
            path("root"),
            path("state"),
            runtime.socket().display().to_string(),
            path("runc"),
        );
        fs::write(path("config.toml"), config).unwrap();
        runtime.serve();
        let socket = runtime.socket();
        let kubelet = crate::wait_for(Duration::from_secs(20), "containerd to answer", async || {
            Kubelet::connect(&socket).await
        })
        .await;
        Some((runtime, kubelet))
    }

    fn serve(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = Command::new("containerd");
        command.arg("--config").arg(self.folder.path().join("config.toml"));
        self.containerd = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    /// Beside its state, as it usually is.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("state/containerd.sock")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn ctr(&self, args: &[&str]) -> Output {
        Command::new("ctr").arg("--address").arg(self.socket()).args(args).output().unwrap()
    }

    /// Makes an image from nothing but these layers, with the program in the
    /// first, and loads it as `localhost/<name>:test`.
    pub fn make_image(&self, name: &str, snapshotter: &str, layers: &[Layer<'_>]) {
        let folder = self.folder.path().join(format!("image-{name}"));
        fs::create_dir_all(&folder).unwrap();
        let (mut files, mut ids) = (Vec::new(), Vec::new());
        // By this name a sandbox is known where no runtime tells.
        let entrypoint = if name == "pause" { "pause" } else { "program" };
        for (number, layer) in layers.iter().enumerate() {
            let tree = folder.join(format!("tree{number}"));
            fs::create_dir_all(&tree).unwrap();
            for (path, bytes) in *layer {
                fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
                fs::write(tree.join(path), bytes).unwrap();
            }
            if number == 0 {
                fs::copy(self.program(), tree.join(entrypoint)).unwrap();
            }
            let archive = folder.join(format!("layer{number}.tar"));
            assert!(runs(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg(".")));
            let digest = Sha256::digest(fs::read(&archive).unwrap());
            ids.push(format!("sha256:{}", hexadecimal(&digest)));
            files.push(format!("layer{number}.tar"));
        }
        let config = serde_json::json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Entrypoint": [format!("/{entrypoint}")] },
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        // The form of `docker save` (moby, image/spec/v1.2.md).
        let manifest = serde_json::json!([
            { "Config": "config.json", "RepoTags": [format!("localhost/{name}:test")], "Layers": files }
        ]);
        fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
        let archive = folder.with_extension("tar");
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(&folder)
            .arg("-cf")
            .arg(&archive)
            .args(["manifest.json", "config.json"])
            .args(&files);
        assert!(runs(&mut tar));
        let archive = archive.display().to_string();
        let imported =
            self.ctr(&["-n", "k8s.io", "images", "import", "--snapshotter", snapshotter, &archive]);
        assert!(imported.status.success(), "{imported:?}");
    }

    fn program(&self) -> PathBuf {
        let program = self.folder.path().join("program");
        if !program.exists() {
            let source = self.folder.path().join("program.c");
            fs::write(&source, PROGRAM).unwrap();
            assert!(runs(Command::new("cc").arg("-static").arg("-o").arg(&program).arg(&source)));
        }
        program
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for namespace in ["k8s.io", "default"] {
            let tasks = self.ctr(&["-n", namespace, "tasks", "ls", "-q"]);
            for task in String::from_utf8_lossy(&tasks.stdout).lines() {
                self.ctr(&["-n", namespace, "tasks", "rm", "-f", task]);
            }
        }
        if let Some(mut containerd) = self.containerd.take() {
            let _ = containerd.kill();
            let _ = containerd.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(15)..].join("\n"));
        }
        // Roots of containers; the last mounted first.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.folder.path().display().to_string();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if point.starts_with(&own) {
                runs(Command::new("umount").args(["-l", point]));
            }
        }
    }
}

/// The folders of a pod's cgroup, which the kubelet makes and takes away.
pub struct PodCgroup(pub String);

impl Drop for PodCgroup {
    fn drop(&mut self) {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([root.to_owned()]) {
            let pod = hierarchy.join(&self.0);
            // Where there is none, there is nothing to take away.
            let _ = fs::remove_dir(&pod);
            let _ = pod.parent().map(fs::remove_dir);
        }
    }
}

fn runs(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
