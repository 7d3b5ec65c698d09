//! No secret leaves the node: a tree that looks like a node has a canary in each
//! place where secrets are kept, all probes look at it, and none may be in what
//! they find, say, record or publish. That a leak would be seen is tested too.
//!
//! A new probe needs nothing here but, in [`FILES`], the files that it reads with
//! a canary in each place that it must leave out.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::asset::ScannedAsset;
use agent::config::ProbeArgs;
use agent::host::HostRoot;
use agent::metrics::AgentMetrics;
use agent::probe::{Cadence, Context, Probe, Scan, all};
use agent::scheduler::{Scheduler, Settings, Trigger};
use agent::status::Status;
use agent::store::{self, Store};
use agent::watch::Wakes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use contracts::v1::{AssetKind, KernelModuleDetails, NodeIdentity, asset_details::Details};
use kit::metrics::Metrics;
use kit::readiness::Readiness;
use prost::Message;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What each canary begins with; what follows says where it was.
const CANARY: &str = "zq7canary";

/// Path and content; `@` before a word makes a canary of it, `@@` one in base64.
const FILES: &[(&str, &str)] = &[
    // Processes: environment and arguments.
    ("proc/1/comm", "systemd\n"),
    ("proc/1/environ", "PASSWORD=@environ1\0"),
    ("proc/1/cmdline", "/sbin/init\0--token=@cmdline1\0"),
    ("proc/1234/comm", "app\n"),
    ("proc/1234/environ", "PASSWORD=@environ\0HOME=/\0"),
    ("proc/1234/cmdline", "/usr/bin/app\0--token\0@cmdline\0"),
    ("proc/1234/status", "Name:\tapp\nUid:\t0\t0\t0\t0\n"),
    ("proc/1234/cgroup", "0::/system.slice/app.service\n"),
    ("proc/cmdline", "root=/dev/sda1 rd.luks.key=@bootkey\n"),
    ("proc/sys/kernel/hostname", "node1\n"),
    ("proc/sys/kernel/random/boot_id", "5f0c1e2a-0000-4000-8000-000000000001\n"),
    ("proc/stat", "btime 1700000000\n"),
    ("proc/meminfo", "MemTotal: 1000 kB\n"),
    ("proc/cpuinfo", "processor\t: 0\nmodel name\t: x\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/1/net/tcp", "  sl  local_address\n   0: 00000000:1F90 00000000:0000 0A 0:0 0:0 0 0 0 777 1\n"),
    // Mounts: credentials in options and in the URL of a source.
    (
        "proc/1/mountinfo",
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
         2 1 0:30 / /mnt/a rw - cifs //u:@mounturl@nas/share rw,username=u,password=@mountpassword,pass=@mountpass\n\
         3 1 0:31 / /mnt/b rw - fuse https://u:@davurl@host/dav rw,secret=@mountsecret,credentials=@mountcred\n\
         4 1 0:32 / /mnt/c rw - cifs //u:p/@mountslash@nas/share rw,password2=@mountpassword2,PASSWD=@mountpasswd\n\
         5 1 0:33 / /mnt/d rw - fuse https://host/p?token=@mountquery rw,passphrase=@mountphrase,Token=@mounttoken\n\
         6 1 0:34 / /mnt/e rw - fuse.sshfs u:@mountplain@host:/dir rw,key=@mountkey\n\
         7 1 0:35 / mnt/wrong rw,pass=@mountgarbage - cifs //u:@mountgarbageurl@nas/share rw\n",
    ),
    ("etc/fstab", "//nas/share /mnt/a cifs password=@fstab 0 0\n"),
    ("etc/environment", "TOKEN=@etcenvironment\n"),
    // Accounts.
    (
        "etc/passwd",
        "root:x:0:0:@gecosroot:/root:/bin/sh\nalice:@passwdhash:1000:1000:@gecos,@room,@phone:/home/alice:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\nalice:@grouphash:1000:alice\n"),
    ("etc/shadow", "root:$y$@shadowroot:1::::::\nalice:!@shadowalice:1::::::\n"),
    ("etc/gshadow", "alice:@gshadow::\n"),
    (
        "etc/sudoers",
        "# @sudocomment\nDefaults:alice env_keep += \"@sudoenv\"\nCmnd_Alias X = /bin/x -p @sudoalias\n\
         alice ALL=(root) NOPASSWD: /bin/mysql -p@sudocommand, X # @sudotail\n@includedir /etc/sudoers.d\n\
         @sudogarbage\n%alice ALL = /x \\\n  @sudocontinued\n",
    ),
    ("etc/sudoers.d/a", "alice ALL=/bin/y @sudoincluded\n"),
    // Cron: commands, environment, and lines that are wrong.
    (
        "etc/crontab",
        "PASSWORD=@cronenv\n# @croncomment\n1 * * * * root /bin/x -p @croncommand\n\
         * * * * * -p@cronnouser x\n@crongarbage x y z\n@daily root y%@cronstdin\nexport A=@cronexport\n",
    ),
    ("etc/cron.d/a", "@reboot root curl -u u:@crond https://x\n"),
    ("etc/cron.daily/backup", "#!/bin/sh\nPASSWORD=@cronscript\n"),
    ("etc/anacrontab", "1 5 daily run @anacron\nTOKEN=@anacronenv\n"),
    ("var/spool/cron/crontabs/alice", "@daily x @cronuser\n5 4 * * * x @cronuser2\n"),
    // Units.
    (
        "etc/systemd/system/app.service",
        "# @unitcomment\n[Unit]\nDescription=App\n[Service]\nUser=alice\nEnvironment=TOKEN=@unitenv\n\
         EnvironmentFile=/etc/@unitenvfile\nExecStart=/bin/app --token \\\n  @unitexec\nSetCredential=x:@unitcred\n",
    ),
    ("etc/systemd/system/app.service.d/a.conf", "[Service]\nEnvironment=\"B=@dropinenv\"\n"),
    ("etc/systemd/system/app.timer", "[Timer]\nOnCalendar=daily\n[Service]\nExecStart=@timerexec\n"),
    // Certificates: the keys beside them, and what stands between.
    ("etc/ssl/private/both.pem", "Bag Attributes @pembag\n@@pemkey\n"),
    ("etc/ssl/private/only.key", "@onlykey\n"),
    (
        "etc/kubernetes/admin.conf",
        "users:\n- name: a\n  user:\n    client-key-data: @@kubekey\n    token: @kubetoken\n    password: @kubepassword\n",
    ),
    // Kubernetes and container runtimes: environment, annotations, registries.
    (
        "etc/kubernetes/manifests/etcd.yaml",
        "metadata:\n  annotations:\n    note: @annotation\nspec:\n  containers:\n  - env:\n    - {name: A, value: @podenv}\n",
    ),
    (
        "run/containerd/io.containerd.runtime.v2.task/k8s.io/0123456789abcdef/config.json",
        "{\"process\":{\"args\":[\"app\",\"@ocargs\"],\"env\":[\"A=@ocienv\"]},\"annotations\":{\"a\":\"@ociannotation\"}}",
    ),
    ("var/lib/kubelet/config.json", "{\"auths\":{\"r\":{\"auth\":\"@@dockerauth\"}}}"),
    ("etc/containerd/certs.d/r/hosts.toml", "[host.\"https://u:@hosts@r\".header]\n"),
    ("root/.netrc", "machine r login u password @netrc\n"),
    ("etc/resolv.conf", "# @resolv\nnameserver 10.0.0.1\n"),
];

/// Words that begin with `@` in files of their own right.
const DIRECTIVES: [&str; 4] = ["@daily", "@reboot", "@includedir", "@nas"];

fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let certificates = include_str!("../src/probe/certificates/samples.pem");
    for (path, text) in FILES {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = with_canaries(text);
        if path.ends_with("both.pem") {
            text = format!(
                "-----BEGIN PRIVATE KEY-----\n{text}-----END PRIVATE KEY-----\n{text}{certificates}{text}"
            );
        }
        fs::write(path, text).unwrap();
    }
    for pid in [1, 1234] {
        let folder = root.path().join(format!("proc/{pid}"));
        fs::create_dir_all(folder.join("fd")).unwrap();
        symlink("/usr/bin/app", folder.join("exe")).unwrap();
    }
    symlink("socket:[777]", root.path().join("proc/1234/fd/3")).unwrap();
    executable(&root.path().join("etc/cron.daily/backup"));
    fs::create_dir_all(root.path().join("sys/block")).unwrap();
    fs::create_dir_all(root.path().join("sys/class/net")).unwrap();
    root
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn with_canaries(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let signs = if rest.starts_with("@@") { 2 } else { 1 };
        let end =
            rest[signs..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(rest.len(), |end| end + signs);
        let (word, after) = rest.split_at(end);
        rest = after;
        let name = &word[signs..];
        if name.is_empty() || DIRECTIVES.contains(&word) || ["host", "r"].contains(&name) {
            out.push_str(word);
        } else if signs == 2 {
            out.push_str(&STANDARD_NO_PAD.encode(format!("{CANARY}{name}{CANARY}")));
        } else {
            out.push_str(&format!("{CANARY}{name}"));
        }
    }
    out.push_str(rest);
    out
}

/// The canaries in some bytes: as they are, in hexadecimal, and in base64, where
/// they look different at each of three offsets.
fn canaries(bytes: &[u8]) -> BTreeSet<String> {
    let mut forms = vec![CANARY.as_bytes().to_vec()];
    forms.push(CANARY.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
    for offset in 0..3 {
        let padded = [&vec![b'.'; offset][..], CANARY.as_bytes()].concat();
        let encoded = STANDARD_NO_PAD.encode(padded);
        // The first and the last characters depend on what stands around.
        forms.push(encoded.as_bytes()[(offset * 8).div_ceil(6)..encoded.len() - 1].to_vec());
    }
    let mut found = BTreeSet::new();
    for form in forms {
        for (at, _) in
            bytes.windows(form.len()).enumerate().filter(|(_, window)| window.eq_ignore_ascii_case(&form))
        {
            let end = (at + form.len() + 24).min(bytes.len());
            found.insert(String::from_utf8_lossy(&bytes[at..end]).into_owned());
        }
    }
    found
}

fn in_assets(assets: &[ScannedAsset]) -> BTreeSet<String> {
    let bytes = |asset: &ScannedAsset| {
        [asset.natural_key.as_bytes(), asset.display_name.as_bytes(), &asset.to_details().encode_to_vec()]
            .concat()
    };
    assets.iter().flat_map(|asset| canaries(&bytes(asset))).collect()
}

/// Where the running agent left something.
#[derive(Default)]
struct Traces {
    kinds: BTreeSet<AssetKind>,
    in_batches: BTreeSet<String>,
    in_store: BTreeSet<String>,
    in_status: BTreeSet<String>,
}

/// Runs scheduler and store over the tree until each probe has run.
async fn run(root: &Path, probes: Vec<Probe>) -> Traces {
    let folder = tempfile::tempdir().unwrap();
    let node_uid = Uuid::from_u128(1);
    let settings = store::Settings {
        folder: folder.path().to_owned(),
        node: NodeIdentity { uid: node_uid.to_string(), ..NodeIdentity::default() },
        node_uid,
        outbox_limit_bytes: u64::MAX,
    };
    let store = Arc::new(Store::open(settings).unwrap());
    let readiness = Readiness::default();
    let status = Status::new(probes.iter().map(|probe| probe.name));
    let metrics = AgentMetrics::new(&Metrics::default());
    let scheduler = Scheduler {
        wakes: Wakes::new(&probes, metrics.clone()),
        settings: Settings {
            full_interval: Duration::from_secs(3600),
            prompt_interval: Duration::from_secs(3600),
            timeout: Duration::from_secs(60),
        },
        probes,
        host: Arc::new(HostRoot::new(root).unwrap()),
        store: store.clone(),
        status,
        metrics,
        first_scan: readiness.condition("first_scan"),
        store_works: readiness.condition("store"),
    };
    let (triggers, triggered) = tokio::sync::mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let scheduled = tokio::spawn(scheduler.run(triggered, shutdown.clone()));
    let (reply, answer) = oneshot::channel();
    triggers.send(Trigger { probes: Vec::new(), reply }).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(60), answer).await.unwrap().unwrap();
    shutdown.cancel();
    scheduled.await.unwrap();

    let mut traces = Traces::default();
    for probe in answer.probes {
        traces.in_status.extend(canaries(format!("{probe:?}").as_bytes()));
    }
    traces.kinds =
        store.assets(None, None, usize::MAX).unwrap().into_iter().map(|asset| asset.kind).collect();
    for parcel in store.parcels((0, 0), usize::MAX, u64::MAX).unwrap() {
        let body =
            if parcel.compressed { zstd::stream::decode_all(&parcel.body[..]).unwrap() } else { parcel.body };
        traces.in_batches.extend(canaries(&body));
    }
    drop(store);
    for file in fs::read_dir(folder.path()).unwrap() {
        traces.in_store.extend(canaries(&fs::read(file.unwrap().path()).unwrap()));
    }
    traces
}

#[test]
fn no_probe_finds_or_says_a_secret() {
    let root = tree();
    let host = HostRoot::new(root.path()).unwrap();
    for probe in all(&Context::forgetful(ProbeArgs::default())) {
        match probe.scan(&host) {
            Ok(scan) => {
                assert_eq!(in_assets(&scan.assets), BTreeSet::new(), "{}", probe.name);
                let contents = format!("{:?}{:?}", scan.contents, scan.warnings);
                assert_eq!(canaries(contents.as_bytes()), BTreeSet::new(), "{} says", probe.name);
            }
            Err(error) => {
                assert_eq!(canaries(error.to_string().as_bytes()), BTreeSet::new(), "{} fails", probe.name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_recorded_or_published() {
    let root = tree();
    let traces = run(root.path(), all(&Context::forgetful(ProbeArgs::default()))).await;
    assert_eq!(traces.in_batches, BTreeSet::new());
    assert_eq!(traces.in_store, BTreeSet::new());
    assert_eq!(traces.in_status, BTreeSet::new());
    // The canaries stood where probes look.
    for kind in [
        AssetKind::Node,
        AssetKind::Filesystem,
        AssetKind::SystemdUnit,
        AssetKind::ListeningSocket,
        AssetKind::CronEntry,
        AssetKind::User,
        AssetKind::Group,
        AssetKind::Certificate,
    ] {
        assert!(traces.kinds.contains(&kind), "{kind:?} is not found in the tree");
    }
}

/// A probe that reports the environment of a process, among so much that the
/// batch is compressed.
fn leaking() -> Probe {
    Probe::new("leaking", AssetKind::KernelModule, Cadence::Full, &[], |host| {
        let module = |name: String| {
            let details = KernelModuleDetails { module: name.clone(), ..KernelModuleDetails::default() };
            ScannedAsset::new(name.clone(), name, Details::KernelModule(details))
        };
        let environment = host.line("proc/1234/environ").unwrap();
        let encoded = STANDARD_NO_PAD.encode(&environment);
        let mut assets = vec![module(environment.clone()), module(encoded)];
        assets.extend((0..200).map(|number| module(format!("filler{number}"))));
        Ok(Scan { assets, warnings: vec![environment], ..Scan::default() })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_leaks_would_be_seen_everywhere() {
    let root = tree();
    let scan = leaking().scan(&HostRoot::new(root.path()).unwrap()).unwrap();
    assert!(in_assets(&scan.assets[..1]).iter().any(|found| found.contains("environ")));
    assert!(!in_assets(&scan.assets[1..2]).is_empty(), "in base64");
    let traces = run(root.path(), vec![leaking()]).await;
    for found in [traces.in_batches, traces.in_store, traces.in_status] {
        assert!(found.iter().any(|found| found.contains("environ")), "{found:?}");
    }
}

#[test]
fn a_canary_is_found_in_any_form_and_place() {
    assert_eq!(canaries(b"nothing of it, zq7 canary"), BTreeSet::new());
    for text in ["zq7canaryx", "x zq7canaryx", "xyzq7canary", "xyzZQ7Canary"] {
        for form in [text.to_owned(), STANDARD_NO_PAD.encode(text.to_lowercase())] {
            assert_eq!(canaries(form.as_bytes()).len(), 1, "{form}");
        }
    }
    assert_eq!(canaries(b"7a713763616e617279").len(), 1);
    assert_eq!(
        with_canaries("p=@a b @daily x@host @@k"),
        format!("p={CANARY}a b @daily x@host {}", STANDARD_NO_PAD.encode(format!("{CANARY}k{CANARY}")))
    );
    // Each place has one: none was mistaken for a word of its file.
    let places: usize = FILES.iter().map(|(_, text)| with_canaries(text).matches(CANARY).count()).sum();
    assert!(places >= 65, "{places}");
}
