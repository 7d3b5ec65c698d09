//! What is installed on a simulated node, and what runs of it.

use contracts::v1::{
    AssetKind, CronEntryDetails, GroupDetails, KernelModuleDetails, KernelParameterDetails,
    ListeningSocketDetails, PackageDetails, RelationType, SystemdUnitDetails, UserDetails,
    asset_details::Details,
};

use super::{Asset, Place};

const STEMS: [&str; 48] = [
    "openssl",
    "bash",
    "coreutils",
    "curl",
    "zlib",
    "systemd",
    "util-linux",
    "glibc",
    "perl",
    "python3",
    "sqlite",
    "ncurses",
    "readline",
    "krb5",
    "openldap",
    "gnutls",
    "nettle",
    "gmp",
    "pcre2",
    "libxml",
    "expat",
    "tar",
    "gzip",
    "xz",
    "zstd",
    "lz4",
    "bzip2",
    "dpkg",
    "apt",
    "gnupg",
    "iproute",
    "iptables",
    "nftables",
    "openssh",
    "rsyslog",
    "chrony",
    "containerd",
    "runc",
    "kubelet",
    "cni",
    "lvm",
    "mdadm",
    "e2fsprogs",
    "xfsprogs",
    "multipath",
    "nvme",
    "smartmontools",
    "audit",
];
const FORMS: [(&str, &str); 8] = [
    ("", ""),
    ("lib", "1"),
    ("lib", "-common"),
    ("lib", "-data"),
    ("python3-", ""),
    ("", "-utils"),
    ("", "-doc"),
    ("", "-dbg"),
];
const SECTIONS: [&str; 6] = ["admin", "libs", "net", "utils", "python", "kernel"];
const MAINTAINERS: [&str; 4] = [
    "Debian Base Team <debian-base@lists.debian.org>",
    "Debian OpenSSL Team <pkg-openssl-devel@alioth-lists.debian.net>",
    "Debian systemd Maintainers <pkg-systemd-maintainers@lists.alioth.debian.org>",
    "Matthias Klose <doko@debian.org>",
];

fn stem(number: u32) -> &'static str {
    STEMS[number as usize % STEMS.len()]
}

/// Name of a package, the same on every node.
fn package_name(number: u32) -> String {
    let (before, after) = FORMS[number as usize / STEMS.len() % FORMS.len()];
    let round = number as usize / (STEMS.len() * FORMS.len());
    let stem = stem(number);
    if round == 0 { format!("{before}{stem}{after}") } else { format!("{before}{stem}{after}-{round}") }
}

pub(super) fn package(place: Place, revision: u32) -> Asset {
    let mut dice = place.shared_dice();
    let package = package_name(place.number);
    let (major, minor, size) = (dice.below(9) + 1, dice.below(30), dice.below(20_000) + 20);
    let details = PackageDetails {
        version: format!("{major}.{minor}.{revision}-1+deb12u{}", place.node % 3 + 1),
        architecture: if dice.below(4) == 0 { "all".to_owned() } else { "amd64".to_owned() },
        manager: "dpkg".to_owned(),
        source: stem(place.number).to_owned(),
        maintainer: dice.pick(&MAINTAINERS).to_owned(),
        section: dice.pick(&SECTIONS).to_owned(),
        installed_size_bytes: u64::from(size) * 1024,
        status: "installed".to_owned(),
        summary: format!("{} for the base system", stem(place.number)),
        homepage: format!("https://{}.example.org/", stem(place.number)),
        package,
        ..PackageDetails::default()
    };
    let key = format!("dpkg/{}:{}", details.package, details.architecture);
    Asset::new(key, details.package.clone(), Details::Package(details))
}

pub(super) fn unit(place: Place, revision: u32) -> Asset {
    let mut dice = place.shared_dice();
    let kind = dice.pick(&["service", "service", "service", "socket", "timer", "mount"]);
    let unit = format!("{}.{kind}", package_name(place.number));
    let enablement = ["enabled", "disabled", "static"][(dice.below(3) + revision) as usize % 3];
    let details = SystemdUnitDetails {
        r#type: kind.to_owned(),
        description: format!("{} of the node", stem(place.number)),
        path: format!("/lib/systemd/system/{unit}"),
        enablement: enablement.to_owned(),
        drop_ins: vec![format!("/etc/systemd/system/{unit}.d/{revision}.conf")],
        user: if dice.below(3) == 0 { "daemon".to_owned() } else { String::new() },
        unit: unit.clone(),
        ..SystemdUnitDetails::default()
    };
    let package = format!("dpkg/{}:amd64", package_name(place.number));
    Asset::new(unit.clone(), unit, Details::SystemdUnit(details)).related(
        RelationType::InstalledBy,
        AssetKind::Package,
        package,
    )
}

pub(super) fn module(place: Place, revision: u32) -> Asset {
    let mut dice = place.shared_dice();
    let module = format!("{}_{}", stem(place.number).replace('-', "_"), place.number);
    let details = KernelModuleDetails {
        version: format!("6.1.{revision}"),
        size_bytes: u64::from(dice.below(400) + 1) * 4096,
        used_by: (0..dice.below(3)).map(|user| format!("{}_{user}", stem(user))).collect(),
        module: module.clone(),
        ..KernelModuleDetails::default()
    };
    Asset::new(module.clone(), module, Details::KernelModule(details))
}

pub(super) fn socket(place: Place, revision: u32) -> Asset {
    let mut dice = place.dice();
    let protocol = if place.number.is_multiple_of(4) { "udp" } else { "tcp" };
    let address = ["0.0.0.0", "127.0.0.1", "::"][place.number as usize % 3];
    let port = 1024 + place.number % 60_000;
    let program = stem(place.number);
    let details = ListeningSocketDetails {
        protocol: protocol.to_owned(),
        address: address.to_owned(),
        port,
        program: format!("{program}d"),
        executable: format!("/usr/sbin/{program}d"),
        uid: dice.below(1000) + revision,
        package: format!("dpkg/{program}:amd64"),
        container: String::new(),
    };
    let name = if address == "::" {
        format!("{protocol}/[::]:{port}")
    } else {
        format!("{protocol}/{address}:{port}")
    };
    Asset::new(name.clone(), name, Details::ListeningSocket(details))
}

pub(super) fn parameter(place: Place, revision: u32) -> Asset {
    const FOLDERS: [&str; 6] = ["net.ipv4.conf.all", "net.ipv6.conf.all", "kernel", "vm", "fs", "net.core"];
    let folder = FOLDERS[place.number as usize % FOLDERS.len()];
    let parameter = format!("{folder}.{}_{}", stem(place.number).replace('-', "_"), place.number);
    let value = (place.dice().below(2) + revision).to_string();
    let details = KernelParameterDetails { parameter: parameter.clone(), value };
    Asset::new(parameter.clone(), parameter, Details::KernelParameter(details))
}

pub(super) fn user(place: Place, revision: u32) -> Asset {
    const SHELLS: [&str; 3] = ["/usr/sbin/nologin", "/bin/bash", "/bin/sh"];
    let user = format!("{}{}", stem(place.number), place.number);
    let details = UserDetails {
        uid: 1000 + place.number,
        gid: 1000 + place.number,
        home: format!("/home/{user}"),
        shell: SHELLS[revision as usize % SHELLS.len()].to_owned(),
        groups: vec![user.clone(), format!("team-{}", place.dice().below(20))],
        password: "locked".to_owned(),
        sudoers: (revision > 2).then(|| format!("rule {revision}")).into_iter().collect(),
        user: user.clone(),
    };
    Asset::new(user.clone(), user, Details::User(details))
}

pub(super) fn group(place: Place, revision: u32) -> Asset {
    let group = format!("{}-{}", stem(place.number), place.number);
    let details = GroupDetails {
        gid: 1000 + place.number,
        members: (0..=revision % 8).map(|member| format!("{}{member}", stem(member + revision))).collect(),
        group: group.clone(),
    };
    Asset::new(group.clone(), group, Details::Group(details))
}

pub(super) fn cron_entry(place: Place, revision: u32) -> Asset {
    let script = format!("/etc/cron.daily/{}-{}", stem(place.number), place.number);
    let details = CronEntryDetails {
        path: "/etc/crontab".to_owned(),
        schedule: format!("{} {} * * *", revision % 60, place.dice().below(24)),
        user: "root".to_owned(),
        script: script.clone(),
    };
    Asset::new(script.clone(), script, Details::CronEntry(details))
}
