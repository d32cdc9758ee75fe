//! The replica's side of a lane: applies deltas, confirms or contradicts verifies, merges states.
//!
//! Requests are numbered by their order on the connection and acknowledged together, once for every read of the socket.
//! A request that cannot be acknowledged as it stands (a delta on a version that is not here, a verify that does not
//! agree) is answered with what this replica holds of the key; the sender answers that with the merged state, and until
//! then nothing behind it is acknowledged. So an acknowledgement always means: all of it, up to here. A state covers all
//! of its key's deltas in front of it, so a key that is not here is asked for once, however many deltas of it arrive.
//!
//! The reader never waits for its own writing: answers go to a buffer with a bound, and a peer that does not read them
//! is cut off.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;

use crate::base::metrics::{Count, Registry};
use crate::base::version::Actor;
use crate::base::wire::{Reader, WireError, put_u64};
use crate::peer::frame::{Frame, KeyRef, Kind, Refusal, Verify, next_frame, put_ack, put_frame, put_refused};
use crate::peer::handshake::Hello;
use crate::peer::link::{invalid, read_more};
use crate::store::mutation::Delta;
use crate::store::slot::{Applied, Name};
use crate::store::state::State;
use crate::store::{Spot, Store, hash_name, in_database};

/// Most bytes of answers that a peer may leave unread.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Most frames whose keys are looked for at once.
const WINDOW_FRAMES_MAX: usize = 32;

/// One lane's state at the replica.
pub struct Replica {
    store: Arc<Store>,
    metrics: Arc<Registry>,
    sender: Actor,
    is_warm: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Requests received on this connection.
    received: u64,
    acked: u64,
    /// Requests that wait for the sender's merged state.
    unresolved: BTreeSet<u64>,
    /// Those of them that are deltas, by database and key.
    deltas_of: HashMap<(u8, Box<[u8]>), Vec<u64>>,
    out: Vec<u8>,
}

impl Replica {
    /// A replica for the lane of the node that said `hello`.
    pub fn new(
        store: Arc<Store>,
        metrics: Arc<Registry>,
        hello: &Hello,
        is_warm: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Replica, WireError> {
        let sender = store.actors.intern(hello.actor()).map_err(|_| WireError)?;
        let (unresolved, deltas_of) = (BTreeSet::new(), HashMap::new());
        let (received, acked, out) = (0, 0, Vec::new());
        Ok(Replica { store, metrics, sender, is_warm, received, acked, unresolved, deltas_of, out })
    }

    /// Serves the lane until its connection ends.
    pub async fn serve(mut self, mut stream: TcpStream) -> std::io::Error {
        let end = self.converse(&mut stream).await;
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
        loop {
            let step = tokio::select! {
                biased;
                read = read_more(&mut reader, &mut buf) => read.and_then(|()| self.take_all(&mut buf)),
                ready = writer.writable(), if !self.out.is_empty() => ready,
            };
            if let Err(error) = step.and_then(|()| self.write(&writer)) {
                return error;
            }
        }
    }

    /// Does what all whole frames in `buf` say, a window of them at a time, so that the memory of their keys is on its
    /// way when their turn comes, and acknowledges them together.
    fn take_all(&mut self, buf: &mut Vec<u8>) -> std::io::Result<()> {
        let store = self.store.clone();
        let (now_ms, is_warm) = (store.clock.now_ms(), (self.is_warm)());
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
                self.take(*frame, *spot, now_ms, is_warm).map_err(invalid)?;
            }
            if window.len() < WINDOW_FRAMES_MAX {
                break;
            }
        }
        buf.drain(..at);
        self.acknowledge();
        Ok(())
    }

    fn write(&mut self, stream: &WriteHalf<'_>) -> std::io::Result<()> {
        while !self.out.is_empty() {
            match stream.try_write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.out.len() > ANSWER_BYTES_MAX {
            return Err(std::io::Error::other("the peer does not read its answers"));
        }
        Ok(())
    }

    /// Does what one frame says.
    fn take(&mut self, frame: Frame<'_>, spot: Option<Spot>, now_ms: u64, is_warm: bool) -> Result<(), WireError> {
        self.received += 1;
        match (frame.kind, spot) {
            (Kind::Delta, Some(spot)) => self.delta(frame.body, spot, now_ms),
            (Kind::Verify, Some(_)) if !is_warm => {
                self.refuse(Refusal::Warming);
                Ok(())
            }
            (Kind::Verify, Some(spot)) => self.verify(frame.body, spot, now_ms),
            (Kind::State, _) => self.state(frame.body, now_ms),
            (Kind::Heartbeat, _) => Ok(()),
            _ => Err(WireError),
        }
    }

    fn delta(&mut self, body: &[u8], spot: Spot, now_ms: u64) -> Result<(), WireError> {
        let store = self.store.clone();
        let delta = Delta::decode(&mut Reader::new(body), self.sender, &store.actors)?;
        if store.clock.observe(delta.version.dot.hlc, now_ms).is_err() {
            self.refuse(Refusal::Skew);
            return Ok(());
        }
        let rules = store.rules(now_ms);
        let name = Name { db: delta.db, key: delta.key, hash: in_database(delta.db, spot.hash) };
        let mut table = store.table(delta.slot);
        if table.apply_delta(name, &delta, &rules) == Applied::NeedsState {
            let waiting = self.deltas_of.entry((delta.db, delta.key.into())).or_default();
            waiting.push(self.received);
            if waiting.len() > 1 {
                self.unresolved.insert(self.received);
                return Ok(());
            }
            let held = table.find(name).map(|entry| State::of(entry, now_ms));
            drop(table);
            self.contradict(KeyRef { slot: delta.slot, db: delta.db, key: delta.key }, held.as_ref(), false);
        }
        Ok(())
    }

    fn verify(&mut self, body: &[u8], spot: Spot, now_ms: u64) -> Result<(), WireError> {
        let store = self.store.clone();
        let verify = Verify::read(body, self.sender, &store.actors)?;
        let KeyRef { slot, db, key } = verify.name;
        let table = store.table(slot);
        let entry = table.find(Name { db, key, hash: in_database(db, spot.hash) });
        let agrees = match (entry, &verify.version) {
            (Some(entry), Some(version)) => {
                let is_same = entry.dot() == version.dot
                    && (entry.context_is_empty() && version.context.is_empty() || entry.version() == *version);
                is_same || verify.dead && entry.is_tombstone() && entry.version().covers(version.dot)
            }
            (Some(entry), None) => entry.is_tombstone() || entry.is_expired(now_ms),
            (None, _) => verify.dead,
        };
        if !agrees {
            let held = entry.map(|entry| State::of(entry, now_ms));
            drop(table);
            self.contradict(verify.name, held.as_ref(), true);
        }
        Ok(())
    }

    fn state(&mut self, body: &[u8], now_ms: u64) -> Result<(), WireError> {
        let store = self.store.clone();
        let mut reader = Reader::new(body);
        let resolves = reader.u64()?;
        let KeyRef { slot, db, key } = KeyRef::read(&mut reader)?;
        if reader.u8()? == 1 {
            let state = State::decode(&mut reader, &store.actors)?;
            if store.clock.observe(state.version.dot.hlc, now_ms).is_err() {
                self.refuse(Refusal::Skew);
                return Ok(());
            }
            let rules = store.rules(now_ms);
            let name = Name { db, key, hash: hash_name(db, key) };
            if store.table(slot).merge(name, state, now_ms, &rules, &store.actors) == Applied::Conflict {
                self.metrics.count(Count::Conflicts, 1);
            }
        }
        self.unresolved.remove(&resolves);
        for number in self.deltas_of.remove(&(db, key.into())).unwrap_or_default() {
            self.unresolved.remove(&number);
        }
        Ok(())
    }

    fn contradict(&mut self, name: KeyRef<'_>, held: Option<&State>, was_verify: bool) {
        let number = self.received;
        self.unresolved.insert(number);
        let actors = &self.store.actors;
        put_frame(&mut self.out, Kind::Mismatch, |out| {
            put_u64(out, number);
            out.push(u8::from(was_verify));
            name.put(out);
            out.push(u8::from(held.is_some()));
            if let Some(state) = held {
                state.encode(out, actors);
            }
        });
    }

    fn refuse(&mut self, why: Refusal) {
        if why == Refusal::Skew {
            self.metrics.count(Count::ClockRefusals, 1);
        }
        put_refused(&mut self.out, self.received, why);
        self.unresolved.insert(self.received);
    }

    /// Acknowledges everything up to the first request that is not resolved.
    fn acknowledge(&mut self) {
        let up_to = self.unresolved.first().map_or(self.received, |first| first - 1);
        if up_to > self.acked {
            self.acked = up_to;
            put_ack(&mut self.out, up_to);
        }
    }
}

/// Where the key of a delta or a verify belongs; both begin with its name. `None` for other frames and for nonsense.
fn spot_of(frame: &Frame<'_>) -> Option<Spot> {
    let KeyRef { slot, key, .. } = match frame.kind {
        Kind::Delta | Kind::Verify => KeyRef::read(&mut Reader::new(frame.body)).ok()?,
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

    /// A node that coordinates, and a replica of it that holds nothing yet.
    fn pair() -> (Store, Replica) {
        let hello = Hello { cluster: String::new(), node: NodeId::random(), boot: 1, kind: LinkKind::Control };
        let (sender, receiver) = (Store::new(hello.actor()), Store::new(ActorId { node: 2, boot: 2 }));
        sender.set_replicated(true);
        let metrics = Arc::new(Registry::new(Vec::new()));
        let replica = Replica::new(Arc::new(receiver), metrics, &hello, Arc::new(|| true)).expect("a new actor");
        (sender, replica)
    }

    fn delta(sender: &Store, member: &[u8]) -> Vec<u8> {
        let mut effects = Effects::default();
        let mut keys = sender.lock(slot_of(b"k"), 0, NOW_MS, &mut effects);
        keys.write(b"k", Mutation::AddMember { member });
        keys.take_deltas().split_off(4)
    }

    fn state(sender: &Store, resolves: u64) -> Vec<u8> {
        let slot = slot_of(b"k");
        let mut body = Vec::new();
        put_u64(&mut body, resolves);
        KeyRef { slot, db: 0, key: b"k" }.put(&mut body);
        body.push(1);
        let table = sender.table(slot);
        let entry = table.find(Name { db: 0, key: b"k", hash: hash_name(0, b"k") }).expect("written before");
        State::of(entry, NOW_MS).encode(&mut body, &sender.actors);
        body
    }

    fn take(replica: &mut Replica, kind: Kind, body: &[u8]) {
        let frame = Frame { kind, body };
        replica.take(frame, spot_of(&frame), NOW_MS, true).expect("a frame that makes sense");
        replica.acknowledge();
    }

    fn answers(replica: &mut Replica) -> Vec<Kind> {
        let (out, mut kinds, mut at) = (std::mem::take(&mut replica.out), Vec::new(), 0);
        while let Ok(Some((frame, len))) = next_frame(&out[at..]) {
            kinds.push(frame.kind);
            at += len;
        }
        kinds
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
            table.find(Name { db: 0, key: b"k", hash: hash_name(0, b"k") }).map(|entry| entry.version())
        };
        assert_eq!(held(&replica.store).map(|it| it.dot.hlc), held(&sender).map(|it| it.dot.hlc));
    }
}
