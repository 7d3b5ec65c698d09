//! The record is what the log says, and whatever is not is found.

use std::sync::Arc;

use contracts::v1::{DifferenceType, Presence::Present, VerifyInventoryRequest};
use testkit::{Database, Seed, wait_until};
use tonic::Code;
use uuid::Uuid;

use crate::{
    history::{DEADLINE, live, package_uid, told, verify, verify_equal},
    running::{Agent, Running, package},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_are_what_their_log_says() {
    let mut rng = Seed::draw().rng();
    let running = Running::start().await;
    live(&running, &mut rng).await;
    let assets = i64::try_from(running.list("").await.len()).unwrap();
    // With the digests that ingest keeps: no scrub has corrected any.
    let (last, differences) = verify(&running, "").await;
    assert_eq!(differences, []);
    assert_eq!((last.verified_nodes, last.total_nodes), (2, 2));
    assert_eq!((last.verified_assets, last.total_assets), (assets, assets));
    running.stop().await;
}

/// A node with twenty packages, each in its third revision.
async fn twenty(database: &Arc<Database>) -> Agent {
    let running = Running::start_on(database.clone(), &[]).await;
    let agent = Agent::new();
    for sequence in 1..=3 {
        let version = format!("1.{sequence}");
        let packages = (0..20).map(|number| package(Present, &format!("package-{number}"), &version));
        running.deliver(vec![agent.batch(sequence, packages.collect())]).await;
    }
    running.stop().await;
    agent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_to_alter_the_record_is_found() {
    use DifferenceType::{
        AlteredAsset, MissingAsset, UnknownAsset, WrongDigest, WrongStateHash, WrongStream,
    };
    let database = Arc::new(Database::create().await);
    let agent = twenty(&database).await;
    let running = Running::start_on(database.clone(), &[]).await;
    verify_equal(&running).await;

    let client = database.connect().await;
    let log = "asset_event WHERE asset_uid = 'UID'";
    let cases: [(&str, &[(DifferenceType, &str)]); 17] = [
        (
            "DELETE FROM asset WHERE uid = 'UID'",
            &[
                (MissingAsset, "asset: is not there, should be \"dpkg/NAME:amd64\" at revision 3"),
                (WrongDigest, "digest: is 20 assets with sum "),
            ],
        ),
        (
            "UPDATE asset SET details = set_byte(details, 5, 120) WHERE uid = 'UID'",
            &[(WrongStateHash, "state_hash: is "), (AlteredAsset, "details: is sha256 ")],
        ),
        (
            "UPDATE asset SET state_hash = '\\x00' WHERE uid = 'UID'",
            &[(WrongStateHash, "state_hash: is 00, should be "), (WrongDigest, "digest: is 20 assets")],
        ),
        (
            "UPDATE asset SET display_name = 'forged' WHERE uid = 'UID'",
            &[
                (WrongStateHash, "state_hash: is "),
                (AlteredAsset, "display_name: is \"forged\", should be \"NAME\""),
            ],
        ),
        (
            "UPDATE asset SET natural_key = 'forged' WHERE uid = 'UID'",
            &[
                (WrongStateHash, "state_hash: is "),
                (AlteredAsset, "natural_key: is \"forged\", should be \"dpkg/NAME:amd64\""),
            ],
        ),
        (
            "UPDATE asset SET state = 2 WHERE uid = 'UID'",
            &[
                (WrongStateHash, "should be none"),
                (AlteredAsset, "state: is REMOVED, should be ACTIVE"),
                (WrongDigest, "should be 19"),
            ],
        ),
        ("UPDATE asset SET revision = 7 WHERE uid = 'UID'", &[(AlteredAsset, "revision: is 7, should be 3")]),
        (
            "UPDATE asset SET managed = '\\x0a0178', managed_revision = 1 WHERE uid = 'UID'",
            &[(AlteredAsset, "managed_revision: is 1, should be 0"), (AlteredAsset, "managed: is sha256 ")],
        ),
        ("UPDATE asset SET sequence = 2 WHERE uid = 'UID'", &[(AlteredAsset, "version: is (1, 2, ")]),
        (
            "UPDATE asset SET sequence = 9 WHERE uid = 'UID'",
            &[(AlteredAsset, "which never came, should be (1, 3, ")],
        ),
        ("UPDATE asset SET delete_time = now() WHERE uid = 'UID'", &[(AlteredAsset, "delete_time: is ")]),
        ("DELETE FROM LOG AND revision = 2", &[(AlteredAsset, "revisions: 1 are missing in the log")]),
        (
            "DELETE FROM LOG AND revision = 3",
            &[
                (AlteredAsset, "revision: is 3, should be 2"),
                (AlteredAsset, "details: is sha256 "),
                (AlteredAsset, "update_time: is "),
            ],
        ),
        ("DELETE FROM LOG", &[(UnknownAsset, "asset: is \"dpkg/NAME:amd64\", should not be there")]),
        (
            "INSERT INTO asset_event SELECT (jsonb_populate_record(e, jsonb_build_object('id', 1000000 + id))).* \
          FROM asset_event AS e WHERE asset_uid = 'UID' AND revision = 2",
            &[(WrongStream, " is in the log 2 times, should be once")],
        ),
        (
            "UPDATE LOG_ SET sequence = 77 WHERE asset_uid = 'UID' AND revision = 2",
            &[
                (WrongStream, "sequence: is 77 of stream STREAM, which never came"),
                // The refold takes it for the newest.
                (AlteredAsset, "details: is sha256 "),
                (AlteredAsset, "version: is (1, 3, "),
            ],
        ),
        (
            "UPDATE node_kind SET sum = sum + 1 WHERE node_uid = 'NODE'",
            &[(WrongDigest, "digest: is 20 assets with sum ")],
        ),
    ];
    for (number, (alter, expected)) in cases.iter().enumerate() {
        let name = format!("package-{number}");
        let uid = package_uid(agent.node, &name).to_string();
        let fill = |text: &str| {
            text.replace("LOG_", "asset_event")
                .replace("LOG", log)
                .replace("UID", &uid)
                .replace("NAME", &name)
                .replace("NODE", &agent.node.to_string())
                .replace("STREAM", &agent.stream.to_string())
        };
        // Each alone, with the tables put back after it.
        client
            .batch_execute(
                "CREATE TEMP TABLE IF NOT EXISTS kept AS SELECT * FROM asset; \
                 CREATE TEMP TABLE IF NOT EXISTS kept_log AS SELECT * FROM asset_event; \
                 CREATE TEMP TABLE IF NOT EXISTS kept_digest AS SELECT * FROM node_kind;",
            )
            .await
            .unwrap();
        client.batch_execute(&fill(alter)).await.unwrap();
        let (_, differences) = verify(&running, "").await;
        let found = told(&differences);
        assert_eq!(found.len(), expected.len(), "{alter}: {found:#?}");
        for (difference, part) in *expected {
            let part = fill(part);
            assert!(
                found.iter().any(|(found, detail)| found == difference && detail.contains(&part)),
                "{alter}: no {difference:?} with {part:?} in {found:#?}"
            );
        }
        for difference in &differences {
            assert_eq!(difference.node, format!("nodes/{}", agent.node));
            let asset =
                if difference.r#type() == WrongDigest { String::new() } else { format!("assets/{uid}") };
            assert_eq!(difference.asset, asset, "{alter}");
        }
        client
            .batch_execute(
                // Columns that are computed cannot be written.
                "TRUNCATE asset, asset_event, node_kind; \
                 DO $$ DECLARE written text := (SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute \
                 WHERE attrelid = 'asset'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''); \
                 BEGIN EXECUTE 'INSERT INTO asset (' || written || ') SELECT ' || written || ' FROM kept'; END $$; \
                 INSERT INTO asset_event SELECT * FROM kept_log; INSERT INTO node_kind SELECT * FROM kept_digest;",
            )
            .await
            .unwrap();
    }
    verify_equal(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_verified_alone_and_an_unknown_one_is_refused() {
    let database = Arc::new(Database::create().await);
    let (one, other) = (twenty(&database).await, twenty(&database).await);
    let client = database.connect().await;
    let alter = format!("UPDATE asset SET state = 2 WHERE node_uid = '{}'", one.node);
    client.batch_execute(&alter).await.unwrap();
    let running = Running::start_on(database, &[]).await;
    let name = |agent: &Agent| format!("nodes/{}", agent.node);
    let (last, differences) = verify(&running, &name(&other)).await;
    assert_eq!((last.verified_assets, last.total_nodes, differences), (20, 1, vec![]));
    let (last, differences) = verify(&running, &name(&one)).await;
    assert_eq!((last.verified_assets, differences.len()), (20, 41));

    for (node, code) in
        [(format!("nodes/{}", Uuid::new_v4()), Code::NotFound), ("nodes/x".to_owned(), Code::InvalidArgument)]
    {
        let refused = running.integrity().verify_inventory(VerifyInventoryRequest { node }).await;
        assert_eq!(refused.unwrap_err().code(), code);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_ends_the_work() {
    let database = Arc::new(Database::create().await);
    twenty(&database).await;
    let running = Running::start_on(database.clone(), &[]).await;
    // Verifying waits for this lock, up to the 10 s of its session.
    let client = database.connect().await;
    client.batch_execute("BEGIN; LOCK TABLE asset_base IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting = async || {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND wait_event_type = 'Lock' AND application_name = ''";
        client.query_one(query, &[]).await.unwrap().get::<_, i64>(0)
    };
    let request = || VerifyInventoryRequest::default();
    let stream = running.integrity().verify_inventory(request()).await.unwrap();
    let other = running.integrity().verify_inventory(request()).await.unwrap();
    wait_until(DEADLINE, "both wait", async || waiting().await == 2).await;
    let refused = running.integrity().verify_inventory(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(stream);
    wait_until(std::time::Duration::from_secs(4), "the work ends", async || waiting().await == 1).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    let mut other = other.into_inner();
    let mut last = None;
    while let Some(answer) = other.message().await.unwrap() {
        last = Some(answer);
    }
    assert!(last.unwrap().done, "another's work goes on");
    running.stop().await;
}
