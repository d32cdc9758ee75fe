//! Which key goes when memory is full: Redis's policies, decided on samples as Redis does (`evict.c`, 7.0).
//!
//! To evict, slots are asked for random entries, one slot after the other from a random one on until there are enough;
//! the best victim of these, and of those that were nearly as good at earlier evictions, goes. Eviction is this node's
//! own affair: it leaves no tombstone, and replicas do not repair it back.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::base::config::MaxmemoryPolicy;
use crate::base::ids::{SLOT_COUNT, Slot};
use crate::store::Store;
use crate::store::access::Access;
use crate::store::entry::Entry;
use crate::store::name::Name;

/// Keys that are looked at for each of `maxmemory-samples`: with one, keys that deserve to go are found more slowly
/// than they go once they have become few.
const SAMPLES_FACTOR: u32 = 3;
/// Candidates that are remembered from one eviction to the next.
const CANDIDATES_MAX: usize = 16;

/// The settings, changeable while the node runs.
#[derive(Debug)]
pub struct Eviction {
    /// `maxmemory`, in bytes; 0 for no limit.
    pub bytes_max: AtomicU64,
    policy: AtomicU8,
    /// `maxmemory-samples`.
    pub samples: AtomicU32,
    /// `lfu-log-factor`.
    pub log_factor: AtomicU32,
    /// `lfu-decay-time`, in minutes.
    pub decay_minutes: AtomicU32,
    /// Some key was evicted: others may hold what this node does not.
    has_evicted: AtomicBool,
    /// The best of earlier samples, the very best last. Few keys of a sample deserve to go when most were used lately
    /// (Redis 3.0 has such a pool for the same reason).
    candidates: Mutex<Vec<Candidate>>,
}

/// A key that may be evicted next.
#[derive(Debug)]
struct Candidate {
    score: u64,
    /// Its use when it was looked at: one that was used since is none any more.
    access: u32,
    slot: Slot,
    db: u8,
    key: Box<[u8]>,
}

impl Default for Eviction {
    fn default() -> Eviction {
        Eviction {
            bytes_max: AtomicU64::new(0),
            policy: AtomicU8::new(MaxmemoryPolicy::Noeviction as u8),
            samples: AtomicU32::new(5),
            log_factor: AtomicU32::new(10),
            decay_minutes: AtomicU32::new(1),
            has_evicted: AtomicBool::new(false),
            candidates: Mutex::default(),
        }
    }
}

impl Eviction {
    /// The policy in force.
    pub fn policy(&self) -> MaxmemoryPolicy {
        let place = usize::from(self.policy.load(Ordering::Relaxed));
        MaxmemoryPolicy::ALL.get(place).copied().unwrap_or(MaxmemoryPolicy::Noeviction)
    }

    /// True while Redis would let keys share what they hold: where no key goes for its own use.
    pub fn shares_values(&self) -> bool {
        self.bytes_max.load(Ordering::Relaxed) == 0 || !self.policy().notes_use()
    }

    /// True once a key was evicted: others may hold what this node does not.
    pub fn has_evicted(&self) -> bool {
        self.has_evicted.load(Ordering::Relaxed)
    }

    /// A use of a key at `now_ms`, by the policy in force.
    #[inline]
    pub fn use_at(&self, now_ms: u64) -> Access {
        let load = |value: &AtomicU32| value.load(Ordering::Relaxed);
        Access::at(now_ms, self.policy().is_lfu().then(|| (load(&self.log_factor), load(&self.decay_minutes))))
    }

    /// Changes the policy.
    pub fn set_policy(&self, policy: MaxmemoryPolicy) {
        self.policy.store(policy as u8, Ordering::Relaxed);
        self.candidates.lock().clear();
    }
}

/// What eviction achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evicted {
    /// Below the limit again, after this many keys.
    Enough(u64),
    /// Still above the limit: nothing may go, or nothing is left to.
    NotEnough(u64),
}

impl Evicted {
    /// How many keys went.
    pub fn keys(self) -> u64 {
        let (Evicted::Enough(keys) | Evicted::NotEnough(keys)) = self;
        keys
    }
}

impl Store {
    /// True when the limit on memory is exceeded.
    #[inline]
    pub fn is_over_limit(&self) -> bool {
        let limit = self.eviction.bytes_max.load(Ordering::Relaxed);
        limit != 0 && self.limited_bytes() > limit
    }

    /// What the limit is about. Not deletions that are remembered: they leave when replicas agree on them, and no
    /// eviction of keys hurries that; so is, in Redis, what waits to go to its replicas (`mem_not_counted_for_evict`).
    #[inline]
    fn limited_bytes(&self) -> u64 {
        self.used_bytes().saturating_sub(self.tombstone_bytes())
    }

    /// True when keys are given up, or soon will be, because of the limit: what others have more is not to be brought
    /// here.
    pub fn is_nearly_full(&self) -> bool {
        let limit = self.eviction.bytes_max.load(Ordering::Relaxed);
        limit != 0 && self.eviction.policy() != MaxmemoryPolicy::Noeviction && self.limited_bytes() > limit / 10 * 9
    }

    /// Evicts by the policy until below the limit, at most `keys_max` keys; `gone` is told of each.
    pub fn evict(&self, now_ms: u64, keys_max: u64, mut gone: impl FnMut(u8, &[u8])) -> Evicted {
        let policy = self.eviction.policy();
        let mut evicted = 0;
        // While clients are paused Redis evicts nothing either, and refuses nothing for that.
        while self.is_over_limit() && !self.stands_still(now_ms) {
            // Else each refusal would look for such a key in every slot.
            let none_may_go = policy == MaxmemoryPolicy::Noeviction || policy.only_volatile() && !self.has_deadlines();
            if none_may_go || evicted >= keys_max {
                return Evicted::NotEnough(evicted);
            }
            let Some((db, key)) = self.evict_one(policy, now_ms) else {
                return Evicted::NotEnough(evicted);
            };
            evicted += 1;
            self.eviction.has_evicted.store(true, Ordering::Relaxed);
            gone(db, &key);
        }
        Evicted::Enough(evicted)
    }

    /// Removes the best of a sample and of those before, judged under the same lock; `None` when there is nothing that
    /// may go in any slot.
    fn evict_one(&self, policy: MaxmemoryPolicy, now_ms: u64) -> Option<(u8, Box<[u8]>)> {
        let mut candidates = self.eviction.candidates.lock();
        // Candidates that are none any more may have kept all of the sample out: then there is another without them.
        while self.sample(policy, now_ms, &mut candidates) {
            while let Some(Candidate { access, slot, db, key, .. }) = candidates.pop() {
                let name = Name::of(db, &key);
                let mut table = self.table(slot);
                if table.find(name).is_some_and(|entry| entry.access() == access && may_go(entry, policy))
                    && table.forget(name)
                {
                    return Some((db, key));
                }
            }
        }
        None
    }

    /// Looks at some keys, from a random slot on, and keeps the best among the candidates. False when no key may go.
    fn sample(&self, policy: MaxmemoryPolicy, now_ms: u64, candidates: &mut Vec<Candidate>) -> bool {
        let access = self.eviction.use_at(now_ms);
        let wanted = self.eviction.samples.load(Ordering::Relaxed).max(1).saturating_mul(SAMPLES_FACTOR);
        let (start, mut found) = (rand::random_range(0..SLOT_COUNT), 0);
        for slot in (0..SLOT_COUNT).filter_map(|step| Slot::new(((start + step) % SLOT_COUNT) as u16)) {
            if found >= wanted {
                break;
            }
            if !self.may_hold_entries(slot) {
                continue;
            }
            let table = self.table(slot);
            if table.is_empty() || policy.only_volatile() && !table.has_deadlines() {
                continue;
            }
            let picks = (0..wanted.min(table.len() as u32)).filter_map(|_| table.pick(rand::random()));
            let mut sample: SmallVec<[&Entry; 16]> = picks.filter(|entry| may_go(entry, policy)).collect();
            if sample.is_empty() {
                // A few among many that were deleted or have no deadline.
                sample.extend(table.pick_where(rand::random(), |entry| may_go(entry, policy)));
            }
            found += sample.len() as u32;
            sample.into_iter().for_each(|entry| keep(candidates, entry, slot, score(entry, policy, access)));
        }
        found > 0
    }
}

/// Puts an entry among the candidates, where its score belongs, unless all of them are better.
fn keep(candidates: &mut Vec<Candidate>, entry: &Entry, slot: Slot, score: u64) {
    candidates.retain(|other| other.slot != slot || other.db != entry.db() || *other.key != *entry.key());
    let at = candidates.partition_point(|other| other.score < score);
    let is_full = candidates.len() >= CANDIDATES_MAX;
    if is_full && at == 0 {
        return;
    }
    candidates.insert(at, Candidate { score, access: entry.access(), slot, db: entry.db(), key: entry.key().into() });
    if is_full {
        candidates.remove(0);
    }
}

fn may_go(entry: &Entry, policy: MaxmemoryPolicy) -> bool {
    !(entry.is_tombstone() || policy.only_volatile() && entry.deadline_ms() == 0)
}

/// How much an entry deserves to go: more is sooner.
fn score(entry: &Entry, policy: MaxmemoryPolicy, access: Access) -> u64 {
    match policy {
        MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => u64::from(access.idle_s(entry)),
        MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => u64::from(u8::MAX - access.frequency(entry)),
        MaxmemoryPolicy::VolatileTtl => u64::MAX - entry.deadline_ms(),
        MaxmemoryPolicy::AllkeysRandom | MaxmemoryPolicy::VolatileRandom | MaxmemoryPolicy::Noeviction => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::store::{Effects, Keyspace, mutation::Mutation};

    fn store_with(keys: u64, deadline_ms: impl Fn(u64) -> u64, touched_ms: impl Fn(u64) -> u64) -> Store {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        let mut effects = Effects::default();
        for n in 0..keys {
            let key = n.to_string().into_bytes();
            let mut keyspace = store.lock(slot_of(&key), 0, touched_ms(n), &mut effects);
            keyspace.write(&key, Mutation::Assign { value: &[0; 100], deadline_ms: deadline_ms(n) });
            // To be written is a use as well.
            if n % 2 == 0 {
                keyspace.read(&key);
            }
        }
        store
    }

    fn evict(store: &Store, policy: MaxmemoryPolicy, keys: u64) -> Vec<u64> {
        store.eviction.set_policy(policy);
        store.eviction.bytes_max.store(1, Ordering::Relaxed);
        store.eviction.samples.store(64, Ordering::Relaxed);
        let mut gone = Vec::new();
        store.evict(1_000_000, keys, |_, key| gone.push(String::from_utf8_lossy(key).parse().unwrap_or(u64::MAX)));
        gone
    }

    /// The key among many of one slot that alone may go.
    const CHOSEN: &str = "{one}500";

    /// Has `fill` write a thousand keys of one slot, told which is [`CHOSEN`].
    fn fill_one_slot(store: &Store, fill: impl Fn(&mut Keyspace<'_>, &[u8], bool)) {
        let mut effects = Effects::default();
        for n in 0..1_000 {
            let key = format!("{{one}}{n}");
            let mut keyspace = store.lock(slot_of(key.as_bytes()), 0, 1_000, &mut effects);
            fill(&mut keyspace, key.as_bytes(), key == CHOSEN);
        }
    }

    fn evicted_of_one_slot(store: &Store, policy: MaxmemoryPolicy) -> Vec<String> {
        store.eviction.set_policy(policy);
        store.eviction.bytes_max.store(1, Ordering::Relaxed);
        let mut gone = Vec::new();
        store.evict(1_000_000, 5, |_, key| gone.push(String::from_utf8_lossy(key).into_owned()));
        gone
    }

    #[test]
    fn lru_prefers_the_idle_ttl_the_soonest_and_volatile_spares_the_rest() {
        let store = store_with(1_000, |_| 0, |n| n * 1_000);
        let gone = evict(&store, MaxmemoryPolicy::AllkeysLru, 50);
        assert_eq!(gone.len(), 50);
        assert!(gone.iter().sum::<u64>() / 50 < 300, "mean {gone:?}");
        let store = store_with(1_000, |n| if n % 2 == 0 { 0 } else { 2_000_000 + n }, |_| 1_000);
        let gone = evict(&store, MaxmemoryPolicy::VolatileTtl, 50);
        assert!(gone.iter().all(|n| n % 2 == 1) && gone.iter().sum::<u64>() / 50 < 300, "{gone:?}");
    }

    #[test]
    fn noeviction_and_nothing_volatile_evict_nothing() {
        let store = store_with(10, |_| 0, |_| 0);
        assert_eq!(evict(&store, MaxmemoryPolicy::Noeviction, 5), Vec::<u64>::new());
        assert_eq!(evict(&store, MaxmemoryPolicy::VolatileLru, 5), Vec::<u64>::new());
        assert_eq!(evict(&store, MaxmemoryPolicy::AllkeysRandom, 100).len(), 10);
    }

    #[test]
    fn where_no_key_may_go_no_slot_is_looked_at() {
        let store = store_with(100, |_| 0, |_| 1_000);
        // Whoever looked at this slot would wait for ever.
        let held = store.table(slot_of(b"0"));
        let gone = std::thread::scope(|threads| {
            threads.spawn(|| evict(&store, MaxmemoryPolicy::VolatileTtl, 5)).join().expect("no panic")
        });
        assert_eq!(gone, Vec::<u64>::new());
        drop(held);
    }

    #[test]
    fn deletions_that_are_remembered_take_no_room_from_keys() {
        let (store, mut effects) = (store_with(100, |_| 0, |_| 1_000), Effects::default());
        store.set_replicated(true);
        store.eviction.set_policy(MaxmemoryPolicy::AllkeysLru);
        let limit = store.used_bytes() + 10_000;
        store.eviction.bytes_max.store(limit, Ordering::Relaxed);
        for n in 0..10_000 {
            let key = format!("deleted:{n}").into_bytes();
            let mut keyspace = store.lock(slot_of(&key), 0, 1_000 + n, &mut effects);
            keyspace.write(&key, Mutation::Assign { value: &[0; 100], deadline_ms: 0 });
            keyspace.write(&key, Mutation::Delete);
        }
        assert!(store.used_bytes() > 10 * limit && !store.is_over_limit() && !store.is_nearly_full());
        assert_eq!(store.evict(20_000, 100, |_, _| {}), Evicted::Enough(0));
        store.eviction.bytes_max.store(limit - 15_000, Ordering::Relaxed);
        let Evicted::Enough(evicted) = store.evict(20_000, 100, |_, _| {}) else { panic!("keys may go") };
        assert!((1..100).contains(&evicted), "{evicted} of 100 keys went");
        assert_eq!(store.count_tombstones(), 10_000);
    }

    #[test]
    fn a_key_among_many_of_its_slot_is_found_when_it_alone_may_go() {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        fill_one_slot(&store, |keyspace, key, is_chosen| {
            let deadline_ms = if is_chosen { 2_000_000 } else { 0 };
            keyspace.write(key, Mutation::Assign { value: &[0; 100], deadline_ms });
        });
        assert_eq!(evicted_of_one_slot(&store, MaxmemoryPolicy::VolatileLru), [CHOSEN]);
    }

    #[test]
    fn a_key_among_many_deletions_of_its_slot_is_found() {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        store.set_replicated(true);
        fill_one_slot(&store, |keyspace, key, is_chosen| {
            keyspace.write(key, Mutation::Assign { value: &[0; 100], deadline_ms: 0 });
            if !is_chosen {
                keyspace.delete(key);
            }
        });
        assert_eq!(evicted_of_one_slot(&store, MaxmemoryPolicy::AllkeysLru), [CHOSEN]);
    }

    #[test]
    fn candidates_that_are_gone_keep_no_other_key_from_being_evicted() {
        let store = store_with(100, |_| 0, |n| if n < 30 { 1_000 } else { 900_000 });
        assert_eq!(evict(&store, MaxmemoryPolicy::AllkeysLru, 1).len(), 1);
        let mut effects = Effects::default();
        for n in 0..30u64 {
            let key = n.to_string().into_bytes();
            store.lock(slot_of(&key), 0, 1_000_000, &mut effects).delete(&key);
        }
        assert!(!store.eviction.candidates.lock().is_empty());
        let mut gone = 0;
        store.evict(1_000_000, 100, |_, _| gone += 1);
        assert_eq!(gone, 70);
    }
}
