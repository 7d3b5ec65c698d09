//! The binary, as it is run.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use rand::RngExt;
use testkit::{Seed, amqp_url, free_address, namespace, wait_until};
use tokio::process::{Child, Command};

use crate::{
    fixture::{DEADLINE, wait_for_batches},
    processor::Processor,
    published::{Publisher, batch},
};

fn command(namespace: &str, processor: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assettrack-collector"));
    command
        .env("ASSETTRACK_AMQP_URL", amqp_url())
        .env("ASSETTRACK_QUEUE_NAMESPACE", namespace)
        .env("ASSETTRACK_PROCESSOR_URL", processor)
        .env("ASSETTRACK_GRPC_ADDRESS", "127.0.0.1:0")
        .env("ASSETTRACK_ADMIN_ADDRESS", "127.0.0.1:0")
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn ended(child: Child) -> Output {
    tokio::time::timeout(DEADLINE, child.wait_with_output()).await.expect("it ends").unwrap()
}

/// kill -9 while events flow, again and again: in the end everything is
/// committed, as it was sent. What was committed and not yet acknowledged comes
/// again and is known as a duplicate.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_events_flow_nothing_is_lost() {
    let (url, namespace, processor) = (amqp_url(), namespace(), Processor::default());
    let running = processor.start().await;
    let start = || command(&namespace, &running.url()).stderr(Stdio::null()).spawn().unwrap();
    let mut child = start();
    let publisher = Publisher::connect(&url, &namespace).await;
    wait_until(DEADLINE, "the first heartbeat call", async || !processor.seen().heartbeats.is_empty()).await;

    let mut rng = Seed::draw().rng();
    let mut sent = Vec::new();
    for round in 1..=8 {
        let before = processor.seen().committed.len();
        for n in 0..40 {
            sent.push(batch(n, round, 20));
            publisher.batch(sent.last().unwrap()).await;
        }
        // Somewhere on the way through them.
        let some = before + rng.random_range(0..40);
        wait_until(DEADLINE, "some of them", async || processor.seen().committed.len() >= some).await;
        child.start_kill().unwrap();
        child.wait().await.unwrap();
        child = start();
    }
    wait_for_batches(&processor, &sent).await;
    wait_until(DEADLINE, "empty queues", async || publisher.depth(4).await == 0).await;
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_well() {
    let (namespace, processor) = (namespace(), Processor::default());
    let running = processor.start().await;
    let child = command(&namespace, &running.url()).spawn().unwrap();
    wait_until(DEADLINE, "the first heartbeat call", async || !processor.seen().heartbeats.is_empty()).await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = ended(child).await;
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{')), "one JSON object a line: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_is_one_line_and_status_64() {
    let taken = testkit::listener().await;
    let taken = taken.local_addr().unwrap().to_string();
    let table = [
        ("ASSETTRACK_AMQP_URL", "http://x", "ASSETTRACK_AMQP_URL"),
        ("ASSETTRACK_AMQP_URL", "", "ASSETTRACK_AMQP_URL"),
        ("ASSETTRACK_QUEUES", "65", "ASSETTRACK_QUEUES"),
        ("ASSETTRACK_PROCESSOR_URL", "ftp://x", "ASSETTRACK_PROCESSOR_URL"),
        ("ASSETTRACK_GRPC_ADDRESS", taken.as_str(), "ASSETTRACK_GRPC_ADDRESS"),
        ("ASSETTRACK_LOG_FILTER", "=", "ASSETTRACK_LOG_FILTER"),
    ];
    for (variable, value, named) in table {
        let nowhere = format!("http://{}", free_address().await);
        let child = command("never", &nowhere).env(variable, value).spawn().unwrap();
        let output = ended(child).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{variable}={value}: {text}");
        assert_eq!(text.lines().count(), 1, "{variable}={value}: {text}");
        assert!(text.contains(named), "{variable}={value}: {text}");
    }
}

/// Without a broker it runs, says so, and connects as soon as there is one.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_it_waits() {
    let processor = Processor::default();
    let running = processor.start().await;
    let (broker, admin) = (free_address().await, free_address().await);
    let _child = command("never", &running.url())
        .env("ASSETTRACK_AMQP_URL", format!("amqp://{broker}"))
        .env("ASSETTRACK_ADMIN_ADDRESS", admin.to_string())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until(Duration::from_secs(20), "its reason", async || {
        testkit::http_get(admin, "/readyz").await.is_ok_and(|(status, text)| {
            status == 503 && text.contains("broker: ") && text.contains("refused")
        })
    })
    .await;
}
