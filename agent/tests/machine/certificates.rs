//! Certificates, against openssl(1), which also makes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use agent::host::HostRoot;
use contracts::v1::CertificateDetails;
use contracts::v1::asset_details::Details;

use super::{scan_below, tool};

const FOLDER: &str = "etc/kubernetes/pki";

/// Runs openssl in the folder of the certificates.
fn openssl(folder: &Path, line: &[&str]) -> bool {
    let output = Command::new("openssl").args(line).current_dir(folder).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => panic!("openssl {line:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            println!("SKIPPED: no openssl here: {error}");
            false
        }
    }
}

const EXTENSIONS: &str = "[leaf]
basicConstraints=CA:FALSE
subjectAltName=DNS:kubernetes,DNS:*.example.org,IP:10.96.0.1,IP:fd00::12:1,URI:spiffe://c/ns,email:a@b.c,RID:1.2.3.4
extendedKeyUsage=serverAuth,clientAuth
[all]
extendedKeyUsage=critical,codeSigning,emailProtection,timeStamping,OCSPSigning
";

/// File and how it is made: the key, then the arguments of `req -x509`.
const OWN: [(&str, &[&str], &[&str]); 7] = [
    (
        "ca",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        &["-subj", "/C=AT/O=Example, Inc./CN=root"],
    ),
    (
        "p384",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["-sha384", "-subj", "/CN=a\\/b\\+c"],
    ),
    (
        "p521",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
        &["-sha512", "-subj", "/DC=org/DC=example/UID=7"],
    ),
    (
        "odd",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1032"],
        &["-sha1", "-utf8", "-subj", "/CN=Größe <\"#\"> "],
    ),
    (
        "pss",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        &["-sigopt", "rsa_padding_mode:pss", "-subj", "/CN=#pss"],
    ),
    (
        "ed25519",
        &["-algorithm", "ED25519"],
        &["-multivalue-rdn", "-subj", "/O=x+OU=y/street=z/serialNumber=4/CN=ed"],
    ),
    ("ed448", &["-algorithm", "ED448"], &["-subj", "/CN=;leading", "-extensions", "all", "-config", "ext"]),
];

/// `None` after SKIPPED.
fn make(folder: &Path) -> Option<()> {
    let config = format!("[req]\ndistinguished_name=dn\n[dn]\n{EXTENSIONS}");
    fs::write(folder.join("ext"), config).unwrap();
    let run = |line: &[&str]| openssl(folder, line).then_some(());
    for (name, key, request) in OWN {
        let (key_file, file) = (format!("{name}.key"), format!("{name}.crt"));
        run(&[&["genpkey", "-out", &key_file], key].concat())?;
        run(&[&["req", "-x509", "-key", &key_file, "-out", &file, "-days", "3650"], request].concat())?;
    }
    for (name, days) in [("leaf", "365"), ("expired", "-1")] {
        let (request, file) = (format!("{name}.csr"), format!("{name}.pem"));
        run(&[
            "req",
            "-new",
            "-key",
            "p384.key",
            "-subj",
            "/O=system:nodes/CN=system:node:a",
            "-out",
            &request,
        ])?;
        let signed =
            ["x509", "-req", "-in", &request, "-CA", "ca.crt", "-CAkey", "ca.key", "-extfile", "ext"];
        let serial = if days == "365" { "0x00ab12cd34" } else { "-5" };
        let more = ["-extensions", "leaf", "-days", days, "-set_serial", serial, "-out", &file];
        run(&[&signed[..], &more].concat())?;
    }
    run(&["x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.der"])?;
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    // A chain with the key among it.
    fs::write(folder.join("chain.pem"), [read("leaf.pem"), read("p384.key"), read("ca.crt")].concat())
        .unwrap();
    Some(())
}

#[test]
fn certificates_are_as_openssl_reads_them() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    if make(&folder).is_none() {
        return;
    }
    let found: BTreeMap<String, CertificateDetails> =
        scan_below("certificates", &HostRoot::new(root.path()).unwrap())
            .assets
            .into_iter()
            .map(|asset| match asset.details {
                Details::Certificate(details) => (asset.natural_key, details),
                other => panic!("no certificate: {other:?}"),
            })
            .collect();
    let mut compared = 0;
    for (file, places) in [
        ("ca.crt", &["ca.crt"][..]),
        ("p384.crt", &["p384.crt"]),
        ("p521.crt", &["p521.crt"]),
        ("odd.crt", &["odd.crt"]),
        ("pss.crt", &["pss.crt"]),
        ("ed25519.crt", &["ed25519.crt"]),
        ("ed448.crt", &["ed448.crt"]),
        ("expired.pem", &["expired.pem"]),
        ("leaf.der", &["leaf.der"]),
        ("leaf.pem", &["leaf.pem"]),
        // openssl x509 reads the first of a file alone.
        ("chain.pem", &["leaf.pem", "ca.crt"]),
    ] {
        for (index, same) in places.iter().enumerate() {
            let ours = &found[&format!("/{FOLDER}/{file}#{index}")];
            let path = folder.join(same);
            let Some(theirs) = of_openssl(path.to_str().unwrap()) else { return };
            let ours = CertificateDetails { path: String::new(), index: 0, ..ours.clone() };
            assert_eq!(ours, theirs, "{file}");
            compared += 1;
        }
    }
    assert_eq!(found.len(), compared);
    println!("{compared} certificates");
}

/// What openssl says of the first certificate in a file.
fn of_openssl(path: &str) -> Option<CertificateDetails> {
    let options = ["-nameopt", "RFC2253,utf8,-esc_msb", "-dateopt", "iso_8601"];
    let shown = ["-subject", "-issuer", "-serial", "-dates", "-fingerprint", "-sha256"];
    let lines = tool("openssl", &[&["x509", "-noout", "-in", path][..], &options, &shown].concat())?;
    let text = tool("openssl", &["x509", "-noout", "-text", "-in", path])?;
    let value = |name: &str| {
        let line = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in {lines}")).to_owned()
    };
    let in_text = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name));
    let after = |name: &str| {
        let mut rest = text.lines().skip_while(|line| !line.trim().starts_with(name)).skip(1);
        rest.next()
            .map(|line| line.trim().split(", ").map(str::to_owned).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let time = |name: &str| {
        let seconds = tool("date", &["-u", "-d", &value(name), "+%s"]).unwrap().trim().parse().unwrap();
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    };
    let bits = in_text("Public-Key: (").map(|rest| rest.trim_end_matches(" bit)").to_owned());
    let mut alternative_names: Vec<String> = after("X509v3 Subject Alternative Name")
        .into_iter()
        .map(|name| match name.strip_prefix("IP Address:") {
            // Rule: openssl does not shorten addresses.
            Some(address) => format!("IP:{}", address.parse::<std::net::IpAddr>().unwrap()),
            None => name.replace("Registered ID", "RID"),
        })
        .collect();
    alternative_names.sort();
    let mut usages: Vec<String> =
        after("X509v3 Extended Key Usage").iter().map(|usage| short_usage(usage).to_owned()).collect();
    usages.sort();
    Some(CertificateDetails {
        subject: value("subject"),
        issuer: value("issuer"),
        // Rule: small letters, without colons.
        serial: value("serial").to_lowercase(),
        fingerprint_sha256: value("sha256 Fingerprint").replace(':', "").to_lowercase(),
        not_before_time: time("notBefore"),
        not_after_time: time("notAfter"),
        alternative_names,
        // Rule: names of keys as people write them.
        key: match in_text("Public Key Algorithm: ")? {
            "rsaEncryption" => format!("RSA {}", bits?),
            "id-ecPublicKey" => format!("EC {}", in_text("NIST CURVE: ")?),
            "ED25519" => "Ed25519".to_owned(),
            "ED448" => "Ed448".to_owned(),
            other => other.to_owned(),
        },
        signature_algorithm: in_text("Signature Algorithm: ")?.to_owned(),
        is_ca: text.contains("CA:TRUE"),
        usages,
        ..CertificateDetails::default()
    })
}

/// Rule: openssl shows the long names of what it is told by short ones.
fn short_usage(long: &str) -> &'static str {
    match long {
        "TLS Web Server Authentication" => "serverAuth",
        "TLS Web Client Authentication" => "clientAuth",
        "Code Signing" => "codeSigning",
        "E-mail Protection" => "emailProtection",
        "Time Stamping" => "timeStamping",
        "OCSP Signing" => "OCSPSigning",
        other => panic!("{other} is not among those that were asked for"),
    }
}
