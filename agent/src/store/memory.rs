//! What happens when the disk cannot be written: the store goes on in memory
//! under a new stream, and back to the disk as soon as that works.

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable};
use uuid::Uuid;

use super::parcel::{Parcel, Position};
use super::tables::{META, Meta, OUTBOX, begin_stream, create};
use super::{Settings, StoreError};

/// Most bytes of unconfirmed batches in memory: an agent has little of it.
pub(super) const OUTBOX_LIMIT_BYTES: u64 = 4 * 1024 * 1024;
const CACHE_BYTES: usize = 1024 * 1024;

/// A store in memory.
pub(super) struct Memory {
    /// Why it is not on the disk.
    pub(super) reason: String,
    /// Batches that were copied from the file's outbox, and may be confirmed
    /// before the file can be written again.
    pub(super) copied: Vec<Position>,
}

/// Makes a store in memory with a new stream, and as much of the outbox as there
/// is room for; the rest waits in the file.
pub(super) fn create_store(
    settings: &Settings,
    generation: u32,
    outbox: &[Parcel],
) -> Result<(Database, Vec<Position>), StoreError> {
    let database = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(InMemoryBackend::new())?;
    let write = database.begin_write()?;
    let bytes = outbox.iter().map(Parcel::bytes).sum();
    create(&write, &Meta::begin(settings.node_uid, generation, bytes))?;
    let copied = outbox.iter().map(Parcel::position).collect();
    {
        let mut table = write.open_table(OUTBOX)?;
        for parcel in outbox {
            table.insert(parcel.position(), parcel.to_row())?;
        }
    }
    write.commit()?;
    Ok((database, copied))
}

/// The oldest batches, of at most this many bytes together.
pub(super) fn oldest(database: &Database, limit_bytes: u64) -> Result<Vec<Parcel>, StoreError> {
    let read = database.begin_read()?;
    let mut bytes = 0;
    let mut parcels = Vec::new();
    for row in read.open_table(OUTBOX)?.range::<Position>(..)? {
        let (position, row) = row?;
        let parcel = Parcel::from_row(position.value(), row.value());
        bytes += parcel.bytes();
        if bytes > limit_bytes {
            break;
        }
        parcels.push(parcel);
    }
    Ok(parcels)
}

/// Moves what is in memory to the file: its outbox takes the batches that are
/// left, gives up those that were confirmed meanwhile, and a new stream begins.
///
/// All of the outbox gets new positions, higher than any before: those of the
/// file may not have been known when the ones in memory were given. What is in
/// flight is therefore sent again, and known to be a duplicate.
pub(super) fn move_to_file(
    memory: &Database,
    copied: &[Position],
    file: &Database,
    node_uid: Uuid,
) -> Result<(), StoreError> {
    let left = oldest(memory, u64::MAX)?;
    let generation = Meta::read(&memory.begin_read()?)?.generation;
    let write = file.begin_write()?;
    let mut renumber =
        Renumber { generation: generation.max(Meta::of(&write.open_table(META)?)?.generation), of: None };
    let mut bytes = 0;
    {
        let mut outbox = write.open_table(OUTBOX)?;
        let mut positions = Vec::new();
        for row in outbox.range::<Position>(..)? {
            positions.push(row?.0.value());
        }
        for position in positions {
            let parcel = outbox.remove(position)?.map(|row| Parcel::from_row(position, row.value()));
            if let Some(parcel) = parcel.filter(|_| !copied.contains(&position)) {
                bytes += parcel.bytes();
                outbox.insert(renumber.next(&parcel), parcel.to_row())?;
            }
        }
        for parcel in &left {
            bytes += parcel.bytes();
            outbox.insert(renumber.next(parcel), parcel.to_row())?;
        }
    }
    begin_stream(&write, &Meta::begin(node_uid, renumber.generation + 1, bytes))?;
    Ok(write.commit()?)
}

/// Gives each stream in turn the next generation.
struct Renumber {
    generation: u32,
    of: Option<Uuid>,
}

impl Renumber {
    fn next(&mut self, parcel: &Parcel) -> Position {
        if self.of.replace(parcel.stream) != Some(parcel.stream) {
            self.generation += 1;
        }
        (self.generation, parcel.sequence)
    }
}
