//! The one function that gives a change its meaning.
//!
//! That is [`SlotTable::apply`]. It runs for a client's command at the coordinator and for the same command's delta at
//! a replica. A string put in place of a string has a shortcut ([`SlotTable::overwrite`]), which means the same.
//!
//! Invariant: an expired entry is as good as deleted; a mutation never builds on it (callers delete it first, see
//! `keyspace`).

use crate::base::version::{Dot, Version};
use crate::store::counter::Counter;
use crate::store::elements::Elements;
use crate::store::entry::{Data, Entry, Meta, Payload, rest_unnamed};
use crate::store::mutation::Mutation;
use crate::store::name::Name;
use crate::store::rules::Rules;
use crate::store::slot::SlotTable;
use crate::store::strings::string_of;
use crate::store::value::{Set, Value};
use crate::store::whole::{self, Built};

impl SlotTable {
    /// Makes the change that `mutation` stands for, under the stamp `dot`.
    pub fn apply(&mut self, name: Name<'_>, dot: Dot, mutation: &Mutation<'_>, rules: &Rules) {
        self.note_change();
        if mutation.may_create_in_part() {
            self.bury_absent(name);
        }
        match *mutation {
            Mutation::Assign { value, deadline_ms } => self.assign(name, dot, value, deadline_ms, rules),
            Mutation::Replace { whole, deadline_ms } => self.replace(name, dot, whole, deadline_ms, rules),
            Mutation::Patch { offset, bytes } => self.patch(name, dot, offset as usize, bytes, rules),
            // Who applies a clear also sweeps the table.
            Mutation::Delete | Mutation::Clear => self.bury(name, dot, rules),
            Mutation::Expire { deadline_ms } => self.change(name, dot, true, |entry| {
                rules.access.touch(entry);
                entry.set_deadline_ms(deadline_ms);
            }),
            Mutation::Add { by } => {
                self.ensure(name, dot, rules, |old| Value::Counter(counter_from(old)));
                self.change_value(name, dot, rules, |value| {
                    if let Value::Counter(counter) = value {
                        counter.add(dot, by);
                    }
                });
            }
            Mutation::PutField { field, value } => {
                self.ensure(name, dot, rules, |_| Value::Hash(Elements::default()));
                self.change_value(name, dot, rules, |hash| hash.put_field(field, dot, value, rules.hash));
            }
            Mutation::AddField { field, by } => {
                self.ensure(name, dot, rules, |_| Value::Hash(Elements::default()));
                self.change_value(name, dot, rules, |hash| hash.add_field(field, dot, by, rules.hash));
            }
            Mutation::RemoveField { field } => self.change_value(name, dot, rules, |value| {
                if let Value::Hash(fields) = value {
                    fields.remove(field);
                }
            }),
            Mutation::AddMember { member } => {
                let new = Set { members: Elements::default(), intset: true };
                self.ensure(name, dot, rules, |_| Value::Set(new));
                self.change_value(name, dot, rules, |set| {
                    set.add_member(member, dot, rules.set, rules.intset_entries_max)
                });
            }
            Mutation::RemoveMember { member } => self.change_value(name, dot, rules, |value| {
                if let Value::Set(set) = value {
                    set.members.remove(member);
                }
            }),
        }
        match *mutation {
            Mutation::Assign { deadline_ms, .. }
            | Mutation::Replace { deadline_ms, .. }
            | Mutation::Expire { deadline_ms } => self.note_deadline(deadline_ms),
            _ => {}
        }
    }

    /// Puts a whole value in place of whatever there was. One that is none changes nothing: it was checked on the way
    /// in, and this node makes no such.
    fn replace(&mut self, name: Name<'_>, dot: Dot, whole: &[u8], deadline_ms: u64, rules: &Rules) {
        let value = match whole::build(whole, dot, rules) {
            Ok(Built::String(bytes, flags)) => {
                self.assign(name, dot, bytes, deadline_ms, rules);
                if let Some(entry) = self.find_mut(name) {
                    entry.set_flags(flags);
                }
                return;
            }
            Ok(Built::Value(value)) => value,
            Err(_) => return,
        };
        self.put_over(name, dot, Payload::Value(Box::new(value)), deadline_ms, rules);
    }

    /// Deletes: a tombstone when other replicas must learn of it, nothing at all when there are none.
    fn bury(&mut self, name: Name<'_>, dot: Dot, rules: &Rules) {
        if !rules.tombstones {
            self.forget(name);
            return;
        }
        let version = self.find(name).map_or_else(|| Version::first(dot), |entry| entry.version().advanced(dot));
        // No key, so none that was ever made: a merge takes the earlier of two creations.
        self.put_entry(name, Entry::new(name.db, name.key, Payload::Tombstone, &version, Meta::default()));
    }

    /// Makes sure that the key holds a boxed value, made from the old entry when it is a string or absent.
    fn ensure(&mut self, name: Name<'_>, dot: Dot, rules: &Rules, make: impl FnOnce(Option<&Entry>) -> Value) {
        let old = self.find(name);
        if old.is_some_and(|entry| matches!(entry.data(), Data::Value(_))) {
            return;
        }
        let version = old.map_or_else(|| Version::first(dot), |entry| entry.version().advanced(dot));
        // Its first use is noted with the change that it is made for.
        let mut meta = Meta { created_s: rules.now_s, ..Meta::default() };
        if let Some(entry) = old.filter(|entry| !entry.is_tombstone()) {
            let rest = rest_unnamed(false, entry.deadline_ms(), entry.dot());
            meta = Meta { rest: Some(rest), ..entry.meta() };
        }
        let value = Box::new(make(old));
        self.put_entry(name, Entry::new(name.db, name.key, Payload::Value(value), &version, meta));
    }

    /// Changes the boxed value under a new dot; a collection left empty is a deleted key.
    fn change_value(&mut self, name: Name<'_>, dot: Dot, rules: &Rules, change: impl FnOnce(&mut Value)) {
        let mut emptied = false;
        self.change(name, dot, false, |entry| {
            rules.access.touch(entry);
            if let Some(value) = entry.value_mut() {
                change(value);
                emptied = match value {
                    Value::Hash(fields) => fields.is_empty(),
                    Value::Set(set) => set.members.is_empty(),
                    Value::Counter(_) => false,
                };
            }
        });
        if emptied {
            self.bury(name, dot, rules);
        }
    }
}

/// The counter that INCR makes of what was there; only numbers get this far.
fn counter_from(old: Option<&Entry>) -> Counter {
    let Some(entry) = old else { return Counter::on_base(0, Dot::default()) };
    Counter::on_text(&string_of(entry), entry.written())
}

#[cfg(test)]
mod tests {
    use crate::base::ids::{ActorId, slot_of};
    use crate::store::mutation::Mutation;
    use crate::store::{Effects, Store, whole};

    #[test]
    fn a_key_that_is_overwritten_stays_as_old_as_it_was_and_a_deleted_one_has_no_age() {
        let (store, mut effects) = (Store::new(ActorId { node: 1, generation: 1 }), Effects::default());
        store.set_replicated(true);
        let set = whole::set([&b"m"[..]].into_iter(), None);
        let string = whole::string(b"s", None);
        let mut created = |now_s: u64, mutation: Mutation<'_>| {
            let mut keys = store.lock(slot_of(b"k"), 0, now_s * 1_000, &mut effects);
            keys.write(b"k", mutation);
            keys.entry(b"k").map(|entry| entry.meta().created_s)
        };
        let deadline_ms = 0;
        let overwriting = [
            Mutation::Assign { value: b"v", deadline_ms },
            Mutation::Replace { whole: &set, deadline_ms },
            Mutation::Replace { whole: &string, deadline_ms },
            Mutation::Replace { whole: &set, deadline_ms },
            Mutation::Assign { value: b"a longer value than before", deadline_ms },
            Mutation::Patch { offset: 1_000, bytes: b"z" },
        ];
        for (at, first) in overwriting.into_iter().enumerate() {
            let made_s = 10 * (at as u64 + 1);
            assert_eq!(created(made_s, first), Some(made_s as u32));
            for (later_s, mutation) in (made_s + 1..).zip(overwriting) {
                assert_eq!(created(later_s, mutation), Some(made_s as u32), "{mutation:?} on {first:?}");
            }
            assert_eq!(created(made_s + 8, Mutation::Delete), Some(0));
        }
    }
}
