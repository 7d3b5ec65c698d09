//! System, boards and enclosure: `/sys/class/dmi/id`, completed by SMBIOS
//! (DSP0134); the devicetree on machines that have neither.
//!
//! The first baseboard has the key `baseboard` whoever looks; further ones are
//! told by SMBIOS alone, which takes root.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use contracts::v1::{BoardDetails, asset_details::Details};

use super::smbios::{Structure, Table, unless_placeholder};
use super::sysfs::attribute;
use super::{ProbeError, Scan};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) const WATCHED: &[&str] = &[];

const DMI: &str = "sys/class/dmi/id";
const DEVICETREE: &str = "sys/firmware/devicetree/base";

/// "System Information" (7.2), "Baseboard Information" (7.3), "System Enclosure
/// or Chassis" (7.4).
const SYSTEM: u8 = 1;
const BASEBOARD: u8 = 2;
const CHASSIS: u8 = 3;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut denied = BTreeSet::new();
    let (table, refused) = table_if_allowed(host)?;
    denied.extend(refused);
    let by_smbios = decode(&table);
    let mut boards = Vec::new();
    for (board_type, prefix) in [("system", "product"), ("baseboard", "board"), ("chassis", "chassis")] {
        let mut board = read_board(host, board_type, prefix, &mut denied)?;
        if let Some((_, details)) = by_smbios.iter().find(|(key, _)| key == board_type) {
            complete(&mut board, details);
        }
        boards.push((board_type.to_owned(), board));
    }
    boards.extend(by_smbios.into_iter().filter(|(key, _)| key.starts_with("baseboard/")));
    boards.retain(|(_, board)| is_described(board));
    if boards.is_empty() {
        boards.extend(devicetree(host)?.map(|board| ("system".to_owned(), board)));
    }
    let mut scan = Scan { warnings: table.damage().into_iter().collect(), ..Scan::default() };
    for (key, board) in boards {
        let name = format!("{} {}", board.vendor, board.product).trim().to_owned();
        scan.assets.push(ScannedAsset::new(key, name, Details::Board(board)));
    }
    if !denied.is_empty() {
        let paths: Vec<String> = denied.into_iter().collect();
        scan.warnings.push(format!("{}: permission denied, needs root", paths.join(", ")));
    }
    Ok(scan)
}

/// The structure table; without root an empty one and the path that is refused.
pub(super) fn table_if_allowed(host: &HostRoot) -> Result<(Table, Option<String>), ProbeError> {
    match Table::read(host) {
        Ok(table) => Ok((table, None)),
        Err(ProbeError::Read { path, source }) if source.kind() == ErrorKind::PermissionDenied => {
            Ok((Table::default(), Some(path)))
        }
        Err(error) => Err(error),
    }
}

/// What the kernel keeps of the first structure of a type. Numbers that tell one
/// machine from another are for root alone.
fn read_board(
    host: &HostRoot,
    board_type: &str,
    prefix: &str,
    denied: &mut BTreeSet<String>,
) -> Result<BoardDetails, ProbeError> {
    let open = |name: &str| attribute(host, &format!("{DMI}/{name}"));
    let mut guarded = |name: &str| match open(name) {
        Err(ProbeError::Read { path, source }) if source.kind() == ErrorKind::PermissionDenied => {
            denied.insert(path);
            Ok(String::new())
        }
        other => other,
    };
    let serial = unless_placeholder(guarded(&format!("{prefix}_serial"))?);
    let mut board = BoardDetails { r#type: board_type.to_owned(), serial, ..BoardDetails::default() };
    board.version = open(&format!("{prefix}_version"))?;
    if board_type == "system" {
        board.vendor = open("sys_vendor")?;
        board.product = open("product_name")?;
        board.sku = unless_placeholder(open("product_sku")?);
        board.uuid = guarded("product_uuid")?.to_lowercase();
    } else {
        board.vendor = open(&format!("{prefix}_vendor"))?;
        board.asset_tag = unless_placeholder(open(&format!("{prefix}_asset_tag"))?);
    }
    if board_type == "baseboard" {
        board.product = open("board_name")?;
    }
    if board_type == "chassis" {
        board.chassis_type = chassis_type(open("chassis_type")?.parse().unwrap_or(0)).to_owned();
    }
    Ok(board)
}

/// Keys and details of what SMBIOS describes: the first system, all baseboards,
/// the first chassis.
pub(super) fn decode(table: &Table) -> Vec<(String, BoardDetails)> {
    let mut boards: Vec<(String, BoardDetails)> = Vec::new();
    let mut baseboards = 0;
    for structure in table.structures() {
        let (key, board) = match structure.kind {
            SYSTEM => ("system".to_owned(), decode_system(table, &structure)),
            BASEBOARD => {
                baseboards += 1;
                let key =
                    if baseboards == 1 { "baseboard".to_owned() } else { format!("baseboard/{baseboards}") };
                (key, decode_baseboard(&structure))
            }
            CHASSIS => ("chassis".to_owned(), decode_chassis(&structure)),
            _ => continue,
        };
        if !boards.iter().any(|(known, _)| *known == key) {
            boards.push((key, board));
        }
    }
    boards
}

fn decode_system(table: &Table, structure: &Structure<'_>) -> BoardDetails {
    BoardDetails {
        r#type: "system".to_owned(),
        vendor: structure.text(0x04),
        product: structure.text(0x05),
        version: structure.text(0x06),
        serial: unless_placeholder(structure.text(0x07)),
        uuid: table.uuid(structure, 0x08),
        sku: unless_placeholder(structure.text(0x19)),
        ..BoardDetails::default()
    }
}

fn decode_baseboard(structure: &Structure<'_>) -> BoardDetails {
    BoardDetails {
        r#type: "baseboard".to_owned(),
        vendor: structure.text(0x04),
        product: structure.text(0x05),
        version: structure.text(0x06),
        serial: unless_placeholder(structure.text(0x07)),
        asset_tag: unless_placeholder(structure.text(0x08)),
        ..BoardDetails::default()
    }
}

fn decode_chassis(structure: &Structure<'_>) -> BoardDetails {
    // The SKU stands behind the elements that the chassis holds, of a length that
    // the structure states (7.4, offset 15h + n * m).
    let elements = usize::from(structure.byte(0x13).unwrap_or(0));
    let element_bytes = usize::from(structure.byte(0x14).unwrap_or(0));
    BoardDetails {
        r#type: "chassis".to_owned(),
        vendor: structure.text(0x04),
        // Bit 7 says whether it can be locked.
        chassis_type: chassis_type(u64::from(structure.byte(0x05).unwrap_or(0) & 0x7f)).to_owned(),
        version: structure.text(0x06),
        serial: unless_placeholder(structure.text(0x07)),
        asset_tag: unless_placeholder(structure.text(0x08)),
        sku: unless_placeholder(structure.text(0x15 + elements * element_bytes)),
        ..BoardDetails::default()
    }
}

/// Whether anything but its type is said of it.
fn is_described(board: &BoardDetails) -> bool {
    *board != BoardDetails { r#type: board.r#type.clone(), ..BoardDetails::default() }
}

fn complete(board: &mut BoardDetails, other: &BoardDetails) {
    for (field, text) in [
        (&mut board.vendor, &other.vendor),
        (&mut board.product, &other.product),
        (&mut board.version, &other.version),
        (&mut board.serial, &other.serial),
        (&mut board.sku, &other.sku),
        (&mut board.asset_tag, &other.asset_tag),
        (&mut board.uuid, &other.uuid),
        (&mut board.chassis_type, &other.chassis_type),
    ] {
        if field.is_empty() {
            field.clone_from(text);
        }
    }
}

/// The board of a machine with a devicetree (Devicetree Specification, 2.3): its
/// model, and its maker from `compatible`, such as `raspberrypi,4-model-b`.
fn devicetree(host: &HostRoot) -> Result<Option<BoardDetails>, ProbeError> {
    let product = attribute(host, &format!("{DEVICETREE}/model"))?;
    if product.is_empty() {
        return Ok(None);
    }
    let compatible = attribute(host, &format!("{DEVICETREE}/compatible"))?;
    let vendor = compatible.split_once(',').map(|(vendor, _)| vendor.to_owned()).unwrap_or_default();
    let serial = attribute(host, &format!("{DEVICETREE}/serial-number"))?;
    let system = BoardDetails { r#type: "system".to_owned(), vendor, product, serial, ..Default::default() };
    Ok(Some(system))
}

/// "System Enclosure or Chassis Types" (7.4.1); empty for what says nothing.
fn chassis_type(number: u64) -> &'static str {
    const TYPES: [&str; 37] = [
        "",
        "Other",
        "",
        "Desktop",
        "Low Profile Desktop",
        "Pizza Box",
        "Mini Tower",
        "Tower",
        "Portable",
        "Laptop",
        "Notebook",
        "Hand Held",
        "Docking Station",
        "All In One",
        "Sub Notebook",
        "Space-saving",
        "Lunch Box",
        "Main Server Chassis",
        "Expansion Chassis",
        "Sub Chassis",
        "Bus Expansion Chassis",
        "Peripheral Chassis",
        "RAID Chassis",
        "Rack Mount Chassis",
        "Sealed-case PC",
        "Multi-system",
        "CompactPCI",
        "AdvancedTCA",
        "Blade",
        "Blade Enclosing",
        "Tablet",
        "Convertible",
        "Detachable",
        "IoT Gateway",
        "Embedded PC",
        "Mini PC",
        "Stick PC",
    ];
    usize::try_from(number).ok().and_then(|number| TYPES.get(number)).copied().unwrap_or("")
}

#[cfg(test)]
mod tests;
