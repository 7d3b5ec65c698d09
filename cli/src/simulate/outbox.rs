//! What a connection has published and nobody has confirmed yet, in the order in
//! which it was first sent. Bounded by who puts into it. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::parcel::Parcel;

/// Unconfirmed messages of the agents of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    parcels: BTreeMap<u64, Arc<Parcel>>,
    next: u64,
    /// From here on nothing was sent over this connection yet.
    unsent: u64,
    /// Batches and their bytes, by agent.
    by_agent: HashMap<u32, (u64, u64)>,
}

impl Outbox {
    /// Puts in a message, sent next to last.
    pub fn put(&mut self, parcel: Parcel) {
        let bytes = parcel.body.len() as u64;
        let (batches, total) = self.by_agent.entry(parcel.agent).or_default();
        (*batches, *total) = (*batches + 1, *total + bytes);
        self.parcels.insert(self.next, Arc::new(parcel));
        self.next += 1;
    }

    /// The next to be sent, with the ticket by which it is confirmed.
    pub fn send(&mut self) -> Option<(u64, Arc<Parcel>)> {
        let (ticket, parcel) = self.parcels.range(self.unsent..).next()?;
        self.unsent = ticket + 1;
        Some((*ticket, parcel.clone()))
    }

    /// Takes out what is confirmed.
    pub fn confirm(&mut self, ticket: u64) -> Option<Arc<Parcel>> {
        let parcel = self.parcels.remove(&ticket)?;
        let bytes = parcel.body.len() as u64;
        if let Some((batches, total)) = self.by_agent.get_mut(&parcel.agent) {
            (*batches, *total) = (*batches - 1, *total - bytes);
            if *batches == 0 {
                self.by_agent.remove(&parcel.agent);
            }
        }
        Some(parcel)
    }

    /// All is sent again, from the beginning. Answers how much that is.
    pub fn rewind(&mut self) -> u64 {
        let again = self.parcels.range(..self.unsent).count() as u64;
        self.unsent = 0;
        again
    }

    /// Messages in it.
    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    /// Batches of one agent and their bytes.
    pub fn of_agent(&self, agent: u32) -> (u64, u64) {
        self.by_agent.get(&agent).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::simulate::parcel::Content;

    fn parcel(agent: u32, sequence: i64) -> Parcel {
        let (node, stream, message_id) = (Uuid::nil(), Uuid::nil(), Uuid::nil());
        let (compressed, body) = (false, vec![0; 10]);
        Parcel { agent, node, stream, sequence, message_id, compressed, body, content: Content::Corrupt }
    }

    #[test]
    fn what_is_not_confirmed_is_sent_again_in_order() {
        let mut outbox = Outbox::default();
        (1..=4).for_each(|sequence| outbox.put(parcel(sequence as u32 % 2, sequence)));
        let sent = |outbox: &mut Outbox| -> Vec<i64> {
            std::iter::from_fn(|| outbox.send().map(|(_, parcel)| parcel.sequence)).collect()
        };
        assert_eq!(sent(&mut outbox), [1, 2, 3, 4]);
        outbox.put(parcel(1, 5));
        assert_eq!(outbox.confirm(1).unwrap().sequence, 2);
        assert!(outbox.confirm(1).is_none());
        assert_eq!(outbox.rewind(), 3);
        assert_eq!(sent(&mut outbox), [1, 3, 4, 5]);
        assert_eq!((outbox.len(), outbox.of_agent(1)), (4, (3, 30)));
        (0..=4).for_each(|ticket| drop(outbox.confirm(ticket)));
        assert_eq!((outbox.len(), outbox.of_agent(1)), (0, (0, 0)));
    }
}
