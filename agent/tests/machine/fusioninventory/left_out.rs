//! What FusionInventory lists and our inventory does not have, with the reason.

use super::Item;
use crate::network::interfaces_to_containers;
use crate::storage::is_of_a_container;

/// Why a whole section is left out.
pub fn section(section: &str) -> Option<&'static str> {
    const SECTIONS: &[(&str, &str)] = &[
        ("ACCESSLOG", "is of the tool itself"),
        ("VERSIONCLIENT", "is of the tool itself"),
        ("VERSIONPROVIDER", "is of the tool itself"),
        ("RUDDER", "is of another agent"),
        ("ENVS", "values of environment variables may be secrets"),
        ("PROCESSES", "arguments may be secrets, and processes come and go"),
        ("USERS", "who is logged in comes and goes, and is personal"),
        ("FIREWALL", "whether a service runs is volatile; its unit and its package are recorded"),
        ("VIDEOS", "is from the log of an X server; the card is a PCI device and an accelerator"),
        ("VIRTUALMACHINES", "guests are nodes of their own; containers are compared with their runtime"),
        ("PHYSICAL_VOLUMES", "LVM's metadata is not read; members of volumes are recorded"),
        ("VOLUME_GROUPS", "LVM's metadata is not read; the group is recorded with each volume"),
        ("INPUTS", "no kind of asset: keyboards and mice; USB devices are recorded"),
        ("MONITORS", "no kind of asset: nodes have none"),
        ("PRINTERS", "no kind of asset: nodes have none"),
        ("BATTERIES", "no kind of asset: nodes have none"),
        ("POWERSUPPLIES", "no kind of asset; is asked of a controller by IPMI, or of SMBIOS"),
        ("PORTS", "no kind of asset: sockets in the case, as SMBIOS names them"),
        ("SLOTS", "no kind of asset: slots, empty ones too; what is in them is a PCI device"),
        ("REMOTE_MGMT", "identities for remote control are secrets; the packages are recorded"),
        ("ANTIVIRUS", "is of Windows"),
        ("LICENSEINFOS", "is of Windows, and keys are secrets"),
        ("REGISTRY", "is of Windows"),
    ];
    SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, reason)| *reason)
}

/// Why an item of a section is left out.
pub fn item(section: &str, item: &Item) -> Option<&'static str> {
    let get = |field: &str| item.get(field).map_or("", |values| values[0].as_str());
    match section {
        "SOFTWARES" if !["deb", "rpm"].contains(&get("FROM")) => {
            Some("only the databases of dpkg, rpm and apk are read")
        }
        "MEMORIES" if get("CAPACITY").is_empty() => Some("an empty slot is no asset"),
        "STORAGES" if get("TYPE").starts_with("cd") || get("NAME").starts_with("fd") => {
            Some("drives for media hold no data of their own")
        }
        "STORAGES" if ["", "0"].contains(&get("DISKSIZE")) => Some("a drive without a medium"),
        "STORAGES" if get("NAME").starts_with("sg") => {
            Some("is behind a RAID controller, which shows the kernel no block device")
        }
        "DRIVES" if is_of_a_container(get("TYPE")) => Some("is a container's and not the node's"),
        // df's columns are parted by blanks.
        "DRIVES" if !get("TYPE").starts_with('/') => Some("a blank in a name confuses it"),
        "NETWORKS" if interfaces_to_containers().contains(super::sections::interface(get("DESCRIPTION"))) => {
            Some("is the near end of a container's")
        }
        // Fifth letter of lv_attr (lvs(8)).
        "LOGICAL_VOLUMES" if get("ATTR").as_bytes().get(4) != Some(&b'a') => {
            Some("is not active, so the kernel has no such device")
        }
        _ => None,
    }
}

/// Why a field is left out.
pub fn field(section: &str, field: &str) -> Option<&'static str> {
    const FIELDS: &[(&str, &[&str], &str)] = &[
        ("OPERATINGSYSTEM", &["KERNEL_NAME"], "all nodes run Linux"),
        ("OPERATINGSYSTEM", &["FQDN", "DNS_DOMAIN"], "is what a resolver answers, and not the node's"),
        ("OPERATINGSYSTEM", &["HOSTID"], "hostid(1) makes it of an address; the machine ID names the node"),
        ("OPERATINGSYSTEM", &["INSTALL_DATE"], "is guessed by the age of files"),
        ("OPERATINGSYSTEM", &["SSH_KEY"], "public keys of SSH are not recorded"),
        ("OPERATINGSYSTEM", &["SERVICE_PACK"], "is of Windows, or in the version"),
        ("HARDWARE", &["CHECKSUM", "ETIME"], "is of the tool itself"),
        ("HARDWARE", &["LASTLOGGEDUSER", "DATELASTLOGGEDUSER", "USERID", "USERDOMAIN"], "is personal"),
        ("HARDWARE", &["WINPRODID"], "is the identity at a support service"),
        ("HARDWARE", &["TYPE", "DESCRIPTION"], "no probe of it for Linux fills it but on old hardware"),
        ("HARDWARE", &["VMNAME", "VMHOSTSERIAL"], "the host is another machine"),
        ("HARDWARE", &["PROCESSORS"], "the rate is part of the processor's name"),
        ("BIOS", &["TYPE", "ENCLOSURESERIAL", "BIOSSERIAL"], "repeats others"),
        ("CPUS", &["ARCH"], "is the family of the tool's own modules; the architecture is the node's"),
        (
            "CPUS",
            &["SPEED", "EXTERNAL_CLOCK"],
            "the nominal rate is part of the name, the highest is recorded",
        ),
        ("CPUS", &["ID", "FAMILYNAME"], "is what family, model and stepping say"),
        ("CPUS", &["CORECOUNT"], "counts cores that are disabled"),
        ("CPUS", &["SERIAL"], "processors have none since the Pentium III; fillers stand there"),
        ("CPUS", &["CACHE", "DESCRIPTION"], "is of other systems; caches are recorded"),
        ("MEMORIES", &["NUMSLOTS"], "is a running number; the slot has a name"),
        ("CONTROLLERS", &["NAME"], "is the device's name, or that of the card by its subsystem's ID"),
        ("DRIVES", &["FREE"], "is volatile"),
        ("DRIVES", &["CREATEDATE"], "is in the superblock, which root alone may read"),
        (
            "DRIVES",
            &["ENCRYPT_NAME", "ENCRYPT_ALGO", "ENCRYPT_STATUS"],
            "the volume below is of type `crypt`",
        ),
        ("STORAGES", &["DESCRIPTION", "INTERFACE"], "is guessed by the name; the transport is recorded"),
        ("STORAGES", &["TYPE"], "is told by `removable`"),
        ("STORAGES", &["SCSI_COID", "SCSI_CHID", "SCSI_UNID", "SCSI_LUN"], "is a place, which may change"),
        ("NETWORKS", &["IPSUBNET", "IPSUBNET6"], "is what address and mask say"),
        ("NETWORKS", &["IPDHCP"], "is in the lease of whichever DHCP client"),
        ("NETWORKS", &["WIFI_BSSID", "WIFI_SSID", "WIFI_MODE", "WIFI_VERSION"], "comes and goes"),
        ("NETWORKS", &["MANAGEMENT"], "is of a controller that is another machine"),
        (
            "NETWORKS",
            &["FIRMWARE", "MODEL", "MANUFACTURER", "WWN"],
            "is of storage adapters; they are PCI devices",
        ),
        (
            "USBDEVICES",
            &["CLASS", "SUBCLASS"],
            "is a number of the last interface; the class is recorded by name",
        ),
        (
            "USBDEVICES",
            &["MANUFACTURER", "CAPTION", "NAME"],
            "what the device says goes before a list of names",
        ),
        ("SOFTWARES", &["INSTALLDATE"], "only rpm has it"),
        ("SOFTWARES", &["PUBLISHER"], "is the distribution for dpkg; maintainers are recorded"),
        ("LOCAL_USERS", &["NAME"], "real names are personal"),
        ("LOGICAL_VOLUMES", &["ATTR", "SEG_COUNT"], "is a part of how LVM keeps it"),
        ("SOUNDS", &["MANUFACTURER", "DESCRIPTION", "CAPTION"], "is of a PCI device, which is compared"),
        ("MODEMS", &["NAME", "TYPE", "MODEL"], "is of a PCI device, which is compared"),
    ];
    FIELDS
        .iter()
        .find(|(name, fields, _)| *name == section && fields.contains(&field))
        .map(|(_, _, reason)| *reason)
}
