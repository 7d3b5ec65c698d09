//! Real containers: a private containerd, and pods of an image that holds nothing
//! but a program that sleeps.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::unistd::Uid;

use crate::{
    apt,
    bench::cri::{self, Pod, Runtime},
    command,
    error::{Context, Error},
    instance::{Instance, Launch},
    interrupt::Interrupt,
};

/// Name of the process.
const NAME: &str = "containerd";
const IMAGE: &str = "localhost/assettrack-bench:1";
/// The namespace of containerd that its CRI works in.
const NAMESPACE: &str = "k8s.io";
const DEADLINE: Duration = Duration::from_secs(30);
/// Containers in one pod.
const PER_POD: usize = 2;

/// Why there are none, in words.
pub type Absence = String;

/// Running pods. They are removed when this value goes.
#[derive(Debug)]
pub struct Containers {
    runtime: Runtime,
    state: PathBuf,
    pub count: usize,
}

impl Containers {
    /// Starts `wanted` containers below `instance`; containerd belongs to it.
    pub fn start(
        wanted: usize,
        instance: &mut Instance,
        interrupt: &Interrupt,
    ) -> Result<Result<Self, Absence>, Error> {
        if !Uid::effective().is_root() {
            return Ok(Err("containerd needs root".to_owned()));
        }
        match Self::try_start(wanted, instance, interrupt) {
            Ok(containers) => Ok(Ok(containers)),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// The runtime's socket.
    pub fn socket(&self) -> &Path {
        &self.runtime.socket
    }

    fn try_start(wanted: usize, instance: &mut Instance, interrupt: &Interrupt) -> Result<Self, Error> {
        let root = instance.directory().join("containerd");
        fs::create_dir_all(&root).on("make", &root)?;
        // A socket's path has room for 107 bytes (unix(7)).
        let state = PathBuf::from(format!("/run/assettrack-bench-{:016x}", instance.seed()));
        let socket = state.join("containerd.sock");
        let configuration = root.join("config.toml");
        fs::write(&configuration, settings(&root, &state)).on("write", &configuration)?;
        let Some(program) = apt::find_in_path("containerd") else { return Err(Error::Missing(Vec::new())) };
        let mut started = instance.start(Launch {
            name: NAME.to_owned(),
            program,
            arguments: vec!["--config".into(), configuration.into()],
            environment: Vec::new(),
            hidden: Vec::new(),
            account: None,
            directory: root.clone(),
            port: None,
            admin_port: None,
        })?;
        let runtime = Runtime { socket: socket.clone(), scratch: root.join("headers") };
        started.await_ready(DEADLINE, interrupt, || cri::answers(&socket, &runtime.scratch))?;
        let mut containers = Self { runtime, state, count: 0 };
        // What a run left that was killed.
        containers.runtime.remove_pods()?;
        let image = image(&root, interrupt)?;
        let mut import = Command::new("ctr");
        import.arg("--address").arg(&socket).args(["--namespace", NAMESPACE, "images", "import"]).arg(image);
        command::output(&mut import)?;
        for number in 0..wanted.div_ceil(PER_POD) {
            interrupt.check()?;
            let pod = Pod { name: format!("pod-{number}") };
            let id = containers.runtime.run_pod(&pod)?;
            for place in 0..PER_POD.min(wanted - number * PER_POD) {
                containers.runtime.run_container(&id, &pod, &format!("container-{place}"), IMAGE)?;
            }
        }
        containers.count = containers.runtime.running()?;
        Ok(containers)
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if let Err(error) = self.runtime.remove_pods() {
            eprintln!("cannot remove the pods of {}: {error}", self.state.display());
        }
    }
}

/// containerd's settings. Nothing of it is where another containerd would be;
/// sandboxes may be unable to lower the score that decides who is killed for want
/// of memory, and some have no AppArmor.
fn settings(root: &Path, state: &Path) -> String {
    format!(
        "version = 2\n\
         root = {:?}\n\
         state = {:?}\n\
         [grpc]\n\
         address = {:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = {IMAGE:?}\n\
         disable_apparmor = true\n\
         restrict_oom_score_adj = true\n",
        root.join("root"),
        state,
        state.join("containerd.sock")
    )
}

/// Makes the image, as `docker save` would write it, and answers its file.
fn image(directory: &Path, interrupt: &Interrupt) -> Result<PathBuf, Error> {
    let work = directory.join("image");
    let layer = work.join("layer");
    fs::create_dir_all(&layer).on("make", &layer)?;
    let write = |name: &str, text: &str| {
        let path = work.join(name);
        fs::write(&path, text).on("write", &path)
    };
    write("pause.rs", "fn main() {\n    loop {\n        std::thread::park();\n    }\n}\n")?;
    let mut compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    // Static: there is no loader and no library in the image.
    compiler
        .args(["-O", "-C", "target-feature=+crt-static", "-C", "panic=abort", "-C", "strip=symbols"])
        .args(["pause.rs", "-o", "layer/pause"])
        .current_dir(&work);
    command::run_quietly(&mut compiler, &work.join("rustc.log"), interrupt)?;
    let tar = |file: &str, from: &str, names: &[&str]| {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--owner=0", "--group=0", "--file", file, "--directory", from]).args(names);
        command::output(tar.current_dir(&work))
    };
    tar("layer.tar", "layer", &["pause"])?;
    let sum = command::output(Command::new("sha256sum").arg("layer.tar").current_dir(&work))?;
    let sum = sum.split(' ').next().unwrap_or_default();
    let architecture = match env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
    });
    write("config.json", &config.to_string())?;
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    write("manifest.json", &manifest.to_string())?;
    tar("image.tar", ".", &["manifest.json", "config.json", "layer.tar"])?;
    Ok(work.join("image.tar"))
}
