//! Which machine the node is and what it runs under.

use crate::host::HostRoot;
use crate::probe::{ProbeError, exists};

/// What tells which machine it is and what it runs under.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) vendor: String,
    pub(super) product: String,
    bios_vendor: String,
    container: Option<String>,
    hypervisor_type: Option<String>,
    clock_sources: String,
}

impl Machine {
    pub(super) fn read(host: &HostRoot) -> Result<Self, ProbeError> {
        let dmi = |name: &str| host.line(format!("sys/class/dmi/id/{name}")).unwrap_or_default();
        // As systemd-detect-virt: the container's manager says it, or leaves a mark.
        let mut container = host.line("run/systemd/container");
        for (path, name) in [("run/.containerenv", "podman"), (".dockerenv", "docker")] {
            if container.is_none() && exists(host, path)? {
                container = Some(name.to_owned());
            }
        }
        Ok(Self {
            vendor: dmi("sys_vendor"),
            product: dmi("product_name"),
            bios_vendor: dmi("bios_vendor"),
            container,
            hypervisor_type: host.line("sys/hypervisor/type"),
            clock_sources: host
                .line("sys/devices/system/clocksource/clocksource0/available_clocksource")
                .unwrap_or_default(),
        })
    }

    /// The names are those of systemd-detect-virt(1). `hypervisor`: whether the
    /// processor says that it is virtual; `None` where processors do not tell.
    pub(super) fn virtualization(&self, hypervisor: Option<bool>) -> &str {
        if let Some(container) = &self.container {
            return container;
        }
        // src/basic/virt.c of systemd: texts of DMI and what they stand for.
        let vendors = [
            ("KVM", "kvm"),
            ("OpenStack", "kvm"),
            ("KubeVirt", "kvm"),
            ("Amazon EC2", "amazon"),
            ("QEMU", "qemu"),
            ("VMware", "vmware"),
            ("VMW", "vmware"),
            ("innotek GmbH", "oracle"),
            ("VirtualBox", "oracle"),
            ("Xen", "xen"),
            ("Bochs", "bochs"),
            ("Parallels", "parallels"),
            ("BHYVE", "bhyve"),
            ("Hyper-V", "microsoft"),
            ("Virtual Machine", "microsoft"),
            ("Apple Virtualization", "apple"),
            ("Google Compute Engine", "google"),
        ];
        let by_clock = if self.clock_sources.contains("kvm-clock") {
            Some("kvm")
        } else if self.clock_sources.contains("hyperv") {
            Some("microsoft")
        } else {
            None
        };
        let by_dmi = vendors.iter().find(|(text, _)| {
            [&self.product, &self.vendor, &self.bios_vendor].iter().any(|field| field.starts_with(text))
        });
        match (by_dmi, hypervisor) {
            // A metal machine of a cloud names the cloud, too.
            (_, Some(false)) if self.hypervisor_type.is_none() => "none",
            // QEMU's machine with KVM's clock is a KVM guest.
            (Some((_, "qemu")), _) if by_clock == Some("kvm") => "kvm",
            (Some((_, name)), _) => name,
            (None, _) if self.hypervisor_type.as_deref() == Some("xen") => "xen",
            (None, Some(true)) => by_clock.unwrap_or("vm-other"),
            (None, _) => by_clock.unwrap_or(if self.vendor.is_empty() { "" } else { "none" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_it_runs_under() {
        let machine = |vendor: &str, product: &str, clock: &str| Machine {
            vendor: vendor.into(),
            product: product.into(),
            clock_sources: clock.into(),
            ..Default::default()
        };
        for (machine, hypervisor, expected) in [
            (machine("Dell Inc.", "PowerEdge R640", "tsc hpet"), Some(false), "none"),
            (machine("Amazon EC2", "m5.metal", "tsc"), Some(false), "none"),
            (machine("Amazon EC2", "m5.large", "tsc"), Some(true), "amazon"),
            (machine("QEMU", "Standard PC", "kvm-clock tsc"), Some(true), "kvm"),
            (machine("QEMU", "Standard PC", "tsc"), Some(true), "qemu"),
            (machine("Microsoft Corporation", "Virtual Machine", ""), Some(true), "microsoft"),
            (machine("", "", "kvm-clock tsc"), Some(true), "kvm"),
            (machine("", "", "tsc"), Some(true), "vm-other"),
            (machine("Ampere", "Mt. Jade", "arch_sys_counter"), None, "none"),
            (machine("", "", ""), None, ""),
            (Machine { container: Some("docker".into()), ..Default::default() }, Some(true), "docker"),
        ] {
            assert_eq!(machine.virtualization(hypervisor), expected, "{machine:?}");
        }
    }
}
