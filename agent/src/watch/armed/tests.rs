use super::*;
use crate::watch::files::inotify;
use std::fs;
use std::os::unix::fs::symlink;

struct Node {
    root: tempfile::TempDir,
    armed: Armed,
    named: Vec<&'static str>,
}

impl Node {
    fn new(folders: &[&str], named: &[&'static str], limit: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let host = Arc::new(HostRoot::new(root.path()).unwrap());
        let targets: Arc<[Target]> = named.iter().map(|&named| Target::new(named, 0)).collect();
        let armed = Armed::new(inotify().unwrap(), host, targets, limit);
        let mut node = Self { root, armed, named: named.to_vec() };
        let all = (0..named.len()).collect();
        node.armed.arm(&all);
        node
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// What changed since the last call; sets watches anew as the source does.
    fn changed(&mut self) -> Vec<&'static str> {
        let mut changed = BTreeSet::new();
        loop {
            let news = self.armed.read().unwrap();
            if news == News::default() {
                break;
            }
            assert!(!news.lost);
            changed.extend(news.changed);
            self.armed.arm(&news.rearm);
        }
        changed.into_iter().map(|target| self.named[target]).collect()
    }
}

#[test]
fn a_file_replaced_by_rename_is_seen_each_time_and_its_neighbours_are_not() {
    let mut node = Node::new(&["var/lib/dpkg"], &["var/lib/dpkg/status"], MAX_WATCHES);
    for _ in 0..3 {
        node.write("var/lib/dpkg/status-new", "x");
        node.write("var/lib/dpkg/lock", "");
        assert!(node.changed().is_empty());
        node.rename("var/lib/dpkg/status-new", "var/lib/dpkg/status");
        assert_eq!(node.changed(), ["var/lib/dpkg/status"]);
        assert!(node.changed().is_empty());
        node.write("var/lib/dpkg/status", "written in place");
        assert_eq!(node.changed(), ["var/lib/dpkg/status"]);
        fs::read(node.path("var/lib/dpkg/status")).unwrap();
        assert!(node.changed().is_empty(), "reading changes nothing");
    }
    fs::remove_file(node.path("var/lib/dpkg/status")).unwrap();
    assert_eq!(node.changed(), ["var/lib/dpkg/status"]);
}

#[test]
fn a_path_that_appears_later_and_a_folder_made_anew_are_seen() {
    let mut node = Node::new(&["etc"], &["etc/a/b/file", "etc/a"], MAX_WATCHES);
    for _ in 0..3 {
        fs::create_dir_all(node.path("etc/other")).unwrap();
        assert!(node.changed().is_empty(), "not on the way");
        fs::create_dir_all(node.path("etc/a/b")).unwrap();
        assert_eq!(node.changed(), ["etc/a/b/file", "etc/a"]);
        node.write("etc/a/b/file", "");
        assert_eq!(node.changed(), ["etc/a/b/file"]);
        node.write("etc/a/in the folder", "");
        assert_eq!(node.changed(), ["etc/a"]);
        node.rename("etc/a", "etc/moved");
        assert_eq!(node.changed(), ["etc/a/b/file", "etc/a"]);
        node.write("etc/moved/b/file", "no longer there");
        assert!(node.changed().is_empty());
        fs::remove_dir_all(node.path("etc/moved")).unwrap();
        fs::remove_dir_all(node.path("etc/other")).unwrap();
        assert!(node.changed().is_empty());
    }
}

#[test]
fn a_tree_is_watched_as_it_grows_and_gives_its_watches_back() {
    let mut node = Node::new(&["etc/pki/a"], &["etc/pki/**", "etc/*"], MAX_WATCHES);
    let before = node.armed.watches();
    fs::create_dir_all(node.path("etc/pki/b/c/d")).unwrap();
    assert_eq!(node.changed(), ["etc/pki/**", "etc/*"]);
    node.write("etc/pki/b/c/d/cert.pem", "");
    assert_eq!(node.changed(), ["etc/pki/**"], "too deep for the other");
    assert_eq!(node.armed.watches(), before + 3);
    fs::remove_dir_all(node.path("etc/pki/b")).unwrap();
    assert_eq!(node.changed(), ["etc/pki/**", "etc/*"]);
    assert_eq!(node.armed.watches(), before);
    assert!(node.changed().is_empty());
}

#[test]
fn the_file_that_a_link_leads_to_is_watched_and_nothing_outside_the_root() {
    let root = "host/";
    let outer = tempfile::tempdir().unwrap();
    for folder in ["etc", "usr/lib", "data/one", "data/two"] {
        fs::create_dir_all(outer.path().join(root).join(folder)).unwrap();
    }
    let inside = outer.path().join(root);
    fs::write(outer.path().join("secret"), "").unwrap();
    fs::write(inside.join("usr/lib/os-release"), "").unwrap();
    symlink("../usr/lib/os-release", inside.join("etc/os-release")).unwrap();
    symlink("../../../secret", inside.join("etc/secret")).unwrap();
    // As Kubernetes mounts a ConfigMap.
    fs::write(inside.join("data/one/key"), "").unwrap();
    fs::write(inside.join("data/two/key"), "").unwrap();
    symlink("one", inside.join("data/..data")).unwrap();
    symlink("..data/key", inside.join("data/key")).unwrap();
    let host = Arc::new(HostRoot::new(&inside).unwrap());
    let named = ["etc/os-release", "etc/secret", "data"];
    let targets: Arc<[Target]> = named.iter().map(|&named| Target::new(named, 0)).collect();
    let mut armed = Armed::new(inotify().unwrap(), host, targets, MAX_WATCHES);
    armed.arm(&BTreeSet::from([0, 1, 2]));
    let mut changed = || {
        let news = armed.read().unwrap();
        armed.arm(&news.rearm);
        news.changed.into_iter().map(|target| named[target]).collect::<Vec<_>>()
    };
    fs::write(outer.path().join("secret"), "other").unwrap();
    assert!(changed().is_empty());
    for _ in 0..2 {
        fs::write(inside.join("usr/lib/new"), "replaced").unwrap();
        fs::rename(inside.join("usr/lib/new"), inside.join("usr/lib/os-release")).unwrap();
        assert_eq!(changed(), ["etc/os-release"]);
    }
    symlink("two", inside.join("data/..data_tmp")).unwrap();
    fs::rename(inside.join("data/..data_tmp"), inside.join("data/..data")).unwrap();
    assert_eq!(changed(), ["data"]);
}

#[test]
fn what_no_watch_is_left_for_is_polled_until_there_is_one() {
    let mut node = Node::new(&["etc/many/a", "etc/many/b", "etc/few"], &["etc/many/**", "etc/few"], 3);
    assert_eq!(node.armed.modes()[0], Mode::Polled(Unwatchable::NoneLeft));
    assert_eq!(node.armed.modes()[1], Mode::Watched { partly: false });
    assert_eq!(node.armed.watches(), 3, "none is kept for what is polled");
    node.write("etc/few/file", "");
    assert_eq!(node.changed(), ["etc/few"]);
    node.armed.limit = MAX_WATCHES;
    assert_eq!(node.armed.arm(&BTreeSet::from([0])), BTreeSet::from([0]));
    assert_eq!(node.armed.modes()[0], Mode::Watched { partly: false });
    assert!(node.armed.arm(&BTreeSet::from([0, 1])).is_empty(), "they lead where they led");
}

#[test]
fn what_the_kernel_does_not_tell_of_is_polled() {
    let host = Arc::new(HostRoot::new("/").unwrap());
    let targets: Arc<[Target]> = Arc::new([Target::new("proc/uptime", 0)]);
    let mut armed = Armed::new(inotify().unwrap(), host, targets, MAX_WATCHES);
    armed.arm(&BTreeSet::from([0]));
    assert_eq!(armed.modes(), [Mode::Polled(Unwatchable::Silent)]);
}

#[test]
fn too_many_events_are_told_as_lost() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 100_000 {
        println!("SKIPPED: the kernel queues {limit} events");
        return;
    }
    let mut node = Node::new(&["etc/a"], &["etc/a"], MAX_WATCHES);
    // The kernel joins equal events that follow each other.
    for n in 0..=limit {
        node.write(if n % 2 == 0 { "etc/a/even" } else { "etc/a/odd" }, "");
    }
    let mut lost = false;
    loop {
        let news = node.armed.read().unwrap();
        lost |= news.lost;
        if !news.more {
            break;
        }
    }
    assert!(lost);
    node.write("etc/a/odd", "");
    assert_eq!(node.changed(), ["etc/a"], "and later ones are told");
}
