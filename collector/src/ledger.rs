//! Which messages of one channel are not acknowledged yet. Pure. A ledger lives
//! and dies with its channel: delivery tags mean nothing on another one.

use std::collections::BTreeSet;

/// The delivery tags of one channel that are taken and not settled.
#[derive(Debug, Default)]
pub struct Ledger {
    open: BTreeSet<u64>,
}

/// What to acknowledge.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// All up to this tag, with one frame.
    pub up_to: Option<u64>,
    /// These, one by one: older ones are still open.
    pub single: Vec<u64>,
}

impl Ledger {
    /// A message came.
    pub fn take(&mut self, tag: u64) {
        self.open.insert(tag);
    }

    /// Messages that are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no message is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// These are committed: what to acknowledge so that exactly they are.
    pub fn settle(&mut self, tags: impl IntoIterator<Item = u64>) -> Acks {
        let settled: BTreeSet<u64> = tags.into_iter().filter(|tag| self.open.remove(tag)).collect();
        let oldest_open = self.open.first().copied().unwrap_or(u64::MAX);
        Acks {
            up_to: settled.range(..oldest_open).next_back().copied(),
            single: settled.range(oldest_open..).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_what_is_committed_is_acknowledged() {
        // taken so far, settled → up_to, single, still open
        type Case = (&'static [u64], &'static [u64], Option<u64>, &'static [u64], usize);
        let table: [Case; 7] = [
            (&[1, 2, 3], &[1, 2, 3], Some(3), &[], 0),
            (&[1, 2, 3], &[1, 2], Some(2), &[], 1),
            (&[1, 2, 3], &[2, 3], None, &[2, 3], 1),
            (&[1, 2, 3, 4], &[4, 1, 2], Some(2), &[4], 1),
            (&[5, 9], &[9], None, &[9], 1),
            (&[5, 9], &[], None, &[], 2),
            // A tag that is not open is not acknowledged: the broker would close
            // the channel.
            (&[5], &[4, 5, 6], Some(5), &[], 0),
        ];
        for (taken, settled, up_to, single, open) in table {
            let mut ledger = Ledger::default();
            taken.iter().for_each(|tag| ledger.take(*tag));
            let acks = ledger.settle(settled.iter().copied());
            assert_eq!(acks, Acks { up_to, single: single.to_vec() }, "{taken:?} {settled:?}");
            assert_eq!(ledger.len(), open);
            assert_eq!(ledger.settle(settled.iter().copied()), Acks::default(), "twice");
        }
    }
}
