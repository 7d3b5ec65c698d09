//! Contents of images: written once for each digest, outside the fold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::streams::contains;
use crate::{
    domain::image::{ListKey, Part, relevant, winners},
    store::image::{complete, contents_in_txn, drop_in_txn, lock_in_txn, receive_parts_in_txn},
};

/// Writes the parts of lists that can still matter. What is here already, and
/// what belongs to an image of which all is known, changes nothing.
pub(super) async fn write_contents(connection: &mut AsyncPgConnection, parts: Vec<&Part>) -> QueryResult<()> {
    if parts.is_empty() {
        return Ok(());
    }
    // Every node that has an image tells what is in it: mostly this ends here,
    // and without a lock.
    let known = complete(connection, &images(&parts)).await?;
    let parts = relevant(parts, &known);
    if parts.is_empty() {
        return Ok(());
    }
    let digests: BTreeMap<Uuid, String> =
        parts.iter().map(|part| (part.key.image, part.digest.clone())).collect();
    let digests: Vec<(Uuid, String)> = digests.into_iter().collect();
    lock_in_txn(connection, &digests).await?;

    // Another transaction may have been first.
    let known = complete(connection, &images(&parts)).await?;
    let parts = relevant(parts, &known);
    if parts.is_empty() {
        return Ok(());
    }
    let lists: BTreeSet<ListKey> = parts.iter().map(|part| part.key.clone()).collect();
    let lists: Vec<ListKey> = lists.into_iter().collect();
    let contents: HashMap<ListKey, _> = contents_in_txn(connection, &lists)
        .await?
        .into_iter()
        .map(|content| (content.key.clone(), content))
        .collect();
    let mut new: Vec<(i64, &Part)> = Vec::new();
    let mut seen: HashSet<(i64, i32)> = HashSet::new();
    for part in &parts {
        let Some(content) = contents.get(&part.key) else { continue };
        if !contains(&content.received, &part.number) && seen.insert((content.id, part.number)) {
            new.push((content.id, part));
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    let complete = receive_parts_in_txn(connection, &new).await?;
    drop_in_txn(connection, &images(&parts), &winners(complete)).await
}

fn images(parts: &[&Part]) -> Vec<Uuid> {
    let images: BTreeSet<Uuid> = parts.iter().map(|part| part.key.image).collect();
    images.into_iter().collect()
}
