//! Pages of assets in an order, under a filter, and how many there are in all.

use chrono::{DateTime, Utc};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Bool, Nullable, Text, Timestamptz},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{
    asset::{AssetOnNode, AssetRow, Source},
    past::fill,
    sql::{Bind, Sql, load_once},
};
use crate::domain::order::{Key, Order};

/// Most assets that are put into an order that no index has.
pub const MAX_SORTED: i64 = 100_000;
/// So many matches of an indexed search are put in order by themselves. With more,
/// some are met soon enough on the way through the whole order.
const FEW: i64 = 10_000;

/// A question for a page.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Where assets are read from.
    pub source: Source,
    /// Which of them.
    pub condition: Option<Sql>,
    /// Whether the condition has an index that finds few assets among all. Without
    /// a hint the planner would rather walk through the order until it met enough.
    pub searched: bool,
    /// Also those that are deleted.
    pub show_deleted: bool,
    /// In which order.
    pub order: Order,
    /// Keys of the asset after which the page begins.
    pub after: Option<Vec<String>>,
    /// At most so many.
    pub limit: i64,
}

/// What comes of it.
#[derive(Clone, Debug)]
pub enum Page {
    /// Assets in their order.
    Rows(Vec<AssetOnNode>),
    /// More than [`MAX_SORTED`] would have to be put in order.
    TooMany,
}

const COLUMNS: &str = "asset.uid, asset.kind, asset.display_name, asset.node_uid, asset.natural_key, asset.state, \
     asset.details, asset.managed, asset.revision, asset.managed_revision, asset.first_seen_time, \
     asset.remove_time, asset.create_time, asset.update_time, asset.delete_time, \
     node.display_name AS node_display_name";

/// Columns of a row. When a node was last heard is known of now alone; details and
/// managed fields of what was superseded stand in the log.
fn columns(source: Source) -> String {
    match source {
        Source::Now => format!("{COLUMNS}, node.heartbeat_time, true AS is_whole"),
        Source::At(_) => format!("{COLUMNS}, NULL::timestamptz AS heartbeat_time, asset.is_whole"),
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(embed)]
    asset: AssetRow,
    #[diesel(sql_type = Nullable<Text>)]
    node_display_name: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    heartbeat_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    is_whole: bool,
}

impl From<Row> for AssetOnNode {
    fn from(row: Row) -> Self {
        (row.asset, row.node_display_name, row.heartbeat_time)
    }
}

#[derive(QueryableByName)]
struct SortedRow {
    #[diesel(embed)]
    listed: Row,
    #[diesel(sql_type = BigInt)]
    matched: i64,
}

impl Listing {
    /// `FROM … WHERE …`, without the place of the page.
    pub fn from_where(&self) -> Sql {
        self.with_source(self.source.sql())
    }

    fn with_source(&self, source: Sql) -> Sql {
        let mut sql = Sql::new(" FROM ")
            .then(source)
            .text(" AS asset LEFT JOIN node ON node.uid = asset.node_uid WHERE ")
            .text(if self.show_deleted { "true" } else { self.source.not_deleted() });
        if let Some(condition) = &self.condition {
            sql = sql.text(" AND ").then(condition.clone());
        }
        sql
    }

    /// The statement that is tried first, to explain it.
    pub fn statement(&self) -> Sql {
        match self.most() {
            Some(most) => self.sorted(most),
            None => self.walked(),
        }
    }

    /// How many matches are put in order by themselves; none if an index has the
    /// order, and nothing says that there are few.
    fn most(&self) -> Option<i64> {
        match (self.order.is_indexed(), self.searched) {
            (false, _) => Some(MAX_SORTED),
            (true, true) => Some(FEW),
            (true, false) => None,
        }
    }

    /// A page through an order that an index has.
    fn walked(&self) -> Sql {
        let by_name = self.order.keys().iter().any(|key| key.field == "display_name");
        let mut parts = self.source.parts(by_name);
        if parts.len() == 1 {
            return self.walk(parts.remove(0));
        }
        let mut sql = Sql::new("SELECT * FROM (");
        for (index, part) in parts.into_iter().enumerate() {
            sql = sql.text(if index > 0 { " UNION ALL (" } else { "(" }).then(self.walk(part)).text(")");
        }
        let keys = self.order.keys();
        let names: Vec<String> =
            keys.iter().map(|key| expression(key.field).replace("asset.", "walked.")).collect();
        sql.text(format!(") AS walked ORDER BY {} LIMIT ", order_by(keys, &names)))
            .bind(Bind::BigInt(self.limit))
    }

    fn walk(&self, source: Sql) -> Sql {
        let keys = self.order.keys();
        let names: Vec<String> = keys.iter().map(|key| expression(key.field).to_owned()).collect();
        let mut sql = Sql::new(format!("SELECT {}", columns(self.source))).then(self.with_source(source));
        if let Some(after) = &self.after {
            sql = sql.text(" AND ").then(beyond(&self.order, &names, after));
        }
        sql.text(format!(" ORDER BY {} LIMIT ", order_by(keys, &names))).bind(Bind::BigInt(self.limit))
    }

    /// A page of at most `most` matches, which are gathered first; of more, any rows.
    fn sorted(&self, most: i64) -> Sql {
        let keys = self.order.keys();
        let names: Vec<String> = (0..keys.len()).map(|index| format!("matched.key{index}")).collect();
        let mut sql = Sql::new("WITH matched AS MATERIALIZED (SELECT asset.uid");
        for (index, key) in keys.iter().enumerate() {
            sql = sql.text(format!(", {} AS key{index}", expression(key.field)));
        }
        sql = sql.then(self.from_where()).text(" LIMIT ").bind(Bind::BigInt(most + 1)).text(
            "), counted AS (SELECT count(*) AS matched FROM matched), \
                   page AS (SELECT matched.* FROM matched",
        );
        if let Some(after) = &self.after {
            sql = sql
                .text(" WHERE (SELECT matched FROM counted) > ")
                .bind(Bind::BigInt(most))
                .text(" OR ")
                .then(beyond(&self.order, &names, after));
        }
        let of_page: Vec<String> = (0..keys.len()).map(|index| format!("page.key{index}")).collect();
        sql.text(format!(" ORDER BY {} LIMIT ", order_by(keys, &names)))
            .bind(Bind::BigInt(self.limit))
            .text(format!(
                ") SELECT {}, counted.matched FROM page CROSS JOIN counted JOIN ",
                columns(self.source)
            ))
            .then(self.source.by_uid())
            .text(" AS asset ON asset.uid = page.uid LEFT JOIN node ON node.uid = asset.node_uid ORDER BY ")
            .text(order_by(keys, &of_page))
    }
}

/// Reads a page.
///
/// # Errors
/// A query fails.
pub async fn list(connection: &mut AsyncPgConnection, listing: &Listing) -> QueryResult<Page> {
    if let Some(most) = listing.most() {
        let rows: Vec<SortedRow> = load_once(connection, listing.sorted(most)).await?;
        let fits = rows.first().is_none_or(|first| first.matched <= most);
        if fits {
            let rows = rows.into_iter().map(|sorted| sorted.listed).collect();
            return whole(connection, rows).await.map(Page::Rows);
        }
        if !listing.order.is_indexed() {
            return Ok(Page::TooMany);
        }
    }
    let rows: Vec<Row> = load_once(connection, listing.walked()).await?;
    whole(connection, rows).await.map(Page::Rows)
}

async fn whole(connection: &mut AsyncPgConnection, mut rows: Vec<Row>) -> QueryResult<Vec<AssetOnNode>> {
    fill(connection, rows.iter_mut().filter(|row| !row.is_whole).map(|row| &mut row.asset)).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// SQL of a key, never NULL: what is absent comes before everything else.
fn expression(field: &str) -> &'static str {
    match field {
        "display_name" => "asset.display_name",
        "kind" => "asset.kind",
        "node" => "coalesce(asset.node_uid, '00000000-0000-0000-0000-000000000000')",
        "node_display_name" => "coalesce(node.display_name, '')",
        "natural_key" => "asset.natural_key COLLATE \"C\"",
        "state" => "asset.state",
        "revision" => "asset.revision",
        "managed_revision" => "asset.managed_revision",
        "first_seen_time" => "coalesce(asset.first_seen_time, '-infinity')",
        "last_seen_time" => LAST_SEEN_KEY,
        "create_time" => "asset.create_time",
        "update_time" => "asset.update_time",
        "delete_time" => "coalesce(asset.delete_time, '-infinity')",
        _ => "asset.uid",
    }
}

const LAST_SEEN_KEY: &str = "coalesce((CASE asset.state WHEN 1 THEN greatest(node.heartbeat_time, \
     asset.first_seen_time) ELSE asset.remove_time END), '-infinity')";

/// Keys of a row, as a page token holds them.
pub fn place(order: &Order, (row, node_display_name, heartbeat): &AssetOnNode) -> Vec<String> {
    let time = |time: Option<DateTime<Utc>>| {
        time.map(|time| time.timestamp_micros().to_string()).unwrap_or_default()
    };
    let key = |key: &Key| match key.field {
        "display_name" => row.display_name.clone(),
        "kind" => row.kind.to_string(),
        "node" => row.node_uid.unwrap_or_default().to_string(),
        "node_display_name" => node_display_name.clone().unwrap_or_default(),
        "natural_key" => row.natural_key.clone(),
        "state" => row.state.to_string(),
        "revision" => row.revision.to_string(),
        "managed_revision" => row.managed_revision.to_string(),
        "first_seen_time" => time(row.first_seen_time),
        "last_seen_time" => time(row.last_seen(*heartbeat)),
        "create_time" => time(Some(row.create_time)),
        "update_time" => time(Some(row.update_time)),
        "delete_time" => time(row.delete_time),
        _ => row.uid.to_string(),
    };
    order.keys().iter().map(key).collect()
}

/// Whether a place is one of an order; those of our tokens are.
pub fn is_place(order: &Order, place: &[String]) -> bool {
    place.len() == order.keys().len()
        && order.keys().iter().zip(place).all(|(key, value)| match key.field {
            "display_name" | "node_display_name" | "natural_key" => true,
            "node" | "name" => value.parse::<Uuid>().is_ok(),
            "kind" | "state" => value.parse::<i16>().is_ok(),
            "revision" | "managed_revision" => value.parse::<i64>().is_ok(),
            _ => value.is_empty() || value.parse().ok().and_then(DateTime::from_timestamp_micros).is_some(),
        })
}

/// A key's value out of a token.
fn value(field: &str, text: &str) -> Sql {
    let sql = Sql::new("");
    match field {
        "display_name" | "node_display_name" | "natural_key" => sql.bind(Bind::Text(text.to_owned())),
        "node" | "name" => sql.bind(Bind::Uuid(text.parse().unwrap_or_default())),
        "kind" | "state" => sql.bind(Bind::SmallInt(text.parse().unwrap_or_default())),
        "revision" | "managed_revision" => sql.bind(Bind::BigInt(text.parse().unwrap_or_default())),
        _ => match text.parse().ok().and_then(DateTime::from_timestamp_micros) {
            Some(time) => sql.bind(Bind::Time(Some(time))),
            None => sql.text("'-infinity'::timestamptz"),
        },
    }
}

/// What comes after a place. As a comparison of rows, if all keys go the same way:
/// an index can begin there.
fn beyond(order: &Order, names: &[String], place: &[String]) -> Sql {
    let keys = order.keys();
    if let Some(descending) = order.direction() {
        let symbol = if descending { "<" } else { ">" };
        let mut sql = Sql::new(format!("({}) {symbol} (", names.join(", ")));
        for (index, (key, text)) in keys.iter().zip(place).enumerate() {
            sql = sql.text(if index > 0 { ", " } else { "" }).then(value(key.field, text));
        }
        return sql.text(")");
    }
    let mut sql = Sql::new("(");
    for (last, key) in keys.iter().enumerate() {
        sql = sql.text(if last > 0 { " OR (" } else { "(" });
        for same in 0..last {
            sql = sql.text(format!("{} = ", names[same])).then(value(keys[same].field, &place[same]));
            sql = sql.text(" AND ");
        }
        let symbol = if key.descending { "<" } else { ">" };
        sql = sql.text(format!("{} {symbol} ", names[last])).then(value(key.field, &place[last])).text(")");
    }
    sql.text(")")
}

fn order_by(keys: &[Key], names: &[String]) -> String {
    let parts: Vec<String> = keys
        .iter()
        .zip(names)
        .map(|(key, name)| format!("{name}{}", if key.descending { " DESC" } else { "" }))
        .collect();
    parts.join(", ")
}
