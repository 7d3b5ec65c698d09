use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use contracts::v1::CertificateDetails;
use std::fs;
use std::os::unix::fs::symlink;

/// A certificate of an API server, that of its authority, and one with odd
/// names; made by OpenSSL, which says what stands below.
const SAMPLES: &str = include_str!("samples.pem");

fn write(root: &tempfile::TempDir, path: &str, text: impl AsRef<[u8]>) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn link(root: &tempfile::TempDir, path: &str, target: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn found(root: &tempfile::TempDir) -> Scan {
    scan(&HostRoot::new(root.path()).unwrap()).unwrap()
}

fn keys(root: &tempfile::TempDir) -> Vec<String> {
    let scan = found(root);
    assert!(scan.warnings.is_empty(), "{:?}", scan.warnings);
    scan.assets.into_iter().map(|asset| asset.natural_key).collect()
}

fn details(asset: &ScannedAsset) -> &CertificateDetails {
    match &asset.details {
        Details::Certificate(details) => details,
        other => panic!("no certificate: {other:?}"),
    }
}

#[test]
fn certificates_are_as_openssl_reads_them() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "etc/kubernetes/pki/chain.crt", SAMPLES);
    let scan = found(&root);
    assert_eq!(scan.assets.len(), 3);
    let leaf = details(&scan.assets[0]);
    let expected = CertificateDetails {
        path: "/etc/kubernetes/pki/chain.crt".into(),
        index: 0,
        subject: "CN=kube-apiserver,O=system:masters".into(),
        issuer: "CN=kubernetes,O=Example\\, Inc.,C=AT".into(),
        serial: "0a".into(),
        not_before_time: leaf.not_before_time,
        not_after_time: leaf.not_after_time,
        alternative_names: [
            "DNS:kubernetes",
            "DNS:kubernetes.default.svc",
            "IP:10.96.0.1",
            "IP:fd00::1",
            "URI:spiffe://cluster/ns/x",
            "email:a@example.org",
        ]
        .map(String::from)
        .into(),
        key: "EC P-256".into(),
        signature_algorithm: "sha256WithRSAEncryption".into(),
        fingerprint_sha256: "10245d401afd5684f1f51ba07648a5b31565104beb1d0be3ef6d154247ae39a5".into(),
        is_ca: false,
        usages: ["1.3.6.1.5.5.7.3.17", "clientAuth", "serverAuth"].map(String::from).into(),
    };
    assert_eq!(*leaf, expected);
    let times = [leaf.not_before_time, leaf.not_after_time].map(|time| time.unwrap().seconds);
    assert_eq!(times, [1_795_545_940, 4_949_145_940]);
    let authority = details(&scan.assets[1]);
    assert_eq!(
        (authority.key.as_str(), authority.is_ca, authority.serial.as_str()),
        ("RSA 2048", true, "ff01")
    );
    let odd = details(&scan.assets[2]);
    assert_eq!(odd.subject, "CN=Größe \\\"q\\\",UID=7+OU=\\#x\\ ,DC=org");
    assert_eq!(
        (odd.key.as_str(), odd.signature_algorithm.as_str(), odd.serial.as_str()),
        ("Ed25519", "ED25519", "00")
    );
    let names: Vec<&str> = scan.assets.iter().map(|asset| asset.display_name.as_str()).collect();
    assert_eq!(names, ["kube-apiserver", "kubernetes", "Größe \"q\""]);
}

#[test]
fn they_are_found_where_they_are_used_and_once() {
    let root = tempfile::tempdir().unwrap();
    let one = &SAMPLES[..SAMPLES.find("-----END CERTIFICATE-----\n").unwrap() + 26];
    for path in [
        "etc/kubernetes/pki/ca.crt",
        "etc/kubernetes/pki/etcd/ca.crt",
        "etc/kubernetes/pki/ca.key",
        "etc/kubernetes/pki/a/b/c/d/deep.crt",
        "etc/docker/certs.d/registry.crt/ca.crt",
        "etc/ssl/certs/local.pem",
        "etc/ssl/certs/ca-certificates.crt",
        "etc/ssl/private/both.pem",
        "etc/ssl/private/server-key.pem",
        "usr/share/ca-certificates/mozilla/Root.crt",
        "usr/local/share/ca-certificates/Own.crt",
        "var/lib/kubelet/pki/kubelet-client-2024-01-01-00-00-00.pem",
        "var/lib/kubelet/pki/kubelet-client-2025-01-01-00-00-00.pem",
        "var/lib/kubelet/pki/kubelet.crt",
        "var/lib/rancher/k3s/agent/client-ca.crt",
        "var/lib/rancher/k3s/agent/containerd/x/etc/ssl/certs/theirs.pem",
        "var/lib/rancher/k3s/server/tls/etcd/client.crt",
        "etc/letsencrypt/archive/site/cert1.pem",
        "opt/acme/site.crt",
        "etc/pki/tls/certs/other.txt",
    ] {
        write(&root, path, one);
    }
    link(&root, "etc/ssl/certs/Root.pem", "/usr/share/ca-certificates/mozilla/Root.crt");
    link(&root, "etc/ssl/certs/Own.pem", "/usr/local/share/ca-certificates/Own.crt");
    link(&root, "etc/ssl/certs/4a6481c9.0", "Root.pem");
    link(&root, "etc/ssl/certs/site.pem", "../../../opt/acme/site.crt");
    link(&root, "etc/ssl/certs/gone.pem", "nowhere");
    link(&root, "etc/pki/tls/certs/loop", ".");
    link(
        &root,
        "var/lib/kubelet/pki/kubelet-client-current.pem",
        "/var/lib/kubelet/pki/kubelet-client-2025-01-01-00-00-00.pem",
    );
    link(&root, "etc/letsencrypt/live/site/cert.pem", "../../archive/site/cert1.pem");
    let mut found = keys(&root);
    found.sort();
    assert_eq!(
        found,
        [
            "/etc/docker/certs.d/registry.crt/ca.crt#0",
            "/etc/kubernetes/pki/ca.crt#0",
            "/etc/kubernetes/pki/etcd/ca.crt#0",
            "/etc/letsencrypt/live/site/cert.pem#0",
            "/etc/ssl/certs/local.pem#0",
            "/etc/ssl/certs/site.pem#0",
            "/etc/ssl/private/both.pem#0",
            "/usr/local/share/ca-certificates/Own.crt#0",
            "/var/lib/kubelet/pki/kubelet-client-current.pem#0",
            "/var/lib/kubelet/pki/kubelet.crt#0",
            "/var/lib/rancher/k3s/agent/client-ca.crt#0",
            "/var/lib/rancher/k3s/server/tls/etcd/client.crt#0",
        ]
    );
}

#[test]
fn one_folder_under_two_names_is_one() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "etc/pki/tls/certs/a.pem", SAMPLES);
    link(&root, "etc/ssl/certs", "../pki/tls/certs");
    assert_eq!(keys(&root).len(), 3);
    let root = tempfile::tempdir().unwrap();
    write(&root, "var/lib/ca-certificates/pem/a.pem", SAMPLES);
    link(&root, "etc/ssl/certs", "/var/lib/ca-certificates/pem");
    assert!(keys(&root).is_empty());
}

#[test]
fn der_and_kubeconfigs_are_read() {
    let root = tempfile::tempdir().unwrap();
    let der = pem_certificates(SAMPLES.as_bytes()).remove(0).der.unwrap();
    write(&root, "etc/etcd/server.der", &der);
    write(&root, "etc/etcd/with-more.cer", [&der[..], b"\x30\x03abc"].concat());
    let pem = STANDARD.encode(SAMPLES);
    let kubeconfig = format!(
        "users:\n- name: a\n  user:\n    client-certificate-data: {pem}\n    client-key-data: c2VjcmV0\n"
    );
    write(&root, "etc/kubernetes/admin.conf", &kubeconfig);
    write(&root, "etc/kubernetes/readme.txt", &kubeconfig);
    write(&root, "etc/rancher/k3s/k3s.yaml", &kubeconfig);
    let scan = found(&root);
    assert_eq!(scan.assets.len(), 8);
    let fingerprints: Vec<&str> =
        [0, 1, 2, 5].iter().map(|&at| details(&scan.assets[at]).fingerprint_sha256.as_str()).collect();
    assert!(fingerprints.iter().all(|one| *one == fingerprints[0]), "{fingerprints:?}");
    assert_eq!(scan.assets[4].natural_key, "/etc/kubernetes/admin.conf#2");
}

#[test]
fn what_is_damaged_is_told_and_keeps_its_place() {
    let root = tempfile::tempdir().unwrap();
    let damaged = format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{SAMPLES}");
    write(&root, "etc/etcd/a.pem", damaged);
    write(&root, "etc/etcd/b.pem", vec![b'x'; 1024 * 1024 + 1]);
    let scan = found(&root);
    assert_eq!(scan.assets[0].natural_key, "/etc/etcd/a.pem#1");
    assert_eq!(
        scan.warnings,
        ["/etc/etcd/a.pem: certificate 0 cannot be read", "/etc/etcd/b.pem: larger than 1048576 bytes"]
    );
    assert_eq!(scan.unread, ["/etc/etcd/a.pem#", "/etc/etcd/b.pem#", "/etc/etcd/b.pem/"]);
}

#[test]
fn a_file_that_is_just_written_keeps_what_was_known() {
    let root = tempfile::tempdir().unwrap();
    let path = "etc/kubernetes/pki/apiserver.crt";
    write(&root, path, SAMPLES);
    assert!(found(&root).unread.is_empty());
    // Cut at each line, the last certificate is damaged or was not begun.
    for (at, _) in SAMPLES.match_indices('\n') {
        write(&root, path, &SAMPLES[..at + 10.min(SAMPLES.len() - at)]);
        let scan = found(&root);
        let begun = SAMPLES[..at].matches("-----BEGIN CERTIFICATE-----").count();
        assert!(scan.assets.len() == begun || scan.unread == [format!("/{path}#")], "{at}");
    }
}

#[test]
fn what_may_not_be_read_is_not_gone() {
    let root = tempfile::tempdir().unwrap();
    let host = HostRoot::new(root.path()).unwrap();
    let mut search = Search { host: &host, scan: Scan::default(), files: 0, visited: 0, cut: false };
    search.left_out("etc/ssl/private", ErrorKind::PermissionDenied.into()).unwrap();
    assert_eq!(search.scan.unread, ["/etc/ssl/private#", "/etc/ssl/private/"]);
    search.left_out("etc/etcd", ErrorKind::NotFound.into()).unwrap();
    assert_eq!((search.scan.unread.len(), search.scan.warnings.len()), (2, 1));
}

#[test]
fn what_cannot_be_read_fails_the_probe() {
    let unreadable = "x".repeat(300);
    for path in ["etc/etcd/a.pem", "etc/kubernetes/pki/a.crt", "etc/kubernetes/admin.conf"] {
        let root = tempfile::tempdir().unwrap();
        link(&root, path, &unreadable);
        let error = scan(&HostRoot::new(root.path()).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {path}:")), "{error}");
    }
}

#[test]
fn links_are_resolved_by_their_text() {
    for (path, target, expected) in [
        ("etc/ssl/certs/a", "../x", "etc/ssl/x"),
        ("etc/ssl/certs/a", "/usr/./x", "usr/x"),
        ("etc/a", "../../../x", "x"),
        ("a", "b", "b"),
    ] {
        assert_eq!(resolve(Path::new(path), Path::new(target)), Path::new(expected));
    }
}
