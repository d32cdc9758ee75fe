//! The replica's side of a lane: applies deltas, confirms or contradicts verifies, merges states.
//!
//! Requests are numbered by their order on the connection and acknowledged together, once for every read of the socket.
//! A request that cannot be acknowledged as it stands (a delta on a version that is not here, a verify that does not
//! agree) is answered with what this replica holds of the key; the sender answers that with the merged state, and until
//! then nothing behind it is acknowledged. So an acknowledgement always means: all of it, up to here, but for strict
//! requests that were declined in so many words because their slot is not promised to the sender (`ballot`). A state
//! covers all of its key's deltas in front of it, so a key that is not here is asked for once, however many deltas of
//! it arrive.
//!
//! The reader never waits for its own writing: answers go to a buffer with a bound, and a peer that does not read them
//! is cut off. So is one that says nothing for longer than any that lives (`link` asks for a sign of life where it has
//! nothing to say): its connection stands for what it takes this node for (`trust`), and would not end by itself for
//! long.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::base::net::{TcpStream, WriteHalf};
use smallvec::SmallVec;
use tokio::time::MissedTickBehavior;

use crate::base::clock::{Hlc, SKEW_MS_MAX};
use crate::base::ids::{NodeId, Slot};
use crate::base::metrics::{Count, Registry};
use crate::base::version::{Actor, Relation, Version};
use crate::base::wire::{Reader, WireError, put_u64};
use crate::peer::ballot::{Declined, DigestRequest, PromiseAnswer, PromiseRequest};
use crate::peer::buffer::{SendBuffer, read_more, take_off};
use crate::peer::entries::{KeyState, Known};
use crate::peer::frame::{Ack, Frame, KeyRef, Kind, MismatchCause, Seen, Verify, next_frame, put_frame, put_refused};
use crate::peer::handshake::{Hello, LinkKind};
use crate::peer::link::invalid;
use crate::peer::refusal::Refusal;
use crate::peer::trust::Word;
use crate::replication::ballot::Holder;
use crate::replication::ballots::Ballots;
use crate::replication::settle::slot_digest;
use crate::store::deltas::Chain;
use crate::store::entry::Entry;
use crate::store::incoming::Applied;
use crate::store::name::Name;
use crate::store::rules::Rules;
use crate::store::state::State;
use crate::store::{Spot, Store, hash_name, in_database};

/// Most bytes of answers that a peer may leave unread.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How often it is looked whether anything has come.
const SILENCE_LOOK: Duration = Duration::from_millis(500);
/// After how many looks that found nothing the peer counts as gone: somewhat longer than gossip takes to call it so.
/// They are counted, instead of the time, so that a node that stood still itself blames nobody.
const SILENT_LOOKS_MAX: u32 = 10;

/// How often in a row nothing had come.
#[derive(Default)]
struct Silence {
    looks: u32,
}

impl Silence {
    /// Nothing has come this time either.
    fn look(&mut self) -> std::io::Result<()> {
        self.looks += 1;
        match self.looks > SILENT_LOOKS_MAX {
            true => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the peer has fallen silent")),
            false => Ok(()),
        }
    }
}

/// Most frames whose keys are looked for at once.
const WINDOW_FRAMES_MAX: usize = 32;

/// What a replica asks the node that it belongs to.
pub trait Host: Send + Sync {
    /// True when it may confirm what it holds.
    fn is_warm(&self) -> bool;
    /// True when it may promise a slot to `node`: it takes that one for the coordinator by these rings, and holds what
    /// it ever accepted, if it is a home replica by today's.
    fn may_promise(&self, node: &NodeId, slot: Slot, electorate_digest: u64) -> bool;
    /// True when it knows by itself of somebody who may hold older copies of keys than it.
    fn knows_of_older_copies(&self) -> bool;
    /// The peer says what it takes this node for; `None` when the connection has ended.
    fn hear_trust(&self, word: Option<Word>);
}

/// What is so while the frames of one read of the socket are dealt with.
struct Moment<'m> {
    store: &'m Store,
    rules: Rules,
    now_ms: u64,
    is_warm: bool,
}

/// One lane's state at the replica.
pub struct Replica {
    store: Arc<Store>,
    metrics: Arc<Registry>,
    ballots: Arc<Ballots>,
    node: NodeId,
    sender: Actor,
    holder: Holder,
    /// The number of this connection among those of the sender's lane.
    connection: u64,
    host: Arc<dyn Host>,
    /// Requests received on this connection.
    received: u64,
    acked: u64,
    /// Requests that wait for the sender's merged state.
    unresolved: BTreeSet<u64>,
    /// Those of them that are deltas, by database and key.
    deltas_of: HashMap<(u8, Box<[u8]>), Vec<u64>>,
    /// Those of them that are strict writes.
    unresolved_strict: BTreeSet<u64>,
    out: SendBuffer,
    /// Bytes of the longest answer so far.
    longest_answer: usize,
}

impl Replica {
    /// A replica for the lane of the node that said `hello`.
    pub fn new(
        store: Arc<Store>,
        metrics: Arc<Registry>,
        ballots: Arc<Ballots>,
        hello: &Hello,
        host: Arc<dyn Host>,
    ) -> Result<Replica, WireError> {
        let sender = store.actors.intern(hello.actor()).map_err(|_| WireError)?;
        let LinkKind::Replica { lane } = hello.kind else { return Err(WireError) };
        let (holder, connection) = ballots.connect(hello.node, sender, lane).ok_or(WireError)?;
        let (node, received, acked, unresolved) = (hello.node, 0, 0, BTreeSet::new());
        Ok(Replica {
            store,
            metrics,
            ballots,
            node,
            sender,
            holder,
            connection,
            host,
            received,
            acked,
            unresolved,
            deltas_of: HashMap::new(),
            unresolved_strict: BTreeSet::new(),
            out: SendBuffer::default(),
            longest_answer: 0,
        })
    }

    /// Serves the lane until its connection ends.
    pub async fn serve(mut self, mut stream: TcpStream) -> std::io::Error {
        let end = self.converse(&mut stream).await;
        self.host.hear_trust(None);
        tracing::debug!(
            received = self.received,
            acked = self.acked,
            unresolved = self.unresolved.len(),
            "a lane ended"
        );
        end
    }

    async fn converse(&mut self, stream: &mut TcpStream) -> std::io::Error {
        let (mut reader, writer) = stream.split();
        let mut buf = Vec::new();
        let mut silence = Silence::default();
        let mut look = tokio::time::interval(SILENCE_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                biased;
                read = read_more(&mut reader, &mut buf) => {
                    silence = Silence::default();
                    read.and_then(|()| self.take_all(&mut buf))
                }
                ready = writer.writable(), if !self.out.is_empty() => ready,
                // While an answer is on its way, however large, the peer may have to wait for it.
                _ = look.tick(), if self.out.is_empty() => silence.look(),
            };
            if let Err(error) = step.and_then(|()| self.write(&writer)) {
                return error;
            }
        }
    }

    /// Does what all whole frames in `buf` say, a window of them at a time, so that the memory of their keys is on its
    /// way when their turn comes, and acknowledges them together.
    fn take_all(&mut self, buf: &mut Vec<u8>) -> std::io::Result<()> {
        if !self.ballots.is_connected(self.holder, self.connection) {
            return Err(std::io::Error::other("the peer has connected anew"));
        }
        let store = self.store.clone();
        let now_ms = store.clock.now_ms();
        let moment = Moment { store: &store, rules: store.rules(now_ms), now_ms, is_warm: self.host.is_warm() };
        let mut at = 0;
        loop {
            let mut window: SmallVec<[(Frame<'_>, Option<Spot>); WINDOW_FRAMES_MAX]> = SmallVec::new();
            while window.len() < WINDOW_FRAMES_MAX
                && let Some((frame, len)) = next_frame(buf.get(at..).unwrap_or_default()).map_err(invalid)?
            {
                let spot = spot_of(&frame);
                spot.into_iter().for_each(|spot| store.prefetch_slot(spot));
                window.push((frame, spot));
                at += len;
            }
            let spots = || window.iter().filter_map(|(_, spot)| *spot);
            spots().for_each(|spot| store.prefetch_index(spot));
            spots().for_each(|spot| store.prefetch_entry(spot));
            for (frame, spot) in &window {
                self.take(&moment, *frame, *spot).map_err(invalid)?;
            }
            if window.len() < WINDOW_FRAMES_MAX {
                break;
            }
        }
        take_off(buf, at);
        self.acknowledge();
        Ok(())
    }

    fn write(&mut self, stream: &WriteHalf<'_>) -> std::io::Result<()> {
        self.out.write_out(|bytes| stream.try_write(bytes))?;
        // A single answer may be as large as a value.
        if self.out.len() > ANSWER_BYTES_MAX + self.longest_answer {
            return Err(std::io::Error::other("the peer does not read its answers"));
        }
        Ok(())
    }

    /// Does what one frame says.
    fn take(&mut self, moment: &Moment<'_>, frame: Frame<'_>, spot: Option<Spot>) -> Result<(), WireError> {
        self.received += 1;
        match (frame.kind, spot) {
            (Kind::Delta | Kind::StrictDelta, Some(spot)) => self.delta(moment, frame, spot),
            (Kind::Verify, Some(_)) if !moment.is_warm => {
                self.refuse(Refusal::Warming);
                Ok(())
            }
            (Kind::StrictVerify, Some(spot)) if !moment.is_warm => {
                // Of a node that is about to be a home replica only its promise is asked for.
                let _locked = moment.store.table(spot.slot);
                self.declines(frame.kind, spot.slot);
                Ok(())
            }
            (Kind::Verify | Kind::StrictVerify, Some(spot)) => self.verify(moment, frame, spot),
            (Kind::State, _) => self.state(moment, frame.body),
            (Kind::Heartbeat, _) => Ok(()),
            (Kind::Trust, _) => {
                self.host.hear_trust(Some(Word::read(frame.body)?));
                Ok(())
            }
            (Kind::Promise, _) => self.promise(frame.body, moment.now_ms),
            (Kind::Digest, _) => self.digest(frame.body),
            _ => Err(WireError),
        }
    }

    fn promise(&mut self, body: &[u8], now_ms: u64) -> Result<(), WireError> {
        let request = PromiseRequest::read(body)?;
        let clock = &self.store.clock;
        let is_absurd = request.until.ms() > now_ms + 2 * SKEW_MS_MAX;
        let granted = !is_absurd && self.ballots.renew(self.holder, request.until, request.is_fresh);
        let mut answer = PromiseAnswer { number: self.received, granted, floor: Hlc(0), refused: Vec::new() };
        for slot in request.slots.into_iter().filter(|_| granted) {
            if !self.host.may_promise(&self.node, slot, request.electorate_digest) {
                answer.refused.push(slot);
                continue;
            }
            let _locked = self.store.table(slot);
            if !self.ballots.goes_by(request.electorate_digest) {
                answer.refused.push(slot);
                continue;
            }
            answer.floor = answer.floor.max(self.ballots.promise(slot, self.holder, clock.latest(now_ms)));
            self.metrics.count(Count::PromisesGiven, 1);
        }
        put_frame(self.out.bytes(), Kind::Promised, |out| answer.put(out));
        Ok(())
    }

    fn digest(&mut self, body: &[u8]) -> Result<(), WireError> {
        let DigestRequest { slot, strict, horizon_ms, digest } = DigestRequest::read(body)?;
        let agrees = {
            let table = self.store.table(slot);
            self.host.is_warm()
                && (!strict || self.ballots.accepts(slot, self.holder))
                && slot_digest(&self.store, &table, horizon_ms) == digest
        };
        if !agrees {
            self.decline(self.received, Kind::Digest, slot);
        }
        Ok(())
    }

    /// True when a request is not to be done, because it is strict and the slot, which is locked, not promised to the
    /// sender.
    fn declines(&mut self, kind: Kind, slot: Slot) -> bool {
        let is_strict = matches!(kind, Kind::StrictDelta | Kind::StrictVerify);
        if !is_strict || self.ballots.accepts(slot, self.holder) {
            return false;
        }
        self.metrics.count(Count::StrictDeclined, 1);
        self.decline(self.received, kind, slot);
        true
    }

    fn decline(&mut self, number: u64, kind: Kind, slot: Slot) {
        let declined = Declined { number, kind, slot };
        put_frame(self.out.bytes(), Kind::Declined, |out| declined.put(out));
    }

    fn delta(&mut self, moment: &Moment<'_>, frame: Frame<'_>, spot: Spot) -> Result<(), WireError> {
        let store = moment.store;
        let mut table = store.table(spot.slot);
        if self.declines(frame.kind, spot.slot) {
            return Ok(());
        }
        for delta in Chain::new(frame.body, self.sender, &store.actors) {
            let delta = delta?;
            if store.clock.observe(delta.version.latest(), moment.now_ms).is_err() {
                self.refuse(Refusal::Skew);
                return Ok(());
            }
            let name = Name { db: delta.db, key: delta.key, hash: in_database(delta.db, spot.hash) };
            if table.apply_delta(name, &delta, &moment.rules, &store.actors) != Applied::NeedsState {
                continue;
            }
            if frame.kind == Kind::StrictDelta {
                self.unresolved_strict.insert(self.received);
            }
            let waiting = self.deltas_of.entry((delta.db, delta.key.into())).or_default();
            waiting.push(self.received);
            if waiting.len() > 1 {
                self.unresolved.insert(self.received);
                break;
            }
            let known = Known::of(&table, delta.slot, name, &store.actors);
            drop(table);
            self.contradict(KeyRef { slot: delta.slot, db: delta.db, key: delta.key }, &known, MismatchCause::Delta);
            // The state that comes has the rest of the chain in it.
            break;
        }
        Ok(())
    }

    fn verify(&mut self, moment: &Moment<'_>, frame: Frame<'_>, spot: Spot) -> Result<(), WireError> {
        let store = moment.store;
        let verify = Verify::read(frame.body, self.sender, &store.actors)?;
        let KeyRef { slot, db, key } = verify.name;
        let table = store.table(slot);
        if self.declines(frame.kind, slot) {
            return Ok(());
        }
        let name = Name { db, key, hash: in_database(db, spot.hash) };
        let entry = table.find(name);
        // The coordinator may have written since it read what it asks about once more.
        let is_known = |entry: &Entry| entry.version().only_adds_of(self.sender, verify.seen.version.as_ref());
        let confirmed = match verify.is_exact {
            true => entry.map(Entry::version) == verify.seen.version,
            false => confirms(entry, &verify.seen, moment.now_ms),
        };
        let agrees = confirmed || verify.is_repeated && entry.is_some_and(is_known);
        if !agrees {
            let known = Known::of(&table, slot, name, &store.actors);
            drop(table);
            let cause = if is_behind(&known, verify.seen.version.as_ref()) {
                MismatchCause::Behind
            } else {
                MismatchCause::Verify
            };
            self.contradict(verify.name, &known, cause);
        }
        Ok(())
    }

    fn state(&mut self, moment: &Moment<'_>, body: &[u8]) -> Result<(), WireError> {
        let Moment { store, now_ms, .. } = *moment;
        let mut reader = Reader::new(body);
        let resolves = reader.u64()?;
        let name = KeyRef::read(&mut reader)?;
        let mut known = Known::read(&mut reader, &store.actors)?;
        let states = known.take_states(name, &store.actors).collect::<Result<Vec<KeyState<'_>>, _>>()?;
        if !states.iter().all(KeyState::is_named) {
            return Err(WireError);
        }
        if states.iter().any(|it| store.clock.observe(it.state.version.latest(), now_ms).is_err()) {
            self.refuse(Refusal::Skew);
            return Ok(());
        }
        let mut table = store.table(name.slot);
        for state in states {
            state.merge_into(&mut table, store, now_ms, &self.metrics);
        }
        self.resolve(resolves, name);
        Ok(())
    }

    /// A state has come that covers these requests; its slot is locked. A strict write among them is accepted now, not
    /// when it came: by now the slot may be promised elsewhere.
    fn resolve(&mut self, number: u64, name: KeyRef<'_>) {
        let deltas = self.deltas_of.remove(&(name.db, name.key.into())).unwrap_or_default();
        for number in deltas.into_iter().chain([number]) {
            self.unresolved.remove(&number);
            if self.unresolved_strict.remove(&number) && !self.ballots.accepts(name.slot, self.holder) {
                self.decline(number, Kind::StrictDelta, name.slot);
            }
        }
    }

    fn contradict(&mut self, name: KeyRef<'_>, known: &Known, cause: MismatchCause) {
        let number = self.received;
        self.unresolved.insert(number);
        let (actors, before) = (&self.store.actors, self.out.len());
        put_frame(self.out.bytes(), Kind::Mismatch, |out| {
            put_u64(out, number);
            out.push(cause as u8);
            name.put(out);
            known.put(out, actors);
        });
        self.longest_answer = self.longest_answer.max(self.out.len() - before);
    }

    fn refuse(&mut self, why: Refusal) {
        if why == Refusal::Skew {
            self.metrics.count(Count::ClockRefusals, 1);
        }
        put_refused(self.out.bytes(), self.received, why);
        self.unresolved.insert(self.received);
    }

    /// Acknowledges everything up to the first request that is not resolved.
    fn acknowledge(&mut self) {
        let up_to = self.unresolved.first().map_or(self.received, |first| first - 1);
        if up_to > self.acked {
            self.acked = up_to;
            let knows_of_older = self.host.knows_of_older_copies();
            Ack { number: up_to, latest: self.store.clock.so_far(), knows_of_older }.put(self.out.bytes());
        }
    }
}

/// True when what is known of a key here is nothing, or older than `version`.
fn is_behind(known: &Known, version: Option<&Version>) -> bool {
    let is_older = |held: &State| version.is_some_and(|version| held.version.relation(version) == Relation::Older);
    known.clears.is_empty() && known.state.as_ref().is_none_or(is_older)
}

/// Whether a node that holds this entry of a key, or none, agrees with what another has seen of it.
#[inline]
pub fn confirms(entry: Option<&Entry>, seen: &Seen, now_ms: u64) -> bool {
    match (entry, &seen.version) {
        (Some(entry), Some(version)) => {
            let is_same = entry.dot() == version.dot
                && (entry.context_is_empty() && version.context.is_empty() || entry.version() == *version);
            is_same || seen.dead && entry.is_tombstone() && entry.version().covers(version.dot)
        }
        (Some(entry), None) => entry.is_tombstone() || entry.is_expired(now_ms),
        (None, _) => seen.dead,
    }
}

/// Where the key of a delta or a verify belongs; both begin with its name. `None` for other frames and for nonsense.
fn spot_of(frame: &Frame<'_>) -> Option<Spot> {
    let KeyRef { slot, key, .. } = match frame.kind {
        Kind::Delta | Kind::Verify | Kind::StrictDelta | Kind::StrictVerify => {
            KeyRef::read(&mut Reader::new(frame.body)).ok()?
        }
        _ => return None,
    };
    Some(Spot { slot, hash: hash_name(0, key) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, NodeId, slot_of};
    use crate::peer::frame::next_frame;
    use crate::peer::handshake::LinkKind;
    use crate::store::Effects;
    use crate::store::mutation::Mutation;

    const NOW_MS: u64 = 5_000;
    const ELECTORATE_DIGEST: u64 = 7;

    /// A node that coordinates, and a replica of it that holds nothing yet.
    fn pair() -> (Store, Replica) {
        pair_of(false)
    }

    /// The same, whose replica knows of older copies, or not.
    fn pair_of(knows_of_older: bool) -> (Store, Replica) {
        let hello = Hello {
            cluster: String::new(),
            node: NodeId::random(),
            generation: 1,
            kind: LinkKind::Replica { lane: 0 },
        };
        let (sender, receiver) = (Store::new(hello.actor()), Store::new(ActorId { node: 2, generation: 2 }));
        sender.set_replicated(true);
        let metrics = Arc::new(Registry::new(Vec::new()));
        let ballots = Arc::new(Ballots::new(Hlc(0)));
        ballots.go_by(ELECTORATE_DIGEST);
        let replica = Replica::new(Arc::new(receiver), metrics, ballots, &hello, Arc::new(Willing(knows_of_older)))
            .expect("a new actor");
        (sender, replica)
    }

    struct Willing(bool);

    impl Host for Willing {
        fn is_warm(&self) -> bool {
            true
        }

        fn may_promise(&self, _: &NodeId, _: Slot, electorate_digest: u64) -> bool {
            electorate_digest == ELECTORATE_DIGEST
        }

        fn knows_of_older_copies(&self) -> bool {
            self.0
        }

        fn hear_trust(&self, _: Option<Word>) {}
    }

    fn ask(replica: &mut Replica, is_fresh: bool, electorate_digest: u64) {
        let mut body = Vec::new();
        let slots = vec![slot_of(b"k")];
        PromiseRequest { is_fresh, until: Hlc::at_ms(NOW_MS + 9), electorate_digest, slots }.put(&mut body);
        take(replica, Kind::Promise, &body);
    }

    #[test]
    fn strict_writes_are_accepted_from_whom_the_slot_is_promised_to_when_they_are_applied() {
        let (sender, mut replica) = pair();
        let first = delta(&sender, b"a");
        take(&mut replica, Kind::StrictDelta, &first);
        assert_eq!(answers(&mut replica), [Kind::Declined, Kind::Ack]);
        ask(&mut replica, true, ELECTORATE_DIGEST + 1);
        take(&mut replica, Kind::StrictDelta, &first);
        assert_eq!(answers(&mut replica), [Kind::Promised, Kind::Ack, Kind::Declined, Kind::Ack], "by other rings");
        ask(&mut replica, false, ELECTORATE_DIGEST);
        take(&mut replica, Kind::StrictDelta, &first);
        assert_eq!(answers(&mut replica), [Kind::Promised, Kind::Ack, Kind::Ack]);
        // One is missing, so this one needs the state; when that comes the slot is promised to somebody else.
        let _lost = delta(&sender, b"b");
        let number = replica.received + 1;
        take(&mut replica, Kind::StrictDelta, &delta(&sender, b"c"));
        assert_eq!(answers(&mut replica), [Kind::Mismatch]);
        replica.ballots.promise(slot_of(b"k"), Holder::SELF, Hlc(0));
        take(&mut replica, Kind::State, &state(&sender, number));
        assert_eq!(answers(&mut replica), [Kind::Declined, Kind::Ack]);
        assert!(!replica.ballots.renew(replica.holder, Hlc::at_ms(NOW_MS + 20), false), "fenced");
    }

    fn delta(sender: &Store, member: &[u8]) -> Vec<u8> {
        delta_at(sender, member, NOW_MS)
    }

    fn delta_at(sender: &Store, member: &[u8], now_ms: u64) -> Vec<u8> {
        let mut effects = Effects::default();
        let mut keys = sender.lock(slot_of(b"k"), 0, now_ms, &mut effects);
        keys.write(b"k", Mutation::AddMember { member });
        keys.take_deltas().split_off(4)
    }

    fn state(sender: &Store, resolves: u64) -> Vec<u8> {
        let slot = slot_of(b"k");
        let mut body = Vec::new();
        put_u64(&mut body, resolves);
        KeyRef { slot, db: 0, key: b"k" }.put(&mut body);
        let name = Name::of(0, b"k");
        Known::of(&sender.table(slot), slot, name, &sender.actors).put(&mut body, &sender.actors);
        body
    }

    fn take(replica: &mut Replica, kind: Kind, body: &[u8]) {
        let frame = Frame { kind, body };
        let store = replica.store.clone();
        let moment = Moment { store: &store, rules: store.rules(NOW_MS), now_ms: NOW_MS, is_warm: true };
        replica.take(&moment, frame, spot_of(&frame)).expect("a frame that makes sense");
        replica.acknowledge();
    }

    fn answers(replica: &mut Replica) -> Vec<Kind> {
        let (out, mut kinds, mut at) = (std::mem::take(replica.out.bytes()), Vec::new(), 0);
        while let Ok(Some((frame, len))) = next_frame(&out[at..]) {
            kinds.push(frame.kind);
            at += len;
        }
        kinds
    }

    #[test]
    fn an_acknowledgement_says_whether_its_sender_knows_of_older_copies() {
        for knows_of_older in [false, true] {
            let (sender, mut replica) = pair_of(knows_of_older);
            take(&mut replica, Kind::Delta, &delta(&sender, b"a"));
            take(&mut replica, Kind::Heartbeat, &[]);
            let (out, mut acks, mut at) = (std::mem::take(replica.out.bytes()), Vec::new(), 0);
            while let Ok(Some((frame, len))) = next_frame(&out[at..]) {
                acks.push(Ack::read(frame.body).expect("an acknowledgement"));
                at += len;
            }
            let latest = replica.store.clock.so_far();
            assert!(latest >= sender.clock.so_far(), "of what it was told as well");
            assert_eq!(acks, [1, 2].map(|number| Ack { number, latest, knows_of_older }));
        }
    }

    #[test]
    fn a_peer_that_says_nothing_is_gone_after_some_looks_and_not_before() {
        let mut silence = Silence::default();
        assert!((0..SILENT_LOOKS_MAX).all(|_| silence.look().is_ok()));
        assert_eq!(silence.look().map_err(|error| error.kind()), Err(std::io::ErrorKind::TimedOut));
    }

    #[test]
    fn a_stamp_too_far_ahead_is_refused_whether_it_comes_as_a_delta_or_as_a_state() {
        let (sender, mut replica) = pair();
        take(&mut replica, Kind::Delta, &delta_at(&sender, b"a", NOW_MS + SKEW_MS_MAX));
        assert_eq!((answers(&mut replica), replica.acked), (vec![Kind::Ack], 1), "as far as a clock may be ahead");
        take(&mut replica, Kind::Delta, &delta_at(&sender, b"b", NOW_MS + SKEW_MS_MAX + 1));
        take(&mut replica, Kind::State, &state(&sender, 2));
        assert_eq!((answers(&mut replica), replica.acked), (vec![Kind::Refused, Kind::Refused], 1));
        assert_eq!(replica.store.clock.latest(NOW_MS).ms(), NOW_MS + SKEW_MS_MAX, "our clock follows neither");
        let table = replica.store.table(slot_of(b"k"));
        let held = table.find(Name::of(0, b"k")).expect("the first was applied");
        assert_eq!(held.dot().hlc.ms(), NOW_MS + SKEW_MS_MAX, "nothing of what was refused is here");
    }

    #[test]
    fn a_key_that_is_not_here_is_asked_for_once_and_its_state_covers_all_deltas_before_it() {
        let (sender, mut replica) = pair();
        delta(&sender, b"missed");
        for member in [b"a", b"b", b"c"] {
            let delta = delta(&sender, member);
            take(&mut replica, Kind::Delta, &delta);
        }
        assert_eq!(answers(&mut replica), [Kind::Mismatch]);
        take(&mut replica, Kind::State, &state(&sender, 1));
        assert_eq!((answers(&mut replica), replica.acked), (vec![Kind::Ack], 4));
        let delta = delta(&sender, b"d");
        take(&mut replica, Kind::Delta, &delta);
        assert_eq!((answers(&mut replica), replica.acked), (vec![Kind::Ack], 5));
        let held = |store: &Store| {
            let table = store.table(slot_of(b"k"));
            table.find(Name::of(0, b"k")).map(|entry| entry.version())
        };
        assert_eq!(held(&replica.store).map(|it| it.dot.hlc), held(&sender).map(|it| it.dot.hlc));
    }

    /// Simulated: a GET whose coordinator died was asked for again at a node that held nothing of the key, and answered
    /// nil because a replica held the tombstone of the DEL that its client had sent behind it.
    #[test]
    fn what_was_read_by_who_may_be_late_is_confirmed_by_no_other_tombstone() {
        let (sender, mut replica) = pair();
        replica.store.set_replicated(true);
        let deltas = [delta(&sender, b"a"), {
            let mut effects = Effects::default();
            let mut keys = sender.lock(slot_of(b"k"), 0, NOW_MS, &mut effects);
            keys.delete(b"k");
            keys.take_deltas().split_off(4)
        }];
        deltas.iter().for_each(|delta| take(&mut replica, Kind::Delta, delta));
        answers(&mut replica);
        let mut verified = |version: Option<Version>, is_exact| {
            let name = KeyRef { slot: slot_of(b"k"), db: 0, key: b"k" };
            let verify = Verify { name, seen: Seen { version, dead: true }, is_repeated: false, is_exact };
            let mut body = Vec::new();
            verify.put(&mut body, &sender.actors);
            take(&mut replica, Kind::Verify, &body);
            answers(&mut replica)
        };
        assert_eq!([false, true].map(|is_exact| verified(None, is_exact)), [vec![Kind::Ack], vec![Kind::Mismatch]]);
        let table = sender.table(slot_of(b"k"));
        let tombstone = table.find(Name::of(0, b"k")).map(|entry| entry.version());
        drop(table);
        assert_eq!(verified(tombstone, true), [], "the same, but for the one before it that nobody has resolved");
    }
}
