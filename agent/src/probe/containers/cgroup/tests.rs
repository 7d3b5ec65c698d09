use super::*;
use std::fs;
use std::path::Path;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const UID: &str = "123e4567-e89b-12d3-a456-426614174000";

#[test]
fn paths_of_all_runtimes_are_known() {
    let under = UID.replace('-', "_");
    let table = [
        (
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{A}.scope"
            ),
            Some(("kubernetes", UID)),
        ),
        (format!("/kubepods.slice/kubepods-pod{under}.slice/crio-{A}.scope"), Some(("kubernetes", UID))),
        (
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/cri-containerd-{A}.scope"
            ),
            Some(("kubernetes", UID)),
        ),
        (format!("/kubepods/besteffort/pod{UID}/{A}"), Some(("kubernetes", UID))),
        (format!("/kubepods/burstable/pod{UID}/crio-{A}"), Some(("kubernetes", UID))),
        // A static pod's UID is a hash.
        (
            format!("/kubepods/burstable/pod0123456789abcdef0123456789abcdef/{A}"),
            Some(("kubernetes", "0123456789abcdef0123456789abcdef")),
        ),
        (
            format!(
                "/system.slice/containerd.service/kubepods-besteffort-pod{under}.slice:cri-containerd:{A}"
            ),
            Some(("kubernetes", UID)),
        ),
        // As a reader in another container sees it.
        (format!("/../../kubepods-pod{under}.slice/cri-containerd-{A}.scope"), Some(("kubernetes", UID))),
        (format!("/../cri-containerd-{A}.scope"), Some(("kubernetes", ""))),
        (format!("/docker/{A}"), Some(("docker", ""))),
        (format!("/system.slice/docker-{A}.scope"), Some(("docker", ""))),
        (format!("/machine.slice/libpod-{A}.scope/container"), Some(("podman", ""))),
        (format!("/libpod_parent/libpod-{A}"), Some(("podman", ""))),
        (format!("/k8s.io/{A}"), Some(("k8s.io", ""))),
        // What runs inside belongs to what is outside.
        (format!("/docker/{A}/kubelet/kubepods/pod{UID}/{B}"), Some(("docker", ""))),
        (format!("/kubepods.slice/kubepods-pod{under}.slice/crio-conmon-{A}.scope"), None),
        (format!("/machine.slice/libpod-conmon-{A}.scope"), None),
        (format!("/kubepods/besteffort/pod{UID}"), None),
        (format!("/x/{}", &A[..63]), None),
        ("/system.slice/ssh.service".to_owned(), None),
        ("/".to_owned(), None),
        (String::new(), None),
    ];
    for (path, expected) in table {
        let found = parse_path(&path);
        let found = found.as_ref().map(|place| (place.manager.as_str(), place.pod_uid.as_str(), &*place.id));
        assert_eq!(found, expected.map(|(manager, uid)| (manager, uid, A)), "{path}");
    }
    for (name, ours) in [
        (&*format!("pod{UID}"), true),
        (&format!("docker-{A}.scope"), true),
        (A, true),
        (&format!("x.slice:cri-containerd:{A}"), true),
        ("logrotate.service", false),
        ("podman.service", false),
    ] {
        assert_eq!(is_ours(name), ours, "{name}");
    }
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn process(root: &Path, pid: u32, started: u64, cgroup: &str) {
    write(root, &format!("proc/{pid}/cgroup"), cgroup);
    let stat = format!("{pid} (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 {started} 6 7\n");
    write(root, &format!("proc/{pid}/stat"), &stat);
}

#[test]
fn the_first_process_of_each_container_is_found_in_both_versions() {
    for file in [
        format!("12:memory:/kubepods/pod{UID}/{A}\n1:name=systemd:/kubepods/pod{UID}/{A}\n0::/\n"),
        format!("0::/kubepods/pod{UID}/{A}\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        process(root, 1, 0, "0::/init.scope\n");
        // PIDs begin anew at their end, so the lower one may be the younger.
        process(root, 90, 700, &file);
        process(root, 4000, 300, &file);
        process(root, 4001, 300, &file);
        process(root, 5000, 400, "0::/default/web\n");
        process(root, 5001, 400, "0::/default/no-task\n");
        fs::create_dir_all(root.join("run/containerd/tasks/default/web")).unwrap();
        let host = HostRoot::new(root).unwrap();
        let found = running(&host, &["run/containerd/tasks".to_owned()]).unwrap();
        let found: Vec<_> = found.iter().map(|member| (&*member.placement.id, member.pid)).collect();
        assert_eq!(found, [(A, Some(4000)), ("web", Some(5000))]);
    }
}

#[test]
fn the_tree_tells_what_processes_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    // The agent's own pod mate, as seen from inside.
    process(root, 40, 300, &format!("0::/../cri-containerd-{A}.scope\n"));
    let pod = format!("sys/fs/cgroup/kubepods.slice/kubepods-pod{}.slice", UID.replace('-', "_"));
    write(root, "sys/fs/cgroup/cgroup.controllers", "");
    write(root, &format!("{pod}/cri-containerd-{A}.scope/cgroup.events"), "populated 1\nfrozen 0\n");
    write(root, &format!("{pod}/cri-containerd-{B}.scope/cgroup.events"), "populated 1\nfrozen 0\n");
    let empty = B.replace('b', "c");
    write(root, &format!("{pod}/cri-containerd-{empty}.scope/cgroup.events"), "populated 0\n");
    let found = running(&HostRoot::new(root).unwrap(), &[]).unwrap();
    let found: Vec<_> =
        found.iter().map(|member| (&*member.placement.id, &*member.placement.pod_uid, member.pid)).collect();
    assert_eq!(found, [(A, UID, Some(40)), (B, UID, None)]);
}

#[test]
fn a_tree_of_version_1_is_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("proc")).unwrap();
    write(root, "sys/fs/cgroup/pids/cgroup.procs", "1\n");
    write(root, &format!("sys/fs/cgroup/pids/docker/{A}/cgroup.procs"), "70\n71\n");
    write(root, &format!("sys/fs/cgroup/pids/docker/{B}/cgroup.procs"), "");
    let found = running(&HostRoot::new(root).unwrap(), &[]).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].placement.id.as_str(), found[0].placement.manager.as_str()), (A, "docker"));
}

#[test]
fn without_proc_nothing_is_known() {
    let folder = tempfile::tempdir().unwrap();
    assert!(running(&HostRoot::new(folder.path()).unwrap(), &[]).is_err());
}

#[test]
fn what_cannot_be_told_of_is_no_absence() {
    // A link to a name that no file system takes.
    let unknowable = |root: &Path, path: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("x".repeat(300), path).unwrap();
    };
    for path in ["sys/fs/cgroup/cgroup.controllers", "sys/fs/cgroup/systemd/cgroup.procs"] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("proc")).unwrap();
        unknowable(folder.path(), path);
        let error = running(&HostRoot::new(folder.path()).unwrap(), &[]).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
    // Anyone may name a cgroup so that the task's name would be too long.
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), 40, 300, &format!("0::/default/{}\n", "x".repeat(300)));
    assert_eq!(running(&HostRoot::new(folder.path()).unwrap(), &["run/tasks".to_owned()]).unwrap(), []);
}
