//! The primitives that change a key, and their form on the wire.
//!
//! A command is made of these and of nothing else. The coordinator applies a mutation to its own slot under a new
//! stamp and records it as a [`Delta`]; a replica decodes the delta and applies the same mutation under the same
//! stamp, by the same function (`apply`). So there is one meaning of each change, not two.
//!
//! Invariant: what a mutation makes of a value depends on the entry it is applied to and its stamp alone, never on a
//! clock, a random number or an option: two replicas that held the same version before hold the same fields, members
//! and versions after. Options only decide how compact they lie in memory, and what OBJECT ENCODING calls that.
//!
//! An `Assign`, a `Replace` or a `Delete` stands for itself and may be applied to any older version, and a `Clear` to
//! any slot. The others change part of a value and name, in the delta, the version they were made on (`base`).

use crate::base::clock::Hlc;
use crate::base::ids::{ActorId, Slot};
use crate::base::version::{Actor, ActorTable, Context, Dot, Version, context_of};
use crate::base::wire::{Reader, WireError, put_bytes, put_u16, put_u64, put_varint};
use crate::store::{scope, whole};

/// One change of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation<'m> {
    /// The key becomes this string, with this deadline (0 for none), whatever it was.
    Assign { value: &'m [u8], deadline_ms: u64 },
    /// The key becomes this value (see [`whole`]), with this deadline (0 for none), whatever it was.
    Replace { whole: &'m [u8], deadline_ms: u64 },
    /// The string's bytes from `offset` on become these; a gap is filled with zeros; the deadline stays.
    Patch { offset: u64, bytes: &'m [u8] },
    /// The number grows by this.
    Add { by: i64 },
    /// The hash's field becomes this.
    PutField { field: &'m [u8], value: &'m [u8] },
    /// The number in the hash's field grows by this.
    AddField { field: &'m [u8], by: i64 },
    /// The hash's field goes.
    RemoveField { field: &'m [u8] },
    /// The set gets this member.
    AddMember { member: &'m [u8] },
    /// The set loses this member.
    RemoveMember { member: &'m [u8] },
    /// The deadline becomes this; 0 for none.
    Expire { deadline_ms: u64 },
    /// The key goes.
    Delete,
    /// What the slot holds goes; the name says of which databases (see [`crate::store::clear`]).
    Clear,
}

/// A mutation with where, when and on what it was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delta<'m> {
    /// The key's slot.
    pub slot: Slot,
    /// The key's database.
    pub db: u8,
    /// The key.
    pub key: &'m [u8],
    /// The version that the mutation was made on; `None` when the key did not exist or what was there does not matter.
    pub base: Option<Version>,
    /// The version that the mutation makes.
    pub version: Version,
    /// What changes.
    pub mutation: Mutation<'m>,
}

const DB_MASK: u8 = 0x3f;
const HAS_BASE: u8 = 0x40;
const HAS_CONTEXT: u8 = 0x80;

impl Mutation<'_> {
    /// True when the result does not depend on what was there before.
    pub fn stands_alone(&self) -> bool {
        use Mutation::{Assign, Clear, Delete, Replace};
        matches!(self, Assign { .. } | Replace { .. } | Delete | Clear)
    }

    /// True when it changes part of a value, and makes one where there is none.
    #[inline]
    pub fn may_create_in_part(&self) -> bool {
        use Mutation::{Add, AddField, AddMember, Patch, PutField};
        matches!(self, Add { .. } | AddField { .. } | AddMember { .. } | Patch { .. } | PutField { .. })
    }

    /// True when it can only make a key less: done last, it loses nothing that was to be put elsewhere first.
    pub fn takes_away(&self) -> bool {
        use Mutation::{Clear, Delete, RemoveField, RemoveMember};
        matches!(self, RemoveField { .. } | RemoveMember { .. } | Delete | Clear)
    }

    fn tag(&self) -> u8 {
        match self {
            Mutation::Assign { .. } => 0,
            Mutation::Patch { .. } => 1,
            Mutation::Add { .. } => 2,
            Mutation::PutField { .. } => 3,
            Mutation::AddField { .. } => 4,
            Mutation::RemoveField { .. } => 5,
            Mutation::AddMember { .. } => 6,
            Mutation::RemoveMember { .. } => 7,
            Mutation::Expire { .. } => 8,
            Mutation::Delete => 9,
            Mutation::Replace { .. } => 10,
            Mutation::Clear => 11,
        }
    }

    /// Appends it as it travels.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.tag());
        match *self {
            Mutation::Assign { value, deadline_ms } | Mutation::Replace { whole: value, deadline_ms } => {
                put_varint(out, deadline_ms);
                put_bytes(out, value);
            }
            Mutation::Patch { offset, bytes } => {
                put_varint(out, offset);
                put_bytes(out, bytes);
            }
            Mutation::Add { by } => put_u64(out, by as u64),
            Mutation::PutField { field, value } => {
                put_bytes(out, field);
                put_bytes(out, value);
            }
            Mutation::AddField { field, by } => {
                put_u64(out, by as u64);
                put_bytes(out, field);
            }
            Mutation::RemoveField { field: name }
            | Mutation::AddMember { member: name }
            | Mutation::RemoveMember { member: name } => put_bytes(out, name),
            Mutation::Expire { deadline_ms } => put_varint(out, deadline_ms),
            Mutation::Delete | Mutation::Clear => {}
        }
    }

    /// Reads one from the front of `reader`; what comes back is safe to apply.
    #[inline]
    pub fn decode<'a>(reader: &mut Reader<'a>) -> Result<Mutation<'a>, WireError> {
        Ok(match reader.u8()? {
            0 => {
                let deadline_ms = reader.varint()?;
                Mutation::Assign { value: reader.bytes()?, deadline_ms }
            }
            1 => {
                let (offset, bytes) = (reader.varint()?, reader.bytes()?);
                // An entry's lengths are 32 bits; nothing else would stop the zeros in between.
                if offset.saturating_add(bytes.len() as u64) > u64::from(u32::MAX) {
                    return Err(WireError);
                }
                Mutation::Patch { offset, bytes }
            }
            2 => Mutation::Add { by: reader.u64()? as i64 },
            3 => Mutation::PutField { field: reader.bytes()?, value: reader.bytes()? },
            4 => {
                let by = reader.u64()? as i64;
                Mutation::AddField { field: reader.bytes()?, by }
            }
            5 => Mutation::RemoveField { field: reader.bytes()? },
            6 => Mutation::AddMember { member: reader.bytes()? },
            7 => Mutation::RemoveMember { member: reader.bytes()? },
            8 => Mutation::Expire { deadline_ms: reader.varint()? },
            9 => Mutation::Delete,
            11 => Mutation::Clear,
            10 => {
                let deadline_ms = reader.varint()?;
                let whole = reader.bytes()?;
                whole::check(whole)?;
                Mutation::Replace { whole, deadline_ms }
            }
            _ => return Err(WireError),
        })
    }
}

impl Delta<'_> {
    /// Appends the delta. `actors` turns short actors into long ones.
    pub fn encode(&self, out: &mut Vec<u8>, actors: &ActorTable) {
        put_u16(out, self.slot.number());
        let base = self.base.as_ref().filter(|_| !self.mutation.stands_alone());
        // What was made on a base has that base's context, with the base's own write in it, as far as its floor does
        // not say that.
        let context = base.map_or(&self.version.context, |base| &base.context);
        let floor = self.version.floor();
        let has_context = !context.is_empty() || floor != Hlc(0);
        let flags =
            self.db & DB_MASK | if base.is_some() { HAS_BASE } else { 0 } | if has_context { HAS_CONTEXT } else { 0 };
        out.push(flags);
        put_bytes(out, self.key);
        put_dot(out, self.version.dot, actors);
        if let Some(base) = base {
            put_dot(out, base.dot, actors);
        }
        if has_context {
            put_context(out, context, actors);
            if base.is_some() {
                put_varint(out, floor.0);
            }
        }
        self.mutation.encode(out);
    }

    /// The slot of an encoded delta.
    #[inline]
    pub fn slot_of_encoded(delta: &[u8]) -> Option<Slot> {
        Slot::new(Reader::new(delta).u16().ok()?)
    }

    /// Reads a delta that `sender` wrote, from the front of `reader`.
    #[inline(always)]
    pub fn decode<'a>(reader: &mut Reader<'a>, sender: Actor, actors: &ActorTable) -> Result<Delta<'a>, WireError> {
        let slot = reader.slot()?;
        let flags = reader.u8()?;
        let key = reader.bytes()?;
        let dot = read_dot(reader, sender, actors)?;
        let (base, version) = match flags & (HAS_BASE | HAS_CONTEXT) {
            0 => (None, Version::first(dot)),
            seen => read_seen(reader, seen, dot, sender, actors)?,
        };
        let (db, mutation) = (flags & DB_MASK, Mutation::decode(reader)?);
        if !scope::is_name(db, key) || scope::is_clear(db) != (mutation == Mutation::Clear) {
            return Err(WireError);
        }
        Ok(Delta { slot, db, key, base, version, mutation })
    }
}

/// What the write `dot` had seen, as its delta's flags announce it: the version that it was made on, and the one that
/// it makes.
fn read_seen(
    reader: &mut Reader<'_>,
    flags: u8,
    dot: Dot,
    sender: Actor,
    actors: &ActorTable,
) -> Result<(Option<Version>, Version), WireError> {
    let base_dot = if flags & HAS_BASE != 0 { Some(read_dot(reader, sender, actors)?) } else { None };
    let has_context = flags & HAS_CONTEXT != 0;
    let context = if has_context { read_context(reader, sender, actors)? } else { Context::new() };
    let Some(base_dot) = base_dot else { return Ok((None, Version { dot, context })) };
    let floor = Hlc(if has_context { reader.varint()? } else { 0 });
    let base = Version { dot: base_dot, context };
    let version = base.advanced(dot).floored(floor);
    Ok((Some(base), version))
}

/// Appends a dot: the stamp, then 0 for the sender itself or 1 and the actor.
#[inline]
pub fn put_dot(out: &mut Vec<u8>, dot: Dot, actors: &ActorTable) {
    if dot.actor == Actor::SELF {
        put_u64(out, dot.hlc.0);
        out.push(0);
    } else {
        put_full_dot(out, dot, actors);
    }
}

/// Appends a dot with its actor's full name, whoever that is: the short one means something on one node only.
/// [`read_dot`] reads it.
fn put_full_dot(out: &mut Vec<u8>, dot: Dot, actors: &ActorTable) {
    let id = actors.id(dot.actor);
    put_u64(out, dot.hlc.0);
    out.push(1);
    put_u64(out, id.node);
    put_u64(out, id.generation);
}

/// Appends a version by its actors' full names, so that it means the same on every node.
pub fn put_full_version(out: &mut Vec<u8>, version: &Version, actors: &ActorTable) {
    put_full_dot(out, version.dot, actors);
    out.push(version.context.len() as u8);
    version.context.iter().for_each(|dot| put_full_dot(out, *dot, actors));
}

/// Reads what [`put_full_version`] wrote.
pub fn read_full_version(reader: &mut Reader<'_>, actors: &ActorTable) -> Result<Version, WireError> {
    let dot = read_dot(reader, Actor::SELF, actors)?;
    Ok(Version { dot, context: read_context(reader, Actor::SELF, actors)? })
}

/// Reads a dot that `sender` wrote.
#[inline]
pub fn read_dot(reader: &mut Reader<'_>, sender: Actor, actors: &ActorTable) -> Result<Dot, WireError> {
    let hlc = Hlc(reader.u64()?);
    let actor = match reader.u8()? {
        0 => sender,
        1 => {
            let id = ActorId { node: reader.u64()?, generation: reader.u64()? };
            actors.intern(id).map_err(|_| WireError)?
        }
        _ => return Err(WireError),
    };
    Ok(Dot { hlc, actor })
}

/// Appends a context.
pub fn put_context(out: &mut Vec<u8>, context: &Context, actors: &ActorTable) {
    out.push(context.len() as u8);
    context.iter().for_each(|dot| put_dot(out, *dot, actors));
}

/// Reads a context that `sender` wrote.
pub fn read_context(reader: &mut Reader<'_>, sender: Actor, actors: &ActorTable) -> Result<Context, WireError> {
    let dots = (0..reader.u8()?).map(|_| read_dot(reader, sender, actors)).collect::<Result<Context, _>>()?;
    context_of(dots).ok_or(WireError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: ActorId = ActorId { node: 1, generation: 10 };
    const THERE: ActorId = ActorId { node: 2, generation: 20 };

    proptest! {
        #[test]
        fn a_delta_means_the_same_on_the_other_side(key: Vec<u8>, value: Vec<u8>, by: i64, at: u64, which in 0u8..12, seen: bool, floored: bool) {
            let whole = whole::string(&value, None);
            let mutation = match which {
                0 => Mutation::Assign { value: &value, deadline_ms: at },
                1 => Mutation::Patch { offset: at >> 33, bytes: &value },
                2 => Mutation::Add { by },
                3 => Mutation::PutField { field: &key, value: &value },
                4 => Mutation::AddField { field: &key, by },
                5 => Mutation::RemoveField { field: &key },
                6 => Mutation::AddMember { member: &key },
                7 => Mutation::RemoveMember { member: &key },
                8 => Mutation::Expire { deadline_ms: at },
                9 => Mutation::Replace { whole: &whole, deadline_ms: at },
                10 => Mutation::Clear,
                _ => Mutation::Delete,
            };
            let (here, there) = (ActorTable::new(HERE), ActorTable::new(THERE));
            let other = here.intern(ActorId { node: 3, generation: 30 }).expect("room");
            let dot = Dot { hlc: Hlc(at), actor: Actor::SELF };
            let mut version = Version::first(Dot { hlc: Hlc(1), actor: other });
            let base = seen.then(|| version.clone());
            version = if seen { version.advanced(dot) } else { Version::first(dot) };
            if let Some(floor) = version.floor_for(Hlc(1)).filter(|_| floored) {
                version = version.floored(floor);
            }
            let (wanted_floor, wanted_dots) = (version.floor(), version.context.len());
            let slot = Slot::new(7).expect("a slot");
            let (db, name) = if mutation == Mutation::Clear { (16, &[][..]) } else { (3, &key[..]) };
            let delta = Delta { slot, db, key: name, base, version, mutation };
            let mut out = Vec::new();
            delta.encode(&mut out, &here);
            let sender = there.intern(HERE).expect("room");
            let read = Delta::decode(&mut Reader::new(&out), sender, &there).expect("own bytes");
            prop_assert_eq!((read.slot, read.db, read.key, &read.mutation), (slot, db, name, &mutation));
            prop_assert_eq!(there.id(read.version.dot.actor), HERE);
            prop_assert_eq!((read.version.context.len(), read.version.floor()), (wanted_dots, wanted_floor));
            prop_assert_eq!(read.base.is_some(), seen && !mutation.stands_alone());
        }

        #[test]
        fn nonsense_is_refused(bytes: Vec<u8>) {
            let actors = ActorTable::new(HERE);
            let mut reader = Reader::new(&bytes);
            let _ = Delta::decode(&mut reader, Actor::SELF, &actors);
            prop_assert!(reader.rest().len() <= bytes.len());
        }
    }
}
