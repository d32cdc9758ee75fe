//! A key's whole state, as one replica sends it to another.
//!
//! Where a delta says what changed, a state says all there is: value with the dots of its parts, version, deadline.
//! It is what read repair, hinted handoff, slot transfer and a replica that missed something are given, and receiving
//! it is always the same operation, `merge`.
//!
//! Actors are named in full on the wire, once each: a dictionary stands in front and dots refer to it by number.

use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::base::ids::ActorId;
use crate::base::version::{Actor, ActorTable, CONTEXT_DOTS_MAX, Context, Dot, Version, context_of};
use crate::base::wire::{Reader, WireError, put_bytes, put_u64, put_varint};
use crate::store::counter::{Addend, Counter};
use crate::store::elements::{Elements, PackLimits};
use crate::store::entry::{Data, Entry, FLAG_EXPIRED, Meta, Payload, rest_unnamed};
use crate::store::hash;
use crate::store::siblings;
use crate::store::value::{Set, Value};

const STRING: u8 = 0;
const TOMBSTONE: u8 = 1;
const COUNTER: u8 = 2;
const HASH: u8 = 3;
const SET: u8 = 4;
const EXPIRED: u8 = 5;

/// Beside the type: the dot of the write that the rest is of follows.
const NAMES_REST: u8 = 0x80;

/// A key's value as a structure of its own, apart from any table.
#[derive(Clone, PartialEq, Debug)]
pub enum Content {
    /// A string's bytes.
    String(Vec<u8>),
    /// Deleted.
    Tombstone,
    /// Any other type.
    Value(Box<Value>),
}

/// All there is to know of a key.
#[derive(Clone, PartialEq, Debug)]
pub struct State {
    /// The version of the last write.
    pub version: Version,
    /// When the key expires, in milliseconds since 1970; 0 for never.
    pub deadline_ms: u64,
    /// When the key was created, in seconds since 1970.
    pub created_s: u32,
    /// The value.
    pub content: Content,
    /// The write that the rest is of (see [`rest_unnamed`]); `None` for what it is of where none is named.
    pub rest: Option<Dot>,
    /// Whether it is a tombstone that expiry alone has made: others may hold a live key at the same version.
    pub has_expired: bool,
}

impl State {
    /// The state of an entry, as it is: whether a deadline has passed is a question to each clock, and what comes of a
    /// merge must not depend on whose.
    pub fn of(entry: &Entry) -> State {
        let meta = entry.meta();
        let content = match entry.data() {
            Data::String(bytes) => Content::String(bytes.to_vec()),
            Data::Tombstone => Content::Tombstone,
            Data::Value(value) => Content::Value(Box::new(value.clone())),
        };
        let Meta { deadline_ms, created_s, rest, .. } = meta;
        let (version, has_expired) = (entry.version(), entry.is_expired_tombstone());
        State { version, deadline_ms, created_s, content, rest: None, has_expired }.with_rest(rest)
    }

    /// This state, with the rest of another write where that has to be named.
    pub(super) fn with_rest(self, rest: Option<Dot>) -> State {
        let unnamed = rest_unnamed(self.is_register(), self.deadline_ms, self.version.dot);
        State { rest: rest.filter(|dot| *dot != unnamed), ..self }
    }

    /// What is left of it where its deadline has passed by a clock that says `now_ms`, as the sweeper would leave it.
    /// What comes of a merge with that is marked (see `merge`).
    pub fn swept(self, now_ms: u64) -> State {
        if self.deadline_ms == 0 || self.deadline_ms > now_ms {
            return self;
        }
        let written = self.written();
        let State { version, .. } = self;
        let content = Content::Tombstone;
        State { version, deadline_ms: 0, created_s: 0, content, rest: None, has_expired: true }.with_rest(Some(written))
    }

    /// Whether it is a deletion of something that a key which was created then does not go back to.
    pub fn is_over_before(&self, created_s: u32) -> bool {
        self.content == Content::Tombstone && self.version.latest().ms() < u64::from(created_s) * 1_000
    }

    /// Whether it is a string or a tombstone.
    pub fn is_register(&self) -> bool {
        self.value().is_none()
    }

    /// The set that it is.
    pub(super) fn set(&self) -> Option<&Set> {
        match self.value()? {
            Value::Set(set) => Some(set),
            Value::Counter(_) | Value::Hash(_) => None,
        }
    }

    /// The fields of the hash that it is.
    pub(super) fn fields(&self) -> Option<&Elements> {
        match self.value()? {
            Value::Hash(fields) => Some(fields),
            Value::Counter(_) | Value::Set(_) => None,
        }
    }

    /// The number that it is, unless it is a string that spells one.
    pub(super) fn counter(&self) -> Option<&Counter> {
        match self.value()? {
            Value::Counter(counter) => Some(counter),
            Value::Hash(_) | Value::Set(_) => None,
        }
    }

    /// Whether it is a hash or a set.
    pub(super) fn is_collection(&self) -> bool {
        self.value().is_some() && self.counter().is_none()
    }

    /// The write that it is of as a register: that of a string or a deletion, that on which a number adds up. `None`
    /// for a collection, whose elements have their own.
    pub(super) fn base(&self) -> Option<Dot> {
        match self.counter() {
            Some(counter) => Some(counter.base_dot),
            None if self.is_collection() => None,
            None => Some(self.written()),
        }
    }

    fn value(&self) -> Option<&Value> {
        match &self.content {
            Content::Value(value) => Some(value),
            Content::String(_) | Content::Tombstone => None,
        }
    }

    /// The write that the rest is of (see [`rest_unnamed`]), whether it is named or not.
    pub(super) fn rest(&self) -> Dot {
        let unnamed = || rest_unnamed(self.is_register(), self.deadline_ms, self.version.dot);
        self.rest.unwrap_or_else(unnamed)
    }

    /// The write that it is of as a string or tombstone, see [`Entry::written`].
    pub fn written(&self) -> Dot {
        if self.is_register() { self.rest() } else { self.version.dot }
    }

    /// The write that its deadline is of.
    pub fn dated(&self) -> Dot {
        if self.is_register() { self.version.dot } else { self.rest() }
    }

    /// The entry that has this state.
    pub fn into_entry(self, db: u8, key: &[u8], access: u32) -> Entry {
        let flags = if self.has_expired { FLAG_EXPIRED } else { 0 };
        let State { deadline_ms, created_s, rest, .. } = self;
        let meta = Meta { deadline_ms, created_s, access, flags, rest };
        let payload = match self.content {
            Content::String(ref bytes) => Payload::String(bytes),
            Content::Tombstone => Payload::Tombstone,
            Content::Value(value) => Payload::Value(value),
        };
        Entry::new(db, key, payload, &self.version, meta)
    }

    /// Appends the state.
    pub fn encode(&self, out: &mut Vec<u8>, actors: &ActorTable) {
        let mut writer = Writer { named: Vec::new(), body: Vec::new() };
        writer.version(&self.version);
        put_varint(&mut writer.body, self.deadline_ms);
        put_varint(&mut writer.body, u64::from(self.created_s));
        match &self.content {
            Content::String(bytes) => {
                writer.kind(STRING, self.rest);
                put_bytes(&mut writer.body, bytes);
            }
            Content::Tombstone => writer.kind(if self.has_expired { EXPIRED } else { TOMBSTONE }, self.rest),
            Content::Value(value) => writer.value(value, self.rest),
        }
        put_varint(out, writer.named.len() as u64);
        for actor in &writer.named {
            let id = actors.id(*actor);
            put_u64(out, id.node);
            put_u64(out, id.generation);
        }
        out.extend_from_slice(&writer.body);
    }

    /// Reads a state from the front of `reader`.
    pub fn decode(reader: &mut Reader<'_>, actors: &ActorTable) -> Result<State, WireError> {
        let mut named = Vec::new();
        for _ in 0..reader.varint()? {
            let id = ActorId { node: reader.u64()?, generation: reader.u64()? };
            named.push(actors.intern(id).map_err(|_| WireError)?);
        }
        let mut parser = Parser { named, reader };
        let version = parser.version()?;
        let deadline_ms = parser.reader.varint()?;
        let created_s = parser.reader.varint()? as u32;
        let tag = parser.reader.u8()?;
        let (kind, names_rest) = (tag & !NAMES_REST, tag & NAMES_REST != 0);
        let rest = if names_rest { Some(parser.dot()?) } else { None };
        let content = match kind {
            STRING => Content::String(parser.reader.bytes()?.to_vec()),
            TOMBSTONE | EXPIRED => Content::Tombstone,
            COUNTER => Content::Value(Box::new(Value::Counter(parser.counter()?))),
            HASH => Content::Value(Box::new(Value::Hash(parser.hash()?))),
            SET => Content::Value(Box::new(Value::Set(parser.set()?))),
            _ => return Err(WireError),
        };
        let has_expired = kind == EXPIRED;
        Ok(State { version, deadline_ms, created_s, content, rest: None, has_expired }.with_rest(rest))
    }
}

struct Writer {
    named: Vec<Actor>,
    body: Vec<u8>,
}

impl Writer {
    fn dot(&mut self, dot: Dot) {
        put_u64(&mut self.body, dot.hlc.0);
        let number = self.named.iter().position(|actor| *actor == dot.actor).unwrap_or_else(|| {
            self.named.push(dot.actor);
            self.named.len() - 1
        });
        put_varint(&mut self.body, number as u64);
    }

    fn version(&mut self, version: &Version) {
        self.dot(version.dot);
        put_varint(&mut self.body, version.context.len() as u64);
        version.context.iter().for_each(|dot| self.dot(*dot));
    }

    fn kind(&mut self, kind: u8, rest: Option<Dot>) {
        self.body.push(kind | if rest.is_some() { NAMES_REST } else { 0 });
        rest.into_iter().for_each(|dot| self.dot(dot));
    }

    fn value(&mut self, value: &Value, rest: Option<Dot>) {
        match value {
            Value::Counter(counter) => {
                self.kind(COUNTER, rest);
                self.counter(counter);
            }
            Value::Hash(fields) => {
                self.kind(HASH, rest);
                put_varint(&mut self.body, fields.len() as u64);
                for field in fields.iter() {
                    put_bytes(&mut self.body, field.member);
                    let writes = siblings::writes(field);
                    put_varint(&mut self.body, writes.len() as u64);
                    if writes.len() > 1 {
                        self.field(field.payload);
                    }
                    for (dot, payload) in writes {
                        self.dot(dot);
                        self.field(payload);
                    }
                }
            }
            Value::Set(set) => {
                self.kind(SET, rest);
                self.body.push(u8::from(set.intset));
                put_varint(&mut self.body, set.members.len() as u64);
                for member in set.members.iter() {
                    put_bytes(&mut self.body, member.member);
                    let writes = siblings::writes(member);
                    put_varint(&mut self.body, writes.len() as u64);
                    writes.iter().for_each(|(dot, _)| self.dot(*dot));
                }
            }
        }
    }

    fn field(&mut self, payload: &[u8]) {
        match hash::field(payload) {
            hash::Field::Bytes(bytes) => {
                self.body.push(STRING);
                put_bytes(&mut self.body, bytes);
            }
            hash::Field::Counter(counter) => {
                self.body.push(COUNTER);
                self.counter(&counter);
            }
        }
    }

    fn counter(&mut self, counter: &Counter) {
        put_u64(&mut self.body, counter.base as u64);
        self.dot(counter.base_dot);
        put_varint(&mut self.body, counter.addends.len() as u64);
        for addend in &counter.addends {
            self.dot(addend.dot);
            put_u64(&mut self.body, addend.sum as u64);
            put_u64(&mut self.body, addend.since.0);
        }
    }
}

struct Parser<'r, 'a> {
    named: Vec<Actor>,
    reader: &'r mut Reader<'a>,
}

impl<'a> Parser<'_, 'a> {
    fn dot(&mut self) -> Result<Dot, WireError> {
        let hlc = Hlc(self.reader.u64()?);
        let number = usize::try_from(self.reader.varint()?).map_err(|_| WireError)?;
        let actor = *self.named.get(number).ok_or(WireError)?;
        // The zero dot, the base of a counter that began from nothing, is nobody's and equal everywhere.
        Ok(if hlc == Hlc::default() { Dot::default() } else { Dot { hlc, actor } })
    }

    fn version(&mut self) -> Result<Version, WireError> {
        let (dot, count) = (self.dot()?, self.reader.varint()?);
        if count > CONTEXT_DOTS_MAX as u64 {
            return Err(WireError);
        }
        let dots = (0..count).map(|_| self.dot()).collect::<Result<Context, _>>()?;
        Ok(Version { dot, context: context_of(dots).ok_or(WireError)? })
    }

    fn counter(&mut self) -> Result<Counter, WireError> {
        let base = self.reader.u64()? as i64;
        let mut counter = Counter::on_base(base, self.dot()?);
        for _ in 0..self.reader.varint()? {
            let dot = self.dot()?;
            let (sum, since) = (self.reader.u64()? as i64, Hlc(self.reader.u64()?));
            counter.addends.push(Addend { dot, sum, since });
        }
        // Sorted, because a peer says how many there are: to look for each among the others would take their square.
        let mut actors: SmallVec<[Actor; 1]> = counter.addends.iter().map(|addend| addend.dot.actor).collect();
        actors.sort_unstable();
        let is_told_twice = actors.iter().zip(actors.iter().skip(1)).any(|(one, next)| one == next);
        if is_told_twice { Err(WireError) } else { Ok(counter) }
    }

    fn field(&mut self) -> Result<Vec<u8>, WireError> {
        Ok(match self.reader.u8()? {
            STRING => hash::bytes_payload(self.reader.bytes()?),
            COUNTER => hash::counter_payload(&self.counter()?),
            _ => return Err(WireError),
        })
    }

    fn hash(&mut self) -> Result<Elements, WireError> {
        let mut fields = Elements::default();
        for _ in 0..self.reader.varint()? {
            let member = self.reader.bytes()?;
            let count = self.reader.varint()?;
            let visible = if count > 1 { self.field()? } else { Vec::new() };
            let mut payloads = Vec::new();
            for _ in 0..count {
                payloads.push((self.dot()?, self.field()?));
            }
            let writes = payloads.iter().map(|(dot, payload)| (*dot, payload.as_slice())).collect();
            siblings::put(&mut fields, member, &writes, &visible, PackLimits::TRANSFER_HASH);
        }
        // One without elements is a deleted key, and would never be deleted as it is.
        if fields.is_empty() { Err(WireError) } else { Ok(fields) }
    }

    fn set(&mut self) -> Result<Set, WireError> {
        let intset = self.reader.u8()? != 0;
        let mut members = Elements::default();
        for _ in 0..self.reader.varint()? {
            let member = self.reader.bytes()?;
            let mut writes = siblings::Writes::new();
            for _ in 0..self.reader.varint()? {
                writes.push((self.dot()?, &[]));
            }
            siblings::put(&mut members, member, &writes, &[], PackLimits::SET);
        }
        if members.is_empty() { Err(WireError) } else { Ok(Set { members, intset }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(value: Value) -> bool {
        let actors = ActorTable::new(ActorId { node: 1, generation: 1 });
        assert_eq!(actors.intern(ActorId { node: 2, generation: 1 }), Ok(Actor(1)));
        let (content, version) = (Content::Value(Box::new(value)), Version::first(dot(5)));
        let state = State { version, deadline_ms: 0, created_s: 0, content, rest: None, has_expired: false };
        let mut bytes = Vec::new();
        state.encode(&mut bytes, &actors);
        State::decode(&mut Reader::new(&bytes), &actors).is_ok()
    }

    fn dot(at: u64) -> Dot {
        Dot { hlc: Hlc(at), actor: Actor::SELF }
    }

    #[test]
    fn no_peer_makes_a_collection_without_elements() {
        let some = || {
            let mut elements = Elements::default();
            elements.put(b"m", dot(5), &[], PackLimits::SET);
            elements
        };
        let mut fields = Elements::default();
        fields.put(b"f", dot(5), &hash::bytes_payload(b"v"), PackLimits::TRANSFER_HASH);
        assert!(is_taken(Value::Hash(fields)) && !is_taken(Value::Hash(Elements::default())));
        assert!(is_taken(Value::Set(Set { members: some(), intset: true })));
        assert!(!is_taken(Value::Set(Set { members: Elements::default(), intset: true })));
    }

    #[test]
    fn an_actor_has_one_addend_of_a_counter() {
        let mut counter = Counter::on_base(3, dot(1));
        counter.add(dot(2), 4);
        assert!(is_taken(Value::Counter(counter.clone())));
        let of = |actor| Addend { dot: Dot { hlc: Hlc(4), actor }, sum: 1, since: Hlc(3) };
        counter.addends.push(of(Actor(1)));
        assert!(is_taken(Value::Counter(counter.clone())));
        counter.addends.push(of(Actor::SELF));
        assert!(!is_taken(Value::Counter(counter)));
    }
}
