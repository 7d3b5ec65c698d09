//! The bill of materials against the schema of CycloneDX and the rules of
//! package URLs, as the libraries of their makers have them.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Prints every problem of the file that it is given.
const VALIDATE: &str = r#"
import json, sys
from cyclonedx.validation.json import JsonStrictValidator
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL
text = open(sys.argv[1], encoding="utf-8").read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
if error: print(error)
for component in json.loads(text)["components"]:
    if "purl" not in component: continue
    purl = PackageURL.from_string(component["purl"])
    name, version = component["name"], component.get("version")
    if purl.type != "rpm": name = name.lower()
    elif "epoch" in purl.qualifiers: version = version.split(":", 1)[1]
    if (purl.name, purl.version) != (name, version): print(component["purl"], "is read as", purl.name, purl.version)
    # The library leaves a slash in qualifiers as it is, and writes hexadecimal
    # digits of names that have no case in lower case: both mean the same.
    if purl.to_string().lower() != component["purl"].lower().replace("%2f", "/"):
        print(component["purl"], "should be", purl.to_string())
"#;

/// A Python with `cyclonedx-python-lib[json-validation]`.
fn python() -> Option<String> {
    let python = std::env::var("ASSETTRACK_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = "import cyclonedx.validation.json, jsonschema, packageurl";
    match Command::new(&python).args(["-c", import]).output() {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            println!(
                "SKIPPED: {python} has no cyclonedx-python-lib[json-validation]; \
                ASSETTRACK_TEST_PYTHON names a Python that has it"
            );
            None
        }
    }
}

fn problems(python: &str, root: &Path, bill: &Path) -> String {
    let scan = Command::new(env!("CARGO_BIN_EXE_assettrack-agent"))
        .args(["scan", "--output", "cyclonedx", "--host-root", root.to_str().unwrap()])
        .output()
        .unwrap();
    fs::write(bill, &scan.stdout).unwrap();
    let validated = Command::new(python).args(["-c", VALIDATE, bill.to_str().unwrap()]).output().unwrap();
    assert!(validated.status.success(), "{}", String::from_utf8_lossy(&validated.stderr));
    String::from_utf8(validated.stdout).unwrap()
}

#[test]
fn the_bill_of_this_machine_is_valid() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bill = folder.path().join("bill.json");
    assert_eq!(problems(&python, Path::new("/"), &bill), "");
    // The validator must be able to say no.
    let broken = fs::read_to_string(&bill).unwrap().replacen("\"library\"", "\"book\"", 1);
    fs::write(&bill, broken).unwrap();
    let validated = Command::new(&python).args(["-c", VALIDATE, bill.to_str().unwrap()]).output().unwrap();
    assert!(!validated.stdout.is_empty());
}

#[test]
fn the_bill_of_odd_packages_is_valid() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for (path, text) in [
        (
            "lib/apk/db/installed",
            "P:a+b\nV:1~2:3@4%\nA:x86_64\nL:GPL-2.0-only AND MIT\nU:not a url\nT:\u{1}x\n\nP:c\nV:1\nL:Odd & own\nU:https://e.org/{x}\no:d\n",
        ),
        (
            "var/lib/dpkg/status",
            "Package: g++\nStatus: install ok installed\nArchitecture: all\nVersion: 4:12.2.0-3+b1\nSource: gcc-defaults (1.203)\nHomepage: https://e.org/?a=b#c\n\nPackage: none\nStatus: install ok installed\n",
        ),
        ("etc/os-release", "ID=\"odd os\"\nVERSION_ID=\"1/2\"\n"),
        ("proc/sys/kernel/hostname", "h\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    assert_eq!(problems(&python, &root, &folder.path().join("bill.json")), "");
}
