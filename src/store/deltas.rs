//! The deltas of a command: how they are recorded, and how they are read again.
//!
//! A command that changes one key many times (HSET of many fields, SADD, SPOP with a count) makes a delta of each
//! change, and each builds on the one before. They are kept and travel as a *chain*: the first delta whole, and of each
//! that follows only how much later its stamp is, and its mutation. So a key's name travels once and not once a member,
//! and the other side has one frame to acknowledge. `[length u32][first delta][stamp - stamp before, varint;
//! mutation]...`
//!
//! Invariants: a change follows in a chain only if it was made on the very version that the change before it has made;
//! no two writes share a dot, so it is a change of the same key. A chain that has grown to [`CHAIN_BYTES_MAX`] and to
//! some times its key's name is followed by another, so that a frame does not grow with a request.
//!
//! Knows nothing of lanes, and applies nothing.

use crate::base::clock::Hlc;
use crate::base::framing;
use crate::base::ids::Slot;
use crate::base::version::{Actor, ActorTable, Dot};
use crate::base::wire::{Reader, WireError, put_varint};
use crate::store::mutation::{Delta, Mutation};

/// A chain of so many bytes is not continued, if that is some times its key's name.
const CHAIN_BYTES_MAX: usize = 64 << 10;
/// How often a long name would fit into a chain that is not continued.
const CHAIN_NAMES: usize = 4;
/// A chain of so many bytes is not continued whatever its key's name: with one more change, of 2 GB at most, its length
/// can be said.
const LONG_CHAIN_BYTES_MAX: usize = 1 << 30;
/// Most memory that is kept from one command to the next.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Recorded deltas.
#[derive(Debug, Default)]
pub struct Deltas {
    bytes: Vec<u8>,
    /// Where the last chain begins, and its last write.
    last: Option<(usize, Dot)>,
}

impl Deltas {
    /// True when nothing is recorded.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Records a change that this node has made.
    #[inline]
    pub fn record(&mut self, delta: &Delta<'_>, actors: &ActorTable) {
        match self.last.and_then(|(at, before)| self.continues(at, before, delta).then_some((at, before))) {
            Some((at, before)) => self.follow(at, before, delta),
            None => self.begin(delta, actors),
        }
    }

    /// Takes what is recorded, chain by chain, each behind its length.
    pub fn take(&mut self) -> Vec<u8> {
        self.last = None;
        std::mem::take(&mut self.bytes)
    }

    /// Gives back memory that was taken; what is in it is over.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
        self.clear();
    }

    /// Forgets what is recorded.
    #[inline]
    pub fn clear(&mut self) {
        self.last = None;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }

    fn continues(&self, at: usize, before: Dot, delta: &Delta<'_>) -> bool {
        let len = self.bytes.len() - at;
        delta.base.as_ref().is_some_and(|base| base.dot == before)
            && !delta.mutation.stands_alone()
            && len < CHAIN_BYTES_MAX.max(CHAIN_NAMES * delta.key.len()).min(LONG_CHAIN_BYTES_MAX)
    }

    fn begin(&mut self, delta: &Delta<'_>, actors: &ActorTable) {
        let at = framing::begin(&mut self.bytes);
        delta.encode(&mut self.bytes, actors);
        // What builds on a clear is of another key than the clear.
        self.last = (delta.mutation != Mutation::Clear).then_some((at, delta.version.dot));
        self.note_length(at);
    }

    fn follow(&mut self, at: usize, before: Dot, delta: &Delta<'_>) {
        let dot = delta.version.dot;
        put_varint(&mut self.bytes, dot.hlc.0.saturating_sub(before.hlc.0));
        delta.mutation.encode(&mut self.bytes);
        self.last = Some((at, dot));
        self.note_length(at);
    }

    fn note_length(&mut self, at: usize) {
        let fits = framing::end(&mut self.bytes, at, u32::MAX as usize);
        debug_assert!(fits, "see LONG_CHAIN_BYTES_MAX");
    }
}

/// Cuts recorded deltas into their chains, each without its length.
pub fn chains(recorded: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = recorded;
    std::iter::from_fn(move || {
        let (chain, behind) = framing::split(rest)?;
        rest = behind;
        Some(chain)
    })
}

/// Cuts recorded deltas into stretches of one slot, each as it was recorded: for [`chains`].
#[inline]
pub fn by_slot(recorded: &[u8]) -> impl Iterator<Item = (Slot, &[u8])> {
    let mut rest = recorded;
    std::iter::from_fn(move || {
        let (slot, mut behind) = split_slot(rest)?;
        while let Some((_, next)) = split_slot(behind).filter(|(next, _)| *next == slot) {
            behind = next;
        }
        let (part, _) = rest.split_at_checked(rest.len() - behind.len())?;
        rest = behind;
        Some((slot, part))
    })
}

/// The slot of the first chain, and what is recorded behind it.
#[inline]
fn split_slot(recorded: &[u8]) -> Option<(Slot, &[u8])> {
    let (chain, behind) = framing::split(recorded)?;
    Some((Delta::slot_of_encoded(chain)?, behind))
}

/// The deltas of a chain, in their order. After an error there are no more.
pub struct Chain<'a, 't> {
    reader: Reader<'a>,
    sender: Actor,
    actors: &'t ActorTable,
    before: Option<Delta<'a>>,
    is_over: bool,
}

impl<'a, 't> Chain<'a, 't> {
    /// Reads a chain that `sender` wrote.
    pub fn new(chain: &'a [u8], sender: Actor, actors: &'t ActorTable) -> Chain<'a, 't> {
        Chain { reader: Reader::new(chain), sender, actors, before: None, is_over: false }
    }

    #[inline(always)]
    fn read(&mut self) -> Result<Delta<'a>, WireError> {
        match &self.before {
            None => Delta::decode(&mut self.reader, self.sender, self.actors),
            Some(before) => read_next(&mut self.reader, before),
        }
    }
}

impl<'a> Iterator for Chain<'a, '_> {
    type Item = Result<Delta<'a>, WireError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Result<Delta<'a>, WireError>> {
        if self.is_over {
            return None;
        }
        let read = self.read();
        self.is_over = read.is_err() || self.reader.rest().is_empty();
        if !self.is_over {
            self.before = read.as_ref().ok().cloned();
        }
        Some(read)
    }
}

/// Reads the delta behind `before`, of which its chain says only what differs.
fn read_next<'a>(reader: &mut Reader<'a>, before: &Delta<'a>) -> Result<Delta<'a>, WireError> {
    let hlc = before.version.dot.hlc.0.checked_add(reader.varint()?).ok_or(WireError)?;
    let mutation = Mutation::decode(reader)?;
    if mutation.stands_alone() || before.mutation == Mutation::Clear {
        return Err(WireError);
    }
    let version = before.version.advanced(Dot { hlc: Hlc(hlc), actor: before.version.dot.actor });
    let Delta { slot, db, key, .. } = *before;
    Ok(Delta { slot, db, key, base: Some(before.version.clone()), version, mutation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ActorId;
    use crate::base::ids::slot_of;
    use crate::store::{Effects, Store};

    const NOW_MS: u64 = 1_000;

    fn store(node: u64) -> Store {
        let store = Store::new(ActorId { node, generation: 1 });
        store.set_replicated(true);
        store
    }

    /// What these writes of a key record.
    fn recorded(store: &Store, key: &[u8], mutations: &[Mutation<'_>]) -> Vec<u8> {
        let mut effects = Effects::default();
        let mut keys = store.lock(slot_of(key), 0, NOW_MS, &mut effects);
        mutations.iter().for_each(|mutation| keys.write(key, *mutation));
        keys.take_deltas()
    }

    #[test]
    fn changes_of_one_key_in_a_row_are_one_chain_which_says_each_of_them() {
        let (here, there) = (store(1), store(2));
        let sender = there.actors.intern(here.actors.id(Actor::SELF)).expect("room");
        let members: Vec<Vec<u8>> = (0..100).map(|n| format!("member{n}").into_bytes()).collect();
        let mutations: Vec<Mutation<'_>> = members.iter().map(|member| Mutation::AddMember { member }).collect();
        let bytes = recorded(&here, b"a key with a name", &mutations);
        let all: Vec<&[u8]> = chains(&bytes).collect();
        assert_eq!(all.len(), 1);
        let deltas: Vec<Delta<'_>> =
            Chain::new(all[0], sender, &there.actors).collect::<Result<_, _>>().expect("own bytes");
        assert_eq!(deltas.iter().map(|delta| delta.mutation).collect::<Vec<_>>(), mutations);
        assert!(deltas.iter().all(|delta| delta.key == b"a key with a name" && delta.version.dot.actor == sender));
        let pairs = || deltas.iter().zip(deltas.iter().skip(1));
        assert!(pairs().all(|(one, next)| next.base.as_ref() == Some(&one.version)));
        assert!(pairs().all(|(one, next)| one.version.dot.hlc < next.version.dot.hlc));
        assert!(all[0].len() < 100 * 20, "{} bytes: the name is there once", all[0].len());
    }

    #[test]
    fn a_chain_ends_where_another_change_does_not_build_on_it_and_before_it_is_long() {
        let here = store(1);
        let put = Mutation::AddMember { member: b"m" };
        let assign = Mutation::Assign { value: b"v", deadline_ms: 0 };
        let count = |key: &[u8], mutations: &[Mutation<'_>]| chains(&recorded(&here, key, mutations)).count();
        assert_eq!(count(b"a", &[assign, assign]), 2, "each stands alone");
        assert_eq!(count(b"b", &[put, Mutation::Expire { deadline_ms: 5_000 }]), 1);
        let member = vec![b'm'; 1_000];
        let many = vec![Mutation::AddMember { member: &member }; 200];
        let chained = recorded(&here, b"c", &many);
        assert!(chains(&chained).count() > 2 && chains(&chained).all(|chain| chain.len() < CHAIN_BYTES_MAX + 2_000));
        let key = vec![b'k'; 200_000];
        let chained = recorded(&here, &key, &vec![put; 2_000]);
        assert!(chained.len() < 300_000, "{} bytes", chained.len());
    }

    #[test]
    fn what_is_recorded_is_cut_where_another_slot_begins() {
        let here = store(1);
        let add = |key: &[u8]| recorded(&here, key, &[Mutation::Add { by: 1 }]);
        let (one, same, other) = (add(b"{one}a"), add(b"{one}b"), add(b"two"));
        let all = [&one[..], &same, &other, &one].concat();
        let of_one = [&one[..], &same].concat();
        let cut: Vec<(Slot, &[u8])> = by_slot(&all).collect();
        let (slot, next) = (slot_of(b"one"), slot_of(b"two"));
        assert_eq!(cut, [(slot, &of_one[..]), (next, &other[..]), (slot, &one[..])]);
        assert_eq!(by_slot(&[]).count(), 0);
        assert_eq!(by_slot(&all[..all.len() - 1]).count(), 2, "what is cut short is not given");
    }

    #[test]
    fn much_memory_is_not_kept_and_nothing_is_continued_that_was_taken() {
        let here = store(1);
        let mut effects = Effects::default();
        let mut keys = here.lock(slot_of(b"k"), 0, NOW_MS, &mut effects);
        keys.write(b"k", Mutation::AddMember { member: &vec![b'm'; 2 << 20] });
        let taken = keys.take_deltas();
        keys.give_back_deltas(taken);
        assert!(keys.effects().deltas.is_empty() && keys.effects().deltas.bytes.capacity() <= KEPT_BYTES_MAX);
        keys.write(b"k", Mutation::AddMember { member: b"n" });
        let taken = keys.take_deltas();
        let chain = chains(&taken).next().expect("a chain");
        let first = Chain::new(chain, Actor::SELF, &here.actors).next().expect("a delta").expect("own bytes");
        assert_eq!((first.key, first.mutation), (&b"k"[..], Mutation::AddMember { member: b"n" }));
    }

    #[test]
    fn a_chain_that_is_cut_short_or_says_nonsense_ends_with_an_error() {
        let here = store(1);
        let bytes = recorded(&here, b"k", &[Mutation::Add { by: 1 }, Mutation::Add { by: 2 }]);
        let chain = chains(&bytes).next().expect("a chain");
        let read = |chain: &[u8]| Chain::new(chain, Actor::SELF, &here.actors).map(|it| it.is_ok()).collect::<Vec<_>>();
        assert_eq!(read(chain), [true, true]);
        assert_eq!(read(&chain[..chain.len() - 1]), [true, false]);
        let mut alone = chain.to_vec();
        alone.push(1);
        Mutation::Delete.encode(&mut alone);
        assert_eq!(read(&alone), [true, true, false], "what stands alone is no part of a chain");
    }
}
