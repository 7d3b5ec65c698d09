//! Package URLs (ECMA-427): `pkg:type/namespace/name@version?qualifiers`.

use contracts::v1::PackageDetails;

/// The operating system that the packages belong to.
#[derive(Debug, Clone, Default)]
pub(super) struct Distribution {
    /// `ID` of os-release(5).
    pub(super) id: String,
    /// `VERSION_ID` of os-release(5).
    pub(super) version: String,
}

/// URL of an operating system's package; `None` for a manager that has no type.
pub(super) fn of_package(package: &PackageDetails, distribution: &Distribution) -> Option<String> {
    let kind = match package.manager.as_str() {
        "dpkg" => "deb",
        "rpm" => "rpm",
        "apk" => "apk",
        _ => return None,
    };
    let namespace = match (kind, distribution.id.as_str()) {
        // os-release(5): an ID that is not set counts as this one.
        (_, "") => "linux",
        // The namespace is the vendor; tools that look for vulnerabilities go
        // by these names.
        ("rpm", "rhel") => "redhat",
        ("rpm", id) if id.starts_with("opensuse") => "opensuse",
        (_, id) => id,
    };
    // Names of rpm are case-sensitive, the others are lower case anyway.
    let name = if kind == "rpm" { package.package.clone() } else { package.package.to_lowercase() };
    // rpm's epoch is a qualifier and no part of the version.
    let (epoch, version) = match package.version.split_once(':') {
        Some((epoch, version)) if kind == "rpm" => (epoch, version),
        _ => ("", package.version.as_str()),
    };
    let os = match (distribution.id.as_str(), distribution.version.as_str()) {
        ("", _) => String::new(),
        (id, "") => id.to_owned(),
        (id, version) => format!("{id}-{version}"),
    };
    // Not of the standard: scanners look for vulnerabilities by source package.
    let upstream = match (package.source.as_str(), package.source_version.as_str()) {
        (name, "") => name.to_owned(),
        (name, version) => format!("{name}@{version}"),
    };
    let qualifiers =
        [("arch", package.architecture.as_str()), ("distro", &os), ("epoch", epoch), ("upstream", &upstream)];
    Some(build(kind, namespace, &name, version, &qualifiers))
}

/// URL of a container image: the last part of its name, its digest, and where
/// it came from.
pub(super) fn of_image(reference: &str, digest: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    build("oci", "", &name.to_lowercase(), digest, &[("repository_url", reference)])
}

/// Qualifiers must be sorted by their keys; those without a value are left out.
fn build(kind: &str, namespace: &str, name: &str, version: &str, qualifiers: &[(&str, &str)]) -> String {
    let mut url = format!("pkg:{kind}/");
    if !namespace.is_empty() {
        encode(&namespace.to_lowercase(), &mut url);
        url.push('/');
    }
    encode(name, &mut url);
    if !version.is_empty() {
        url.push('@');
        encode(version, &mut url);
    }
    let mut separator = '?';
    for (key, value) in qualifiers.iter().filter(|(_, value)| !value.is_empty()) {
        url.push(separator);
        url.push_str(key);
        url.push('=');
        encode(value, &mut url);
        separator = '&';
    }
    url
}

/// Letters, digits, `.-_~` and the colon stand for themselves.
fn encode(text: &str, url: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                url.push(byte.into());
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_the_urls_of_the_standard() {
        for (manager, name, version, architecture, id, release, expected) in [
            (
                "dpkg",
                "libstdc++6",
                "12.2.0-14+deb12u1",
                "amd64",
                "debian",
                "12",
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12",
            ),
            (
                "dpkg",
                "zlib1g",
                "1:1.2.13.dfsg-1~x",
                "all",
                "ubuntu",
                "24.04",
                "pkg:deb/ubuntu/zlib1g@1:1.2.13.dfsg-1~x?arch=all&distro=ubuntu-24.04",
            ),
            (
                "rpm",
                "ImageMagick",
                "1:7.1-2.fc40",
                "x86_64",
                "fedora",
                "40",
                "pkg:rpm/fedora/ImageMagick@7.1-2.fc40?arch=x86_64&distro=fedora-40&epoch=1",
            ),
            (
                "rpm",
                "bash",
                "5.1-1.el9",
                "aarch64",
                "rhel",
                "9.4",
                "pkg:rpm/redhat/bash@5.1-1.el9?arch=aarch64&distro=rhel-9.4",
            ),
            (
                "rpm",
                "gpg-pubkey",
                "a-b",
                "",
                "opensuse-leap",
                "15.6",
                "pkg:rpm/opensuse/gpg-pubkey@a-b?distro=opensuse-leap-15.6",
            ),
            (
                "apk",
                "busybox",
                "1.36.1-r29",
                "x86_64",
                "alpine",
                "3.20.1",
                "pkg:apk/alpine/busybox@1.36.1-r29?arch=x86_64&distro=alpine-3.20.1",
            ),
            ("dpkg", "a b/ü", "", "", "", "12", "pkg:deb/linux/a%20b%2F%C3%BC"),
        ] {
            let package = PackageDetails {
                manager: manager.into(),
                package: name.into(),
                version: version.into(),
                architecture: architecture.into(),
                ..PackageDetails::default()
            };
            let distribution = Distribution { id: id.into(), version: release.into() };
            assert_eq!(of_package(&package, &distribution).unwrap(), expected);
        }
        assert_eq!(of_package(&PackageDetails::default(), &Distribution::default()), None);
    }

    #[test]
    fn a_source_package_is_named() {
        let package = PackageDetails {
            manager: "dpkg".into(),
            package: "libssl3".into(),
            version: "3".into(),
            source: "openssl".into(),
            source_version: "3+b".into(),
            ..PackageDetails::default()
        };
        let url = of_package(&package, &Distribution::default()).unwrap();
        assert_eq!(url, "pkg:deb/linux/libssl3@3?upstream=openssl%403%2Bb");
    }

    #[test]
    fn images_are_named_by_digest() {
        assert_eq!(
            of_image("registry.example:5000/team/App", "sha256:abc"),
            "pkg:oci/app@sha256:abc?repository_url=registry.example:5000%2Fteam%2FApp"
        );
    }
}
