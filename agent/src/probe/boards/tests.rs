use super::*;
use crate::probe::smbios::written::structure;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn boards(root: &Path) -> (Vec<(String, BoardDetails)>, Vec<String>) {
    let scan = scan(&HostRoot::new(root).unwrap()).unwrap();
    let board = |asset: ScannedAsset| match asset.details {
        Details::Board(board) => (asset.natural_key, board),
        other => panic!("no board: {other:?}"),
    };
    (scan.assets.into_iter().map(board).collect(), scan.warnings)
}

fn kernel_files(root: &Path) {
    for (name, text) in [
        ("sys_vendor", "Dell Inc."),
        ("product_name", "PowerEdge R640"),
        ("product_serial", "ABC1234"),
        ("product_uuid", "4C4C4544-0042-4310-8031-C2C04F313233"),
        ("product_sku", "SKU=0716"),
        ("board_vendor", "Dell Inc."),
        ("board_name", "0W23H8"),
        ("board_version", "A02"),
        ("board_serial", ".ABC1234.CNFCP0012345."),
        ("chassis_vendor", "Dell Inc."),
        ("chassis_type", "23"),
        ("chassis_serial", "To Be Filled By O.E.M."),
        ("chassis_asset_tag", "RACK-7"),
    ] {
        write(root, &format!("sys/class/dmi/id/{name}"), format!("{text}\n").as_bytes());
    }
}

#[test]
fn reads_what_the_kernel_keeps() {
    let root = tempfile::tempdir().unwrap();
    kernel_files(root.path());
    let (boards, warnings) = boards(root.path());
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        boards.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["system", "baseboard", "chassis"]
    );
    let system = BoardDetails {
        r#type: "system".into(),
        vendor: "Dell Inc.".into(),
        product: "PowerEdge R640".into(),
        serial: "ABC1234".into(),
        sku: "SKU=0716".into(),
        uuid: "4c4c4544-0042-4310-8031-c2c04f313233".into(),
        ..Default::default()
    };
    assert_eq!(boards[0].1, system);
    assert_eq!(boards[1].1.serial, ".ABC1234.CNFCP0012345.");
    assert_eq!(boards[2].1.chassis_type, "Rack Mount Chassis");
    assert_eq!((boards[2].1.serial.as_str(), boards[2].1.asset_tag.as_str()), ("", "RACK-7"));
}

#[test]
fn further_baseboards_are_those_of_smbios() {
    let root = tempfile::tempdir().unwrap();
    kernel_files(root.path());
    let mut table = structure(2, 1, &[1, 2, 0, 3, 0], &["Dell Inc.", "0W23H8", "S1"]);
    table.extend(structure(2, 2, &[1, 2, 0, 3, 0], &["Dell Inc.", "Riser", "S2"]));
    table.extend(structure(3, 3, &[1, 0x97, 2, 0, 0], &["Other", "V1"]));
    write(root.path(), "sys/firmware/dmi/tables/DMI", &table);
    let (boards, _) = boards(root.path());
    let keys: Vec<&str> = boards.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["system", "baseboard", "chassis", "baseboard/2"]);
    assert_eq!(boards[1].1.serial, ".ABC1234.CNFCP0012345.", "the kernel's word counts");
    assert_eq!((boards[2].1.vendor.as_str(), boards[2].1.version.as_str()), ("Dell Inc.", "V1"));
    assert_eq!((boards[3].1.product.as_str(), boards[3].1.serial.as_str()), ("Riser", "S2"));
}

#[test]
fn the_sku_of_a_chassis_is_behind_its_elements() {
    let mut fields = vec![0; 0x15 - 4];
    (fields[0], fields[1], fields[0x13 - 4], fields[0x14 - 4]) = (1, 0x91, 2, 3);
    fields.extend([0, 0, 0, 0, 0, 0, 2]);
    let table = Table::new(structure(3, 0, &fields, &["Maker", "SKU-1"]), b"");
    let (_, chassis) = decode(&table).remove(0);
    assert_eq!((chassis.sku.as_str(), chassis.chassis_type.as_str()), ("SKU-1", "Main Server Chassis"));
}

#[test]
fn without_root_the_numbers_are_missing_and_it_says_so() {
    let probe = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(probe.path(), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(probe.path()).is_ok() {
        // Root may read everything: ask again as nobody would.
        return as_nobody("probe::boards::tests::without_root_the_numbers_are_missing_and_it_says_so");
    }
    let root = tempfile::tempdir().unwrap();
    kernel_files(root.path());
    for name in ["product_serial", "product_uuid", "board_serial", "chassis_serial"] {
        let path = root.path().join("sys/class/dmi/id").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    write(root.path(), "sys/firmware/dmi/tables/DMI", b"");
    let table = root.path().join("sys/firmware/dmi/tables/DMI");
    fs::set_permissions(table, fs::Permissions::from_mode(0o000)).unwrap();
    let (boards, warnings) = boards(root.path());
    assert_eq!(boards.len(), 3);
    assert_eq!((boards[0].1.product.as_str(), boards[0].1.serial.as_str()), ("PowerEdge R640", ""));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].ends_with("permission denied, needs root"), "{warnings:?}");
    assert!(warnings[0].contains("product_uuid") && warnings[0].contains("tables/DMI"), "{warnings:?}");
}

/// Runs one test of this program again without privileges.
fn as_nobody(test: &str) {
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let status = std::process::Command::new(&program)
        .args(["--exact", test])
        .env("TMPDIR", folder.path())
        .uid(65534)
        .gid(65534)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn an_arm_board_is_that_of_its_devicetree() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "sys/firmware/devicetree/base/model", b"Raspberry Pi 4 Model B Rev 1.4\0");
    write(root.path(), "sys/firmware/devicetree/base/compatible", b"raspberrypi,4-model-b\0brcm,bcm2711\0");
    write(root.path(), "sys/firmware/devicetree/base/serial-number", b"10000000abcdef01\0");
    let (boards, warnings) = boards(root.path());
    assert_eq!((boards.len(), warnings.len()), (1, 0));
    let board = &boards[0].1;
    assert_eq!(
        (board.vendor.as_str(), board.product.as_str()),
        ("raspberrypi", "Raspberry Pi 4 Model B Rev 1.4")
    );
    assert_eq!(board.serial, "10000000abcdef01");
}
