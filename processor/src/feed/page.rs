//! Rows of the feed as all followers of a process share them.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use serde_json::Value as Json;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Ending, Feed};
use crate::{
    domain::{
        attributes::{searchable, searchable_encoded},
        changes::Descriptors,
        feed::{Cluster, Place},
        filter::Subject,
    },
    store::{
        asset::{self, AssetOnNode},
        change::{Change, Earlier, revisions_of},
        event,
    },
};

/// An asset at one revision.
type Key = (Uuid, i64);

/// Rows one after another, and the place after them.
#[derive(Debug)]
pub struct Page {
    /// The rows.
    pub items: Vec<Item>,
    /// Whose numbers the places are.
    pub cluster: Cluster,
    /// What is told once all of it is told.
    pub end: Place,
    /// What is known of what is after each of its rows.
    pub start: Place,
    earlier: Mutex<HashMap<Key, Option<Arc<Earlier>>>>,
}

/// A row, and what filters ask about it, made once for all.
#[derive(Debug)]
pub struct Item {
    /// The row.
    pub change: Change,
    subjects: [OnceLock<Subject>; 2],
    event: OnceLock<Subject>,
}

impl Page {
    /// Rows after `start`.
    pub fn new(changes: Vec<Change>, cluster: Cluster, start: Place, end: Place) -> Self {
        let item = |change| Item { change, subjects: Default::default(), event: OnceLock::new() };
        let items = changes.into_iter().map(item).collect();
        Self { items, cluster, end, start, earlier: Mutex::default() }
    }

    /// The place after a row of it.
    pub fn place(&self, item: &Item) -> Place {
        Place { xid: item.change.xid, id: item.change.row.id, since: self.start.since }
    }

    /// The revisions before those of some rows, looked up once for all. Those that
    /// are not kept are none.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn earlier(&self, feed: &Feed, wanted: &[Key]) -> Result<HashMap<Key, Arc<Earlier>>, Ending> {
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let mut known = self.earlier.lock().await;
        let missing: Vec<Key> = wanted.iter().filter(|key| !known.contains_key(key)).copied().collect();
        if !missing.is_empty() {
            let newest = self.items.iter().map(|item| item.change.row.record_time).max().unwrap_or_default();
            let found =
                feed.read(async |connection| revisions_of(connection, &missing, newest).await).await?;
            known.extend(missing.into_iter().map(|key| (key, None)));
            known.extend(found.into_iter().map(|(key, earlier)| (key, Some(Arc::new(earlier)))));
        }
        let of = |key: &Key| Some((*key, known.get(key)?.clone()?));
        Ok(wanted.iter().filter_map(of).collect())
    }
}

impl Item {
    /// What a filter on assets asks about, of the asset after the row.
    pub fn subject(&self, descriptors: &Descriptors, attributes: bool) -> &Subject {
        self.subjects[usize::from(attributes)]
            .get_or_init(|| subject(&self.change.after(), descriptors, attributes))
    }

    /// The same of the asset before it.
    pub fn subject_before(&self, earlier: &Earlier, descriptors: &Descriptors, attributes: bool) -> Subject {
        let (mut row, node, heartbeat) = self.change.after();
        row.revision -= 1;
        row.display_name.clone_from(&earlier.display_name);
        row.state = earlier.state;
        row.managed_revision = earlier.managed_revision;
        row.details.clone_from(&earlier.details);
        row.managed.clone_from(&earlier.managed);
        row.update_time = earlier.record_time;
        row.delete_time = earlier.is_deletion().then_some(earlier.record_time);
        subject(&(row, node, heartbeat), descriptors, attributes)
    }

    /// What a filter on events asks about.
    pub fn event_subject(&self) -> &Subject {
        self.event.get_or_init(|| event::subject(&self.change.event()))
    }
}

fn subject(asset: &AssetOnNode, descriptors: &Descriptors, attributes: bool) -> Subject {
    let attributes = if attributes { self::attributes(asset, descriptors) } else { Json::Null };
    asset::subject(asset, attributes)
}

/// As the table has them.
fn attributes((row, ..): &AssetOnNode, descriptors: &Descriptors) -> Json {
    let text = searchable_encoded(row.details.as_deref());
    let mut attributes: Json = serde_json::from_str(&text).unwrap_or_default();
    let managed = row.managed.as_deref().zip(descriptors.message("ManagedFields"));
    if let (Some(object), Some((managed, descriptor))) = (attributes.as_object_mut(), managed) {
        object.insert("managed".to_owned(), searchable(&descriptor, managed));
    }
    attributes
}
