//! A keyspace of its own for a command whose keys have several coordinators.
//!
//! What the keys hold is brought here, the command's ordinary function runs here, and what it would have changed comes
//! out as mutations for each key's coordinator. So a command has one meaning, wherever its keys live.
//!
//! The function may touch a key that was not brought (COPY into another database); here it does not exist, and whoever
//! finds it among the changes brings it too and runs the command anew. The scratch is empty between runs.

use std::collections::HashMap;
use std::hash::Hash;

use crate::base::ids::{ActorId, Slot, slot_of};
use crate::base::version::Actor;
use crate::commands::CommandError;
use crate::commands::exchange::Fetched;
use crate::commands::spec::{Command, CommandLimits, Cx, KeysFunction};
use crate::protocol::client::encode_command;
use crate::protocol::{Args, Proto, Reply};
use crate::store::deltas::{Chain, chains};
use crate::store::mutation::Mutation;
use crate::store::name::Name;
use crate::store::{Effects, Event, Store, Tuning};

/// A key by its database and name.
pub type KeyName = (u8, Vec<u8>);

/// What keys hold.
pub type Brought = HashMap<KeyName, Fetched>;

/// What a command does to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The key.
    pub name: KeyName,
    /// Its mutations as they travel, in their order.
    pub mutations: Vec<Vec<u8>>,
    /// The key can only become less.
    pub takes_away: bool,
}

impl Change {
    /// The request that makes this change at the key's coordinator, by RONDO.APPLY or RONDO.GROW.
    pub fn request(&self, by: &Command) -> Vec<u8> {
        let words = [by.name.as_bytes(), &self.name.1].into_iter().chain(self.mutations.iter().map(Vec::as_slice));
        let mut request = Vec::new();
        encode_command(&mut request, &words.collect::<Vec<_>>());
        request
    }
}

/// What came of a run, and what is to be done about it.
#[derive(Debug)]
pub struct ScratchRun {
    /// The reply, without an error's.
    pub reply: Result<Vec<u8>, CommandError>,
    /// What changes, each key once, in the order of their first changes.
    pub changes: Vec<Change>,
    /// What is to be told to whoever listens for keyspace events, also of a command that was refused.
    pub events: Vec<Event>,
    /// Lookups that found a key, and those that did not.
    pub lookups: (u64, u64),
    /// How many changes of keys that is to a client.
    pub changed: u64,
}

/// What a command is run with.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The database.
    pub db: u8,
    /// The protocol of the reply.
    pub proto: Proto,
    /// The limits that options set.
    pub limits: CommandLimits,
    /// The options that shape values.
    pub tuning: &'a Tuning,
    /// Whether anybody wants events.
    pub notify: bool,
    /// Whether the command looks its keys up only to write them: that is neither a hit nor a miss.
    pub only_writes: bool,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Scratch {
    store: Store,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { store: Store::new(ActorId { node: 0, generation: 0 }) }
    }
}

impl Scratch {
    /// Runs a command on what was brought.
    pub fn run(&self, run: KeysFunction, args: Args<'_>, brought: &Brought, setting: Setting<'_>) -> ScratchRun {
        self.store.tuning.copy_from(setting.tuning);
        let slots: Vec<Slot> = brought.keys().map(|(_, key)| slot_of(key)).collect();
        let mut effects = Effects { notify: false, ..Effects::default() };
        self.store.set_replicated(false);
        {
            let mut keys = self.store.lock_many(&slots, setting.db, setting.now_ms, &mut effects);
            for ((db, key), fetched) in brought {
                keys.select(*db);
                if let Some(whole) = &fetched.whole {
                    keys.write(key, Mutation::Replace { whole, deadline_ms: fetched.deadline_ms });
                }
            }
        }
        // From here on what is written is recorded.
        self.store.set_replicated(true);
        (effects.notify, effects.only_writes, effects.writes) = (setting.notify, setting.only_writes, 0);
        let mut bytes = Vec::new();
        let (result, deltas) = {
            let mut keys = self.store.lock_many(&slots, setting.db, setting.now_ms, &mut effects);
            let out = Reply::new(&mut bytes, setting.proto);
            let result = Cx { args, keys: &mut keys, out, limits: setting.limits }.run(run);
            (result, keys.take_deltas())
        };
        let changes = self.changes(&deltas);
        let written = changes.iter().map(|change| &change.name);
        brought.keys().chain(written).for_each(|name| self.forget(name));
        let (lookups, changed) = (effects.lookups(), effects.writes);
        ScratchRun { reply: result.map(|()| bytes), changes, events: effects.events, lookups, changed }
    }

    fn changes(&self, deltas: &[u8]) -> Vec<Change> {
        let all = chains(deltas).flat_map(|chain| Chain::new(chain, Actor::SELF, &self.store.actors)).flatten();
        let of_keys = all.map(|delta| {
            let mut bytes = Vec::new();
            delta.mutation.encode(&mut bytes);
            ((delta.db, delta.key.to_vec()), (bytes, delta.mutation.takes_away()))
        });
        let changes = gathered(of_keys).into_iter().map(|(name, of_key)| {
            let takes_away = of_key.iter().all(|(_, takes_away)| *takes_away);
            Change { name, mutations: of_key.into_iter().map(|(bytes, _)| bytes).collect(), takes_away }
        });
        changes.collect()
    }

    fn forget(&self, (db, key): &KeyName) {
        self.store.table(slot_of(key)).forget(Name::of(*db, key));
    }
}

/// The values of each key together, in the order of the keys' first ones.
fn gathered<K: Clone + Eq + Hash, V>(values: impl Iterator<Item = (K, V)>) -> Vec<(K, Vec<V>)> {
    let (mut places, mut gathered) = (HashMap::new(), Vec::<(K, Vec<V>)>::new());
    for (key, value) in values {
        let place = *places.entry(key.clone()).or_insert(gathered.len());
        match gathered.get_mut(place) {
            Some((_, of_key)) => of_key.push(value),
            None => gathered.push((key, vec![value])),
        }
    }
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::spec::Handler;
    use crate::commands::table;
    use crate::protocol::{Limits, Scanner};
    use crate::store::whole;

    fn run(scratch: &Scratch, line: &str, brought: &[(&str, Fetched)]) -> ScratchRun {
        let request = format!("{line}\r\n").into_bytes();
        let mut scanner = Scanner::new();
        scanner.scan(&request, &Limits::default()).expect("a request");
        let args = scanner.args(&request);
        let (_, command) = table::find(args.name()).expect("a command");
        let Handler::Keys(function) = command.handler else { panic!("on keys") };
        let brought = brought.iter().map(|(key, it)| ((0, key.as_bytes().to_vec()), it.clone())).collect::<Brought>();
        let tuning = Store::new(ActorId { node: 9, generation: 9 }).tuning;
        let limits = CommandLimits::default();
        let (notify, only_writes, now_ms) = (true, command.only_writes(), 1_700_000_000_000);
        let setting = Setting { db: 0, proto: Proto::Resp2, limits, tuning: &tuning, notify, only_writes, now_ms };
        scratch.run(function, args, &brought, setting)
    }

    fn text(value: &str) -> Fetched {
        Fetched { whole: Some(whole::string(value.as_bytes(), None)), ..Fetched::default() }
    }

    fn set(members: &[&str]) -> Fetched {
        let whole = whole::set(members.iter().map(|member| member.as_bytes()), None);
        Fetched { whole: Some(whole), ..Fetched::default() }
    }

    #[test]
    fn what_a_command_finds_is_counted_and_told_of_as_on_one_node() {
        let scratch = Scratch::default();
        let none = || Fetched::default();
        for (line, lookups, missed) in [
            ("COPY a b", (0, 1), &["a"][..]),
            ("RENAME a b", (0, 0), &[]),
            ("MSETNX a 1 b 2", (0, 0), &[]),
            ("SUNIONSTORE a b c", (1, 1), &["b"]),
        ] {
            let ran = run(&scratch, line, &[("a", none()), ("b", none()), ("c", set(&["m"]))]);
            let misses = ran.events.iter().filter(|event| event.name == "keymiss");
            let misses: Vec<_> = misses.map(|event| String::from_utf8_lossy(&event.key).into_owned()).collect();
            assert_eq!(
                (ran.lookups, misses.as_slice()),
                (lookups, &missed.iter().map(|key| key.to_string()).collect::<Vec<_>>()[..]),
                "{line}"
            );
        }
    }

    #[test]
    fn what_a_command_changes_comes_out_key_by_key() {
        let scratch = Scratch::default();
        let ran = run(&scratch, "RENAME a b", &[("a", text("v")), ("b", text("w"))]);
        assert_eq!(ran.reply, Ok(b"+OK\r\n".to_vec()));
        let told: Vec<_> = ran.changes.iter().map(|it| (it.name.1.as_slice(), it.takes_away)).collect();
        assert_eq!(told, [(&b"b"[..], false), (&b"a"[..], true)]);
        let events: Vec<_> = ran.events.iter().map(|event| event.name).collect();
        assert_eq!(events, ["new", "rename_from", "rename_to"]);
        // Also where the member is there: somebody who has put it there may be about to take it back.
        for there in [Fetched::default(), set(&["m"])] {
            let ran = run(&scratch, "SMOVE a b m", &[("a", set(&["m", "n"])), ("b", there)]);
            assert_eq!(ran.reply, Ok(b":1\r\n".to_vec()));
            let told: Vec<_> = ran.changes.iter().map(|it| (it.name.1.as_slice(), it.takes_away)).collect();
            assert_eq!(told, [(&b"a"[..], true), (&b"b"[..], false)]);
        }
    }

    #[test]
    fn nothing_is_left_for_the_next_command() {
        let scratch = Scratch::default();
        run(&scratch, "RENAME a b", &[("a", text("v")), ("b", Fetched::default())]);
        let ran = run(&scratch, "RENAME b a", &[("a", Fetched::default()), ("b", Fetched::default())]);
        assert_eq!(ran.reply, Err(CommandError::NoSuchKey));
        assert_eq!(ran.changes, []);
        assert!(scratch.store.count_keys(Slot::all()).is_empty());
        assert!(Slot::all().all(|slot| scratch.store.table(slot).is_empty()), "tombstones are gone too");
    }

    #[test]
    fn a_key_that_was_not_brought_shows_among_the_changes() {
        let ran = run(&Scratch::default(), "COPY a b DB 3", &[("a", text("v")), ("b", text("w"))]);
        let names: Vec<_> = ran.changes.iter().map(|it| it.name.clone()).collect();
        assert_eq!(names, [(3, b"b".to_vec())]);
    }

    /// A key that counts how often it is compared.
    #[derive(Clone, Debug)]
    struct Counted<'c>(usize, &'c std::cell::Cell<usize>);

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Counted<'_>) -> bool {
            self.1.set(self.1.get() + 1);
            self.0 == other.0
        }
    }

    impl Eq for Counted<'_> {}

    impl Hash for Counted<'_> {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    #[test]
    fn values_are_gathered_by_key_without_comparing_every_key_with_every_other() {
        const KEYS: usize = 2_000;
        let compared = std::cell::Cell::new(0);
        let values = (0..3 * KEYS).map(|i| (Counted(i % KEYS, &compared), i));
        let gathered = gathered(values);
        assert!(compared.get() < 6 * KEYS, "{} comparisons of {KEYS} keys", compared.get());
        assert_eq!(gathered.len(), KEYS);
        for (i, (key, of_key)) in gathered.iter().enumerate() {
            assert_eq!((key.0, of_key.as_slice()), (i, &[i, i + KEYS, i + 2 * KEYS][..]));
        }
    }
}
