//! A test alone in namespaces of its own: what it mounts and makes there ends
//! with it, and it is the process 1 whose view the probes take for the node's.

use std::process::Command;

/// Says to a child of a test which part of it to play.
pub const PART: &str = "ASSETTRACK_TEST_PART";

/// Runs the test of this name as process 1 of its own network, mount and
/// process namespaces, with `PART` set to `inside`. False after saying SKIPPED
/// where that is not allowed.
pub fn in_own_namespaces(test: &str) -> bool {
    let shell = "mount -t sysfs sysfs /sys && exec \"$0\" --exact \"$1\" --nocapture";
    let namespaces = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let output = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", shell])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(PART, "inside")
        .output();
    let Ok(output) = output else {
        println!("SKIPPED: no unshare here");
        return false;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    print!("{said}");
    if !said.contains("running 1 test") {
        println!("SKIPPED: no namespaces of its own for this test: {}", complained.trim());
        return false;
    }
    assert!(output.status.success(), "{said}{complained}");
    true
}
