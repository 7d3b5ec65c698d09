//! A filter says the same in the database and in memory, whatever the assets and
//! the filter are.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use kit::{identity::Collection, settings::Secret};
use processor::{
    domain::{
        attributes::searchable,
        changes::Descriptors,
        filter::{Schema, read},
    },
    store::{asset, filter_sql::compile, pool},
};
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value as Json, json};
use testkit::{Database, Seed};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

const ASSETS: usize = 250;
const FILTERS: usize = 1500;
/// What is special to somebody: to LIKE, to filters, to JSON, to Unicode.
const TEXTS: [&str; 40] = [
    "", "a", "A", "ab", "aB", "abc", "ABC def", "ä", "Ä", "äÄ", "İ", "i", "ß", "ss", "Σ", "ς", "σ", "%", "_",
    "a%b", "a_b", "a*b", "*", "**", "\\", "a\\b", "\\*", "\\\\*", "'", "\"q\"", "3.0", "03", "-5", "5", "12",
    "true", "日本", "e\u{301}", "x\ny", "(z)",
];
const KEYS: [&str; 5] = ["env", "app.kubernetes.io/name", "rack", "a.b", "é\"\\"];

fn text(rng: &mut StdRng) -> String {
    let one = *TEXTS.choose(rng).unwrap();
    if rng.random_range(0..4) == 0 { format!("{one}{}", TEXTS.choose(rng).unwrap()) } else { one.to_owned() }
}

fn time(rng: &mut StdRng) -> DateTime<Utc> {
    let seconds = [0, 1_772_496_000, 1_772_496_001, 1_900_000_000][rng.random_range(0..4)];
    DateTime::from_timestamp(seconds, 0).unwrap() + TimeDelta::microseconds(rng.random_range(0..3))
}

fn number(rng: &mut StdRng) -> u64 {
    [0, 1, 2, 5, 12, 4_000_000_000, u64::MAX][rng.random_range(0..7)]
}

/// A message with any of its fields.
fn message(rng: &mut StdRng, descriptor: &MessageDescriptor) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if descriptor.full_name() == "google.protobuf.Timestamp" {
        let time = time(rng);
        message.set_field_by_name("seconds", Value::I64(time.timestamp()));
        // Also between two microseconds.
        let nanos = time.timestamp_subsec_nanos() + [0, 400, 499, 500, 501, 900][rng.random_range(0..6)];
        message.set_field_by_name("nanos", Value::I32(nanos.try_into().unwrap()));
        return message;
    }
    for field in descriptor.fields().filter(|field| !field.is_map()) {
        if rng.random_range(0..3) > 0 {
            let value = if field.is_list() {
                Value::List((0..rng.random_range(0..3)).map(|_| value(rng, &field)).collect())
            } else {
                value(rng, &field)
            };
            message.set_field(&field, value);
        }
    }
    message
}

fn value(rng: &mut StdRng, field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Message(inner) => Value::Message(message(rng, &inner)),
        Kind::String => Value::String(text(rng)),
        Kind::Bool => Value::Bool(rng.random()),
        Kind::Uint32 => Value::U32(u32::try_from(number(rng)).unwrap_or(u32::MAX)),
        Kind::Uint64 => Value::U64(number(rng)),
        Kind::Int32 => Value::I32(rng.random_range(-2..2)),
        Kind::Int64 => Value::I64(rng.random_range(-2..2)),
        Kind::Enum(values) => {
            let values: Vec<i32> = values.values().map(|value| value.number()).collect();
            Value::EnumNumber(*values.choose(rng).unwrap())
        }
        other => panic!("no values of {other:?} yet"),
    }
}

struct Asset {
    uid: Uuid,
    kind: i16,
    display_name: String,
    node: Option<Uuid>,
    natural_key: String,
    state: i16,
    revision: i64,
    managed_revision: i64,
    times: [Option<DateTime<Utc>>; 5],
    attributes: Json,
}

fn asset(rng: &mut StdRng, descriptors: &Descriptors, nodes: &[Uuid]) -> Asset {
    let details = descriptors.details();
    // One kind a message, as the oneof wants it.
    let mut what = DynamicMessage::new(details.clone());
    let kinds: Vec<FieldDescriptor> = details.oneofs().next().unwrap().fields().collect();
    let kind = kinds.choose(rng).unwrap();
    what.set_field(kind, value(rng, kind));
    let relations = details.get_field_by_name("relations").unwrap();
    if rng.random() {
        what.set_field(
            &relations,
            Value::List((0..rng.random_range(0..3)).map(|_| value(rng, &relations)).collect()),
        );
    }
    let mut attributes = json!({});
    if rng.random_range(0..10) > 0 {
        attributes["details"] = searchable(details, &what.encode_to_vec());
    }
    if rng.random_range(0..3) > 0 {
        let descriptor = descriptors.message("ManagedFields").unwrap();
        let mut managed = message(rng, &descriptor);
        let mut labels = HashMap::new();
        for key in KEYS {
            if rng.random() {
                labels.insert(MapKey::String(key.to_owned()), Value::String(text(rng)));
            }
        }
        managed.set_field_by_name("labels", Value::Map(labels));
        attributes["managed"] = searchable(&descriptor, &managed.encode_to_vec());
        // Values of maps may have other types than text.
        if rng.random_range(0..3) == 0 && attributes["managed"]["labels"].is_object() {
            attributes["managed"]["labels"]["rack"] =
                [json!(5), json!(12.5), json!(-5), json!(1e21), json!(true), json!(null)]
                    .choose(rng)
                    .unwrap()
                    .clone();
        }
    }
    let maybe = |rng: &mut StdRng| rng.random::<bool>().then(|| time(rng));
    let (first, removed, deleted) = (maybe(rng), maybe(rng), maybe(rng));
    Asset {
        uid: Uuid::from_u128(rng.random_range(1..u128::MAX)),
        kind: rng.random_range(1..30),
        display_name: text(rng),
        node: (rng.random_range(0..4) > 0).then(|| *nodes.choose(rng).unwrap()),
        natural_key: text(rng),
        state: rng.random_range(0..3),
        revision: rng.random_range(1..4),
        managed_revision: rng.random_range(0..3),
        times: [first, removed, Some(time(rng)), Some(time(rng)), deleted],
        attributes,
    }
}

async fn insert(client: &tokio_postgres::Client, asset: &Asset) {
    let statement = "INSERT INTO asset (uid, kind, display_name, node_uid, natural_key, state, revision, \
         managed_revision, first_seen_time, remove_time, create_time, update_time, delete_time, attributes) \
         SELECT $1::text::uuid, $2, $3, $4::text::uuid, $5, $6, $7, $8, $9::text::timestamptz, \
         $10::text::timestamptz, $11::text::timestamptz, $12::text::timestamptz, $13::text::timestamptz, \
         $14::text::jsonb";
    let times = asset.times.map(|time| time.map(|time| time.to_rfc3339()));
    let node = asset.node.map(|node| node.to_string());
    let (uid, attributes) = (asset.uid.to_string(), asset.attributes.to_string());
    let parameters: [&(dyn ToSql + Sync); 14] = [
        &uid,
        &asset.kind,
        &asset.display_name,
        &node,
        &asset.natural_key,
        &asset.state,
        &asset.revision,
        &asset.managed_revision,
        &times[0],
        &times[1],
        &times[2],
        &times[3],
        &times[4],
        &attributes,
    ];
    client.execute(statement, &parameters).await.unwrap();
}

/// A text as a filter quotes it; asterisks are wildcards or not.
fn quoted(rng: &mut StdRng, text: &str) -> String {
    let wild = rng.random_range(0..3) == 0;
    let mut quoted = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\') || character == '*' && !wild {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    if rng.random_range(0..4) == 0 {
        quoted.insert(1, '*');
    }
    if rng.random_range(0..4) == 0 {
        quoted.push('*');
    }
    quoted.push('"');
    quoted
}

/// A path into a message and a value that fits there, most of the time.
fn field(rng: &mut StdRng, descriptor: &MessageDescriptor, assets: &[Asset]) -> (String, String) {
    let fields: Vec<FieldDescriptor> = descriptor.fields().filter(|field| field.name() != "etag").collect();
    let field = fields.choose(rng).unwrap();
    let name = if rng.random() { field.name().to_owned() } else { field.json_name().to_owned() };
    if field.is_map() {
        let key = *KEYS.choose(rng).unwrap();
        let key = quoted(rng, key).replace('*', "");
        return if rng.random_range(0..3) == 0 {
            (name, key)
        } else {
            let text = text(rng);
            (format!("{name}.{key}"), quoted(rng, &text))
        };
    }
    let value = match field.kind() {
        Kind::Message(inner) if inner.full_name() == "google.protobuf.Timestamp" => {
            format!("\"{}\"", time(rng).to_rfc3339())
        }
        Kind::Message(inner) => {
            if rng.random_range(0..12) == 0 {
                return (name, "*".to_owned());
            }
            let (path, value) = self::field(rng, &inner, assets);
            return (format!("{name}.{path}"), value);
        }
        Kind::Enum(values) => {
            let values: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
            values.choose(rng).unwrap().clone()
        }
        Kind::Bool => rng.random::<bool>().to_string(),
        Kind::String if name == "node" => {
            let node = assets.choose(rng).unwrap().node.unwrap_or_default();
            Collection::Nodes.name(node)
        }
        Kind::String if name == "name" => Collection::Assets.name(assets.choose(rng).unwrap().uid),
        Kind::String => {
            let text = text(rng);
            quoted(rng, &text)
        }
        _ => number(rng).to_string(),
    };
    (name, if rng.random_range(0..10) == 0 { "*".to_owned() } else { value })
}

/// A filter; not each is one that is taken.
fn filter(rng: &mut StdRng, descriptor: &MessageDescriptor, assets: &[Asset], depth: usize) -> String {
    match rng.random_range(0..if depth == 0 { 8 } else { 16 }) {
        0 => {
            let text = text(rng);
            quoted(rng, &text)
        }
        1..8 => {
            let (path, value) = field(rng, descriptor, assets);
            let operator = *["=", "!=", "<", "<=", ">", ">=", ":", ":"].choose(rng).unwrap();
            let other = field(rng, descriptor, assets).1;
            match rng.random_range(0..12) {
                0 => format!("{path}{operator}({value} OR {other})"),
                1 => format!("{path}{operator}({value} NOT {value})"),
                _ => format!("{path}{operator}{value}"),
            }
        }
        shape => {
            let one = filter(rng, descriptor, assets, depth - 1);
            let other = filter(rng, descriptor, assets, depth - 1);
            match shape {
                8..10 => format!("{one} AND {other}"),
                10..12 => format!("{one} OR {other}"),
                12 => format!("{one} {other}"),
                13 => format!("({one}) OR ({other})"),
                14 => format!("NOT ({one})"),
                _ => format!("-({one})"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_say_the_same_in_the_database_and_in_memory() {
    let mut rng = Seed::draw().rng();
    let database = Database::create().await;
    let url = Secret::from(database.url().as_str());
    pool::migrate(&url).await.unwrap();
    let client = database.connect().await;
    let nodes: Vec<Uuid> = (1..4).map(Uuid::from_u128).collect();
    for node in &nodes {
        let statement = "INSERT INTO node (uid, cluster, display_name, create_time, heartbeat_time) \
             VALUES ($1::text::uuid, 'test', $2, now(), $3::text::timestamptz)";
        let heartbeat = rng.random::<bool>().then(|| time(&mut rng).to_rfc3339());
        client.execute(statement, &[&node.to_string(), &text(&mut rng), &heartbeat]).await.unwrap();
    }
    let descriptors = Descriptors::default();
    let assets: Vec<Asset> = (0..ASSETS).map(|_| asset(&mut rng, &descriptors, &nodes)).collect();
    for asset in &assets {
        insert(&client, asset).await;
    }
    let schema = Schema {
        message: descriptors.message("Asset").unwrap(),
        names: &[("name", Collection::Assets), ("node", Collection::Nodes)],
        unsearchable: &["etag"],
    };
    let mut connection = pool::connect(&url, "SET statement_timeout = '20s'").await.unwrap();
    let all = asset::list(&mut connection, None, true, None, 10_000).await.unwrap();
    assert_eq!(all.len(), ASSETS);
    let subjects: Vec<(Uuid, _)> = all
        .iter()
        .map(|row| {
            let stored = assets.iter().find(|asset| asset.uid == row.0.uid).unwrap();
            (row.0.uid, asset::subject(row, stored.attributes.clone()))
        })
        .collect();
    let (mut taken, mut some) = (0, 0);
    for _ in 0..FILTERS {
        let filter = filter(&mut rng, &schema.message, &assets, 3);
        let Ok(Some(predicate)) = read(&filter, &schema, Utc::now()) else { continue };
        taken += 1;
        let condition = Some(compile(&predicate, &asset::COLUMNS));
        let rows = asset::list(&mut connection, condition, true, None, 10_000).await;
        let rows = rows.unwrap_or_else(|error| panic!("{filter}\n{predicate:?}\n{error}"));
        let found: BTreeSet<Uuid> = rows.iter().map(|row| row.0.uid).collect();
        some += usize::from(!found.is_empty() && found.len() < ASSETS);
        for (uid, subject) in &subjects {
            let matches = predicate.matches(subject);
            assert_eq!(
                matches,
                found.contains(uid),
                "in memory {matches}, in the database the opposite: {filter}\n{predicate:?}\n{subject:?}"
            );
        }
    }
    println!("{taken} of {FILTERS} filters were taken, {some} of them told assets apart");
    assert!(taken > FILTERS / 3 && some > taken / 4, "{taken} taken, {some} told assets apart");
}
