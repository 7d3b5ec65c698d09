//! Which shard goes to which queue. Pure.

use kit::queue::{SHARDS, queue_of_shard};

/// A binding of a shard to a queue, both by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// 0 to 63.
    pub shard: u8,
    /// From 0.
    pub queue: u8,
}

impl Binding {
    /// Its key on the topic exchange.
    pub fn key(self) -> String {
        format!("shard.{}.#", self.shard)
    }
}

/// The bindings that must be, with `queues` queues: each shard has one.
pub fn wanted(queues: u8) -> Vec<Binding> {
    (0..SHARDS).map(|shard| Binding { shard, queue: queue_of_shard(shard, queues) }).collect()
}

/// The bindings that must not be, with `queues` queues, but that may be left
/// from another number of queues, on the first `existing` queues.
pub fn unwanted(queues: u8, existing: u8) -> Vec<Binding> {
    let mut bindings = Vec::new();
    for queue in 0..existing {
        for shard in 0..SHARDS {
            let elsewhere = queue_of_shard(shard, queues) != queue;
            // With any number of queues this queue gets its shards from a
            // narrow range: the others need not be asked for.
            if elsewhere && (1..=SHARDS).any(|other| queue_of_shard(shard, other) == queue) {
                bindings.push(Binding { shard, queue });
            }
        }
    }
    bindings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// From any number of queues to any other: afterwards each shard is bound
    /// to its one queue, and to no other.
    #[test]
    fn any_change_of_the_number_of_queues_leaves_one_queue_a_shard() {
        for before in 1..=64_u8 {
            for after in [1, 2, 3, 4, 5, 8, 16, 33, 63, 64_u8] {
                let pair = |binding: &Binding| (binding.shard, binding.queue);
                let mut bound: BTreeSet<_> = wanted(before).iter().map(pair).collect();
                bound.extend(wanted(after).iter().map(pair));
                for binding in unwanted(after, before.max(after)) {
                    bound.remove(&pair(&binding));
                }
                assert_eq!(bound, wanted(after).iter().map(pair).collect(), "{before} → {after}");
            }
        }
    }

    #[test]
    fn nothing_that_is_wanted_is_unbound() {
        for queues in 1..=64 {
            let wanted = wanted(queues);
            assert_eq!(wanted.len(), 64);
            assert!(unwanted(queues, 64).iter().all(|binding| !wanted.contains(binding)));
        }
    }

    #[test]
    fn keys_match_a_shard_and_not_its_namesakes() {
        assert_eq!(Binding { shard: 6, queue: 0 }.key(), "shard.6.#");
    }
}
