//! The agent's program as an operator meets it: wrong settings, a second
//! agent, an inventory without broker and store.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use testkit::{Service, free_address};

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assettrack-agent"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ASSETTRACK_") {
            command.env_remove(name);
        }
    }
    command.args(args).envs(env.iter().copied()).output().unwrap()
}

fn error_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn a_wrong_setting_is_one_line_that_names_it_and_status_64() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    let any = "127.0.0.1:0";
    let url = ("ASSETTRACK_AMQP_URL", "amqp://guest:hunter2@127.0.0.1:1");
    for (args, env, named) in [
        (&["--machine-id", "0123456789"][..], &[][..], "ASSETTRACK_AMQP_URL"),
        (&["--machine-id", "0123456789"], &[("ASSETTRACK_AMQP_URL", "http://x")], "ASSETTRACK_AMQP_URL"),
        (&["--host-root", root], &[url], "ASSETTRACK_MACHINE_ID"),
        // Not a folder that a file can be made in.
        (
            &[
                "--machine-id",
                "0123456789",
                "--store-dir",
                "/proc",
                "--admin-address",
                any,
                "--grpc-address",
                any,
            ],
            &[url],
            "--store-dir (ASSETTRACK_STORE_DIR): cannot use /proc",
        ),
        (&["--host-root", "/nowhere/at/all"], &[url], "ASSETTRACK_HOST_ROOT"),
        (&["--scan-interval-seconds", "0"], &[url], "ASSETTRACK_SCAN_INTERVAL_SECONDS"),
        (&[], &[url, ("ASSETTRACK_OUTBOX_LIMIT_BYTES", "7")], "ASSETTRACK_OUTBOX_LIMIT_BYTES"),
        (&["scan", "--output", "xml"], &[], "--output"),
    ] {
        let output = run(args, env);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        let line = error_line(&output);
        assert!(line.contains(named) && !line.contains("hunter2"), "{args:?}: {line}");
    }
}

#[test]
fn an_inventory_needs_neither_broker_nor_store() {
    let output = run(
        &["scan", "--output", "json"],
        &[("ASSETTRACK_CLUSTER", "any"), ("ASSETTRACK_STORE_DIR", "/proc")],
    );
    assert!(output.status.success(), "{output:?}");
    let assets: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<&str> =
        assets.as_array().unwrap().iter().map(|asset| asset["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"ASSET_KIND_NODE") && kinds.contains(&"ASSET_KIND_NETWORK_INTERFACE"));
    let table = run(&["scan"], &[]);
    let lines = String::from_utf8(table.stdout).unwrap().lines().count();
    // Sockets may come and go between the two.
    assert!(lines.abs_diff(kinds.len() + 1) < 50, "{lines} lines, {} assets", kinds.len());
}

#[test]
fn a_root_where_nothing_can_be_found_is_said() {
    let root = tempfile::tempdir().unwrap();
    let output = run(&["scan", "--host-root", root.path().to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("disks: cannot read sys/block"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_agent_on_one_store_ends_and_the_first_goes_on() {
    let store = tempfile::tempdir().unwrap();
    let agent = |admin, grpc| {
        Service::new("assettrack-agent")
            .env("ASSETTRACK_AMQP_URL", "amqp://127.0.0.1:1")
            .env("ASSETTRACK_MACHINE_ID", "0123456789")
            .env("ASSETTRACK_STORE_DIR", &store.path().display())
            .env("ASSETTRACK_ADMIN_ADDRESS", &admin)
            .env("ASSETTRACK_GRPC_ADDRESS", &grpc)
    };
    let soon = Duration::from_secs(20);
    let admin = free_address().await;
    let mut first = agent(admin, free_address().await);
    first.start();
    first.ready(admin, soon).await;
    let mut second = agent(free_address().await, free_address().await);
    second.start();
    second.logged("is in use by another agent", soon).await;
    testkit::wait_until(soon, "the second to end", async || !second.is_running()).await;
    assert!(second.log().contains("--store-dir (ASSETTRACK_STORE_DIR): "), "{}", second.log());
    assert!(first.is_running());
    assert!(first.stop(soon).await.success());
    assert!(fs::metadata(store.path().join("store.redb")).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_running_agent_has_one_heap_in_the_same_process() {
    let store = tempfile::tempdir().unwrap();
    let admin = free_address().await;
    let mut agent = Service::new("assettrack-agent")
        .env("ASSETTRACK_AMQP_URL", "amqp://127.0.0.1:1")
        .env("ASSETTRACK_MACHINE_ID", "0123456789")
        .env("ASSETTRACK_STORE_DIR", &store.path().display())
        .env("ASSETTRACK_ADMIN_ADDRESS", &admin)
        .env("ASSETTRACK_GRPC_ADDRESS", &free_address().await);
    agent.start();
    agent.ready(admin, Duration::from_secs(20)).await;
    let proc = |file: &str| fs::read(format!("/proc/{}/{file}", agent.id())).unwrap();
    let environment = proc("environ");
    let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
    assert_eq!(variables.iter().filter(|variable| **variable == b"MALLOC_ARENA_MAX=1").count(), 1);
    assert!(variables.contains(&&b"ASSETTRACK_MACHINE_ID=0123456789"[..]), "the settings are still there");
    // The kernel keeps 15 bytes of a program's name.
    assert_eq!(proc("comm"), b"assettrack-agen\n");
}
