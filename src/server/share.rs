//! A node's share of commands about the whole keyspace: DBSIZE, KEYS, SCAN, RANDOMKEY, FLUSHALL, FLUSHDB.
//!
//! The share is the slots that this node coordinates at the moment, so the shares of all nodes are the whole, each key
//! once. Only flushing has a second round, in which each node deletes what it still holds of any slot: nodes may differ for
//! a moment on who coordinates, and a coordinator may lack a write that was made while it was away. A cursor of SCAN is `[node 8 bits][slot 14][layout generation 8][bucket 32]`; a share knows all but the node.

use crate::base::ids::Slot;
use crate::commands::CommandError;
use crate::commands::scan::{ScanOptions, cursor};
use crate::commands::spec::NodeCommand;
use crate::protocol::{Args, Reply};
use crate::replication::coordinator::{View, Waits};
use crate::replication::routing::Quorum;
use crate::server::dispatch::by_slot;
use crate::server::worker::Worker;
use crate::store::Effects;
use crate::store::entry::Entry;
use crate::store::keyspace::view;
use crate::store::mutation::Mutation;

/// Bits of a cursor below the slot.
const BUCKET_BITS: u32 = 40;
/// Bits of a cursor below the node.
pub const SHARE_BITS: u32 = BUCKET_BITS + 14;
/// Most slots that one step of SCAN looks at.
const SCAN_SLOTS_MAX: usize = 4_096;
/// How many entries of a slot RANDOMKEY draws before it looks through all of them.
const RANDOM_DRAWS: usize = 16;

/// Whether a command is about the whole keyspace.
pub fn is_whole(command: NodeCommand) -> bool {
    use NodeCommand::{DbSize, FlushAll, FlushDb, Keys, RandomKey, Scan};
    matches!(command, DbSize | Keys | RandomKey | Scan | FlushAll | FlushDb)
}

/// What a share is computed with.
pub struct Share<'s> {
    /// The worker.
    pub worker: &'s Worker,
    /// The picture.
    pub view: &'s View,
    /// The selected database.
    pub db: u8,
    /// W of the connection, for FLUSHALL.
    pub quorum: Quorum,
    /// The second round of flushing: all slots of which something is held here.
    pub is_rest: bool,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

impl Share<'_> {
    /// Answers for this node. What FLUSHALL has to wait for goes to `waits`.
    pub fn answer(
        &self,
        command: NodeCommand,
        args: Args<'_>,
        out: &mut Reply<'_>,
        waits: &mut Waits,
    ) -> Result<bool, CommandError> {
        match command {
            NodeCommand::DbSize => out.int(self.count() as i64),
            NodeCommand::Keys => self.keys(args.get(1).unwrap_or_default(), out),
            NodeCommand::RandomKey => match self.random_key() {
                Some(key) => out.bulk(&key),
                None => out.null(),
            },
            NodeCommand::Scan => self.scan(args, out)?,
            NodeCommand::FlushAll => {
                check_flush(args)?;
                self.flush(None, waits);
                out.ok();
            }
            NodeCommand::FlushDb => {
                check_flush(args)?;
                self.flush(Some(self.db), waits);
                out.ok();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The slots of this node's share.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let coordinator = |slot: Slot| self.view.roles.of(slot).and_then(|group| group.coordinator);
        let is_all = self.view.is_solo || self.is_rest;
        Slot::all().filter(move |slot| is_all || coordinator(*slot) == Some(self.view.me))
    }

    fn count(&self) -> u64 {
        let counts = self.worker.shared.node.store.count_keys(self.slots());
        counts.get(&self.db).map_or(0, |of_db| of_db.keys)
    }

    fn keys(&self, pattern: &[u8], out: &mut Reply<'_>) {
        let store = &self.worker.shared.node.store;
        let mut found: Vec<Vec<u8>> = Vec::new();
        for slot in self.slots() {
            let table = store.table(slot);
            let live = table
                .iter()
                .filter(|entry| entry.db() == self.db && !entry.is_tombstone() && !entry.is_expired(self.now_ms));
            let fits = live.filter(|entry| crate::base::glob::matches(pattern, entry.key(), false));
            found.extend(fits.map(|entry| entry.key().to_vec()));
        }
        out.array(found.len());
        found.iter().for_each(|key| out.bulk(key));
    }

    fn random_key(&self) -> Option<Vec<u8>> {
        let store = &self.worker.shared.node.store;
        let slots: Vec<Slot> = self.slots().collect();
        let start = self.worker.draw();
        for step in 0..slots.len() {
            let slot = slots.get((start.wrapping_add(step)) % slots.len())?;
            let table = store.table(*slot);
            if table.is_empty() {
                continue;
            }
            let is_live =
                |entry: &&Entry| entry.db() == self.db && !entry.is_tombstone() && !entry.is_expired(self.now_ms);
            let mut drawn = (0..RANDOM_DRAWS).filter_map(|_| table.pick(self.worker.draw() as u64));
            // Where tombstones outnumber keys, drawing finds nothing: then any key will do.
            if let Some(entry) = drawn.find(is_live).or_else(|| table.iter().find(is_live)) {
                return Some(entry.key().to_vec());
            }
        }
        None
    }

    fn scan(&self, args: Args<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
        let from = cursor(args.get(1).unwrap_or_default())?;
        let options = ScanOptions::parse(args, 2, true)?;
        let (keys, next) = self.scan_step(from & ((1 << SHARE_BITS) - 1), &options);
        out.array(2);
        out.bulk(next.to_string().as_bytes());
        out.array(keys.len());
        keys.iter().for_each(|key| out.bulk(key));
        Ok(())
    }

    fn scan_step(&self, from: u64, options: &ScanOptions<'_>) -> (Vec<Vec<u8>>, u64) {
        let store = &self.worker.shared.node.store;
        let first = (from >> BUCKET_BITS) as u16;
        let mut bucket = from & ((1 << BUCKET_BITS) - 1);
        let (mut keys, mut seen) = (Vec::new(), 0);
        for (looked, slot) in self.slots().filter(|slot| slot.number() >= first).enumerate() {
            if slot.number() != first {
                bucket = 0;
            }
            if seen >= options.count || looked >= SCAN_SLOTS_MAX {
                return (keys, u64::from(slot.number()) << BUCKET_BITS | bucket);
            }
            let table = store.table(slot);
            bucket = table.scan(bucket, options.count - seen, |entry| {
                seen += 1;
                let live = entry.db() == self.db && !entry.is_tombstone() && !entry.is_expired(self.now_ms);
                let of_type = |name: &[u8]| {
                    view(entry).is_some_and(|view| name.eq_ignore_ascii_case(view.type_name().as_bytes()))
                };
                if live && options.lets_through(entry.key()) && options.type_name.is_none_or(of_type) {
                    keys.push(entry.key().to_vec());
                }
            });
            if bucket != 0 {
                return (keys, u64::from(slot.number()) << BUCKET_BITS | bucket);
            }
        }
        (keys, 0)
    }

    fn flush(&self, db: Option<u8>, waits: &mut Waits) {
        let store = &self.worker.shared.node.store;
        let mut effects = Effects::default();
        for slot in self.slots() {
            let names: Vec<(u8, Vec<u8>)> = {
                let table = store.table(slot);
                let wanted = table.iter().filter(|entry| db.is_none_or(|db| entry.db() == db) && !entry.is_tombstone());
                wanted.map(|entry| (entry.db(), entry.key().to_vec())).collect()
            };
            if names.is_empty() {
                continue;
            }
            let mut keys = store.lock(slot, self.db, self.now_ms, &mut effects);
            for (db, key) in names {
                keys.select(db);
                keys.write(&key, Mutation::Delete);
            }
            let deltas = keys.take_deltas();
            for (slot, part) in by_slot(&deltas) {
                self.worker.shared.coordinator.replicate(self.view, slot, part, self.quorum, self.now_ms, waits);
            }
        }
    }
}

fn check_flush(args: Args<'_>) -> Result<(), CommandError> {
    let known = |word: &[u8]| word.eq_ignore_ascii_case(b"ASYNC") || word.eq_ignore_ascii_case(b"SYNC");
    if args.len() > 2 || args.get(1).is_some_and(|word| !known(word)) {
        return Err(CommandError::Syntax);
    }
    Ok(())
}
