//! The program itself against a server of the contracts.
#![allow(clippy::unwrap_used)]

mod dead_letters;
mod diff;
mod manage;
mod server;

use std::{process::Stdio, time::Duration};

use server::{Inventory, asset, event, serve, time};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{ChildStdout, Command},
    time::timeout,
};

/// A look of the following program comes each 2 s; this is ample for it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn program(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assettrack"));
    command.args(arguments).env("ASSETTRACK_GATEWAY_URL", url).env("TZ", "XYZ-3").kill_on_drop(true);
    command
}

async fn run(url: &str, arguments: &[&str]) -> Ended {
    let output = timeout(DEADLINE, program(url, arguments).output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn out(url: &str, arguments: &[&str]) -> String {
    let ended = run(url, arguments).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{arguments:?}");
    ended.out
}

fn inventory() -> Inventory {
    let mut assets = vec![asset(1, "openssl"), asset(2, "=cmd\u{1b}[2J")];
    assets[1].delete_time = time(1_772_496_100);
    Inventory { assets: assets.into(), ..Inventory::default() }
}

#[tokio::test]
async fn assets_in_each_format() {
    let url = serve(inventory()).await;
    assert_eq!(
        out(&url, &["assets", "--show-deleted"]).await,
        "NAME      KIND     STATE   DISPLAY NAME   NODE DISPLAY NAME  OWNER  UPDATE TIME\n\
         assets/1  PACKAGE  ACTIVE  openssl        web-1              ops    2026-03-03T03:00:00+03:00\n\
         assets/2  PACKAGE  ACTIVE  =cmd\\u{1b}[2J  web-1              ops    2026-03-03T03:00:00+03:00\n"
    );
    let csv = out(&url, &["assets", "--show-deleted", "--output", "csv", "--utc"]).await;
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert!(lines[0].starts_with("name,kind,state,display_name,"), "{csv}");
    assert_eq!(
        lines[1],
        "assets/1,PACKAGE,ACTIVE,openssl,web-1,,,ops,,,a=b env=prod,2,,,,2026-03-03T00:00:00Z,"
    );
    assert!(lines[2].contains(",'=cmd\u{1b}[2J,") && lines[2].ends_with(",2026-03-03T00:01:40Z"), "{csv}");
    assert_eq!(lines[3..], [""]);

    let json = out(&url, &["assets", "-o", "json", "openssl"]).await;
    assert_eq!(json.lines().count(), 1);
    let asset: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(asset["updateTime"], "2026-03-03T00:00:00Z");
    assert_eq!(asset["details"]["package"]["version"], "3.0");
    assert_eq!(asset["revision"], "2");
}

#[tokio::test]
async fn all_pages_are_read_and_a_limit_is_kept() {
    let assets: Vec<_> = (0..450).map(|number| asset(number, "x")).collect();
    let url = serve(Inventory { assets: assets.into(), ..Inventory::default() }).await;
    for (arguments, expected) in [
        (vec!["assets", "-o", "json"], 450),
        (vec!["assets", "-o", "json", "--limit", "250"], 250),
        (vec!["assets"], 451),
        (vec!["assets", "-o", "csv", "nothing"], 1),
    ] {
        assert_eq!(out(&url, &arguments).await.lines().count(), expected, "{arguments:?}");
    }
}

#[tokio::test]
async fn one_asset_its_revisions_nodes_and_overview() {
    let url = serve(inventory()).await;
    let shown = out(&url, &["asset", "1"]).await;
    for line in [
        "FIELD                    VALUE",
        "name                     assets/1",
        "kind                     PACKAGE",
        "details.package.version  3.0",
        "managed.owner            ops",
        "managed.labels.env       prod",
        "update_time              2026-03-03T03:00:00+03:00",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert_eq!(
        out(&url, &["asset", "assets/1", "--revisions", "--utc"]).await,
        "REVISION  RECORD TIME           TYPE     ACTOR  CHANGED FIELDS\n\
         2         2026-03-03T00:00:02Z  CHANGED  agent  details.package.version\n\
         1         2026-03-03T00:00:01Z  CHANGED  agent  details.package.version\n"
    );
    let nodes = out(&url, &["nodes", "-o", "csv"]).await;
    assert!(
        nodes.lines().nth(1).unwrap().starts_with("nodes/1,web-1,,STALE,INCOMPLETE,,3,0,,yes,"),
        "{nodes}"
    );
    assert!(nodes.lines().nth(1).unwrap().ends_with(",2026-03-03T03:00:00+03:00,,"), "{nodes}");
    assert_eq!(
        out(&url, &["overview", "-o", "csv", "--utc"]).await.replace("\r\n", "\n"),
        "field,value\nmeasured,2026-03-03T00:00:00Z\nassets.DISK.REMOVED,4\nnodes.HEALTHY,2\n\
         events.last_hour,5\ndead_letters,6\ncollectors.c/1.state,HOLDING: processor away\n\
         collectors.c/1.queue_depth.q.0,9\ncollectors.c/1.in_flight_messages,0\n\
         unavailable.collector x:1,refused\n"
    );
    assert!(out(&url, &["overview", "-o", "json"]).await.contains(r#""deadLetters":"6""#));
}

#[tokio::test]
async fn nodes_are_scanned_and_retired() {
    let url = serve(inventory()).await;
    assert_eq!(
        out(&url, &["scan", "1", "--kind", "PACKAGE", "--kind", "disk", "--resync"]).await,
        "FIELD        VALUE\n\
         command_id   [5, 2] true\n\
         expire_time  2026-03-03T03:01:00+03:00\n"
    );
    let json = out(&url, &["scan", "nodes/1", "-o", "json"]).await;
    assert_eq!(json, "{\"commandId\":\"[] false\",\"expireTime\":\"2026-03-03T00:01:00Z\"}\n");
    assert_eq!(
        out(&url, &["retire", "1", "-o", "csv", "--utc"]).await.replace("\r\n", "\n"),
        "field,value\nname,nodes/1\nhealth,RETIRED\nretire_time,2026-03-03T00:00:00Z\n"
    );
    let missing = run(&url, &["scan", "2"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.starts_with("error: nodes/2 does not exist (request "), "{}", missing.err);
    let lives = run(&url, &["retire", "2"]).await;
    assert_eq!(lives.code, Some(1));
    assert!(lives.err.starts_with("error: nodes/2: its agent is heard (request "), "{}", lives.err);
    let wrong = run(&url, &["scan", "1", "--kind", "PACKAGES"]).await;
    assert_eq!((wrong.code, wrong.err.lines().count()), (Some(64), 1), "{}", wrong.err);
}

#[tokio::test]
async fn packages_in_images_and_images_with_a_package() {
    let url = serve(inventory()).await;
    assert_eq!(
        out(&url, &["image-packages", "1", "--limit", "1"]).await,
        "PACKAGE    VERSION  ARCHITECTURE  MANAGER  SOURCE  LICENSE\n\
         package-0  1.0                    apk              MIT\n"
    );
    let json = out(&url, &["image-packages", "assets/1", "-o", "json"]).await;
    assert_eq!(json.lines().count(), 250, "all pages");
    assert!(json.starts_with(r#"{"package":"package-0","version":"1.0","#), "{json}");
    let csv = out(&url, &["image-packages", "1", "-o", "csv"]).await;
    assert!(csv.lines().nth(7).unwrap().starts_with("package-6,1.0,,apk,,,MIT,0,"), "{csv}");
    let other = run(&url, &["image-packages", "2"]).await;
    assert_eq!(other.code, Some(1));
    assert!(other.err.starts_with("error: assets/2: is no container image (request "), "{}", other.err);
    assert_eq!(
        out(&url, &["image-search", "openssl"]).await,
        "IMAGE DIGEST  PACKAGE  VERSION  ARCHITECTURE  ACTIVE NODES  SOURCE\n\
         sha256:ab     openssl  1.0                    4             LAYERS\n"
    );
}

#[tokio::test]
async fn related_assets_with_the_way_to_them() {
    let url = serve(inventory()).await;
    assert_eq!(
        out(&url, &["related", "1", "--depth", "2"]).await,
        "DISTANCE  PATH                      KIND       DISPLAY NAME  NAME      THROUGH\n\
         1         RUNS_IN->                 CONTAINER  web           assets/1  [] [] 3\n\
         2         RUNS_IN-> CREATED_FROM->  CONTAINER  web           assets/2  [] [] 3\n"
    );
    let csv = out(
        &url,
        &[
            "related",
            "assets/1",
            "-o",
            "csv",
            "--type",
            "runs_in",
            "--kind",
            "POD",
            "--direction",
            "incoming",
        ],
    )
    .await;
    let line = "1,RUNS_IN->,CONTAINER,web,assets/1,[4] [26] 2,web-1,assets/1";
    assert_eq!(csv.split("\r\n").nth(1).unwrap(), line);
    let json = out(&url, &["related", "1", "-o", "json", "--limit", "1"]).await;
    let related: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(related["path"][0]["type"], "RELATION_TYPE_RUNS_IN");
    let cut = run(&url, &["related", "1", "--depth", "5"]).await;
    assert_eq!((cut.code, cut.out.lines().count()), (Some(0), 6));
    assert_eq!(cut.err, "more is related than a walk finds; narrow it\n");
    for wrong in [["--depth", "6"], ["--type", "LOVES"], ["--direction", "up"], ["--kind", "PODS"]] {
        let wrong = run(&url, &[&["related", "1"][..], &wrong].concat()).await;
        assert_eq!((wrong.code, wrong.err.lines().count()), (Some(64), 1), "{}", wrong.err);
    }
}

#[tokio::test]
async fn affected_packages_with_their_places() {
    let url = serve(inventory()).await;
    assert_eq!(
        out(&url, &["affected", "openssl", "--below", "3.1"]).await,
        "NODE DISPLAY NAME  PLACE      ASSET DISPLAY NAME  PACKAGE  COMPARED VERSION  VERSION ORDER  INCOMPARABLE\n\
         web-1              NODE       shop/web/front      openssl  [,3.1,,] 0 []     APK\n\
         web-1              CONTAINER  shop/web/front      openssl  [,3.1,,] 0 []     APK            yes\n"
    );
    let flags = ["--from", "1", "--through", "2", "--exact", "3", "--order", "debian", "--place", "image"];
    let csv = out(&url, &[&["affected", "openssl", "-o", "csv"][..], &flags].concat()).await;
    let line = "web-1,NODE,shop/web/front,openssl,\"[1,,2,3] 1 [3]\",APK,,nodes/1,assets/7,CONTAINER,sha256:ab,1.0,,";
    assert_eq!(csv.split("\r\n").nth(1).unwrap(), line);
    let refused = run(&url, &["affected", "openssl", "--below", "1 2"]).await;
    assert_eq!(refused.code, Some(1));
    let line = "error: below_version: `1 2` is no version (field below_version, request ";
    assert!(refused.err.starts_with(line), "{}", refused.err);
    for wrong in [["--order", "pacman"], ["--place", "cupboard"], ["--limit", "0"]] {
        let wrong = run(&url, &[&["affected", "openssl"][..], &wrong].concat()).await;
        assert_eq!((wrong.code, wrong.err.lines().count()), (Some(64), 1), "{}", wrong.err);
    }
}

#[tokio::test]
async fn what_fails_is_one_line_and_a_status() {
    let url = serve(inventory()).await;
    let refused = run(&url, &["assets", "kind="]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(
        refused.err.starts_with("error: filter: a value must follow (field filter, request 0"),
        "{}",
        refused.err
    );
    assert_eq!(refused.err.lines().count(), 1);
    let missing = run(&url, &["asset", "9"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.starts_with("error: assets/9 does not exist (request "), "{}", missing.err);

    // A port that was free a moment ago, and that nothing listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = run(&format!("http://{free}"), &["nodes"]).await;
    assert_eq!((away.code, away.out.as_str()), (Some(1), ""));
    let expected = format!("error: no answer from the gateway at http://{free}: ");
    assert!(away.err.starts_with(&expected) && away.err.lines().count() == 1, "{}", away.err);

    for (url, arguments) in [
        ("ftp://x", vec!["nodes"]),
        (&*url, vec!["nodes", "--output", "xml"]),
        (&*url, vec!["assets", "--limit", "0"]),
    ] {
        let wrong = run(url, &arguments).await;
        assert_eq!((wrong.code, wrong.err.lines().count()), (Some(64), 1), "{arguments:?}: {}", wrong.err);
    }
}

#[tokio::test]
async fn verifying_tells_by_its_exit_status() {
    let url = serve(inventory()).await;
    let equal = run(&url, &["verify"]).await;
    assert_eq!((equal.code, equal.out.as_str()), (Some(0), ""));
    assert_eq!(equal.err, "verified 10 of 20 assets, 0 of 1 nodes\nverified 20 of 20 assets, 1 of 1 nodes\n");

    let differs = run(&url, &["verify", "--node", "1"]).await;
    assert_eq!(differs.code, Some(1));
    assert_eq!(
        differs.out,
        "TYPE           KIND     NODE     ASSET     DETAIL\n\
         ALTERED_ASSET  PACKAGE  nodes/1  assets/1  revision: is 7, should be 3\n\
         WRONG_DIGEST   PACKAGE  nodes/1            digest: \\u{1b}[2J\n"
    );
    assert!(
        differs.err.ends_with("verified 20 of 20 assets, 1 of 1 nodes\n2 differences\n"),
        "{}",
        differs.err
    );
    let json = run(&url, &["verify", "--node", "nodes/1", "--output", "json"]).await;
    let first: serde_json::Value = serde_json::from_str(json.out.lines().next().unwrap()).unwrap();
    assert_eq!((json.code, json.out.lines().count()), (Some(1), 2));
    assert_eq!(first["type"], "DIFFERENCE_TYPE_ALTERED_ASSET");
    assert_eq!(first["asset"], "assets/1");

    for (node, line) in [
        ("2", format!("error: no answer from the gateway at {url}: the answer ended before its end")),
        ("3", "error: gone (request ".to_owned()),
        ("4", "error: nodes/4 does not exist (request ".to_owned()),
    ] {
        let failed = run(&url, &["verify", "--node", node]).await;
        let last = failed.err.lines().last().unwrap();
        assert_eq!(failed.code, Some(2), "{node}: {}", failed.err);
        assert!(last.starts_with(&line), "{node}: {}", failed.err);
    }
    assert_eq!(run(&url, &["verify", "--nodes", "1"]).await.code, Some(64));
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_fault() {
    let assets: Vec<_> = (0..5000).map(|number| asset(number, "x")).collect();
    let url = serve(Inventory { assets: assets.into(), ..Inventory::default() }).await;
    let mut child = program(&url, &["assets"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().starts_with("NAME"));
    drop(lines);
    let status = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!((status.code(), err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn following_shows_each_event_once_in_order() {
    const BEGIN: i64 = 1_772_496_000;
    let inventory = inventory();
    inventory.events.lock().unwrap().extend((0..20).map(|number| event(number, BEGIN)));
    inventory.events.lock().unwrap().push(event(20, BEGIN + 1));
    let url = serve(inventory.clone()).await;
    let newest = out(&url, &["events", "--limit", "1", "-o", "json"]).await;
    assert!(newest.starts_with(r#"{"name":"events/20","#), "{newest}");

    let arguments = ["events", "type=CHANGED", "--follow", "--limit", "2", "-o", "json"];
    let mut child = program(&url, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    next(&mut lines).await;
    assert_eq!(next(&mut lines).await, "events/20");
    // In the order in which they are told; what was left out at the beginning is
    // not shown as new, and each cut is gone on from.
    inventory.events.lock().unwrap().extend([event(22, BEGIN + 2), event(21, BEGIN)]);
    assert_eq!(next(&mut lines).await, "events/22");
    assert_eq!(next(&mut lines).await, "events/21");
    inventory.events.lock().unwrap().push(event(23, BEGIN + 3));
    assert_eq!(next(&mut lines).await, "events/23");
    child.kill().await.unwrap();
    let watches = inventory.watches.lock().unwrap();
    let expected = ["", "22", "23"].map(|token| ("type=CHANGED".to_owned(), token.to_owned()));
    assert_eq!(watches[..3], expected);
}

#[tokio::test]
async fn watching_shows_what_there_is_and_what_changes() {
    let url = serve(inventory()).await;
    let ended = run(&url, &["assets", "--watch"]).await;
    assert_eq!(ended.code, Some(1));
    let rows: Vec<Vec<&str>> =
        ended.out.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    let expected = [
        ["TYPE", "NAME", "REVISION"],
        ["ADDED", "assets/1", "2"],
        ["ADDED", "assets/2", "2"],
        ["LEFT", "assets/1", "3"],
    ];
    assert_eq!(rows, expected);
    let told: Vec<&str> = ended.err.lines().collect();
    assert!(told[0].contains("shutting down") && told[0].ends_with("(still trying)"), "{told:?}");
    assert!(told[1].contains("the database was restored"), "{told:?}");
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    event["name"].as_str().unwrap().to_owned()
}
