//! Who takes this node for fit to coordinate.
//!
//! A node that comes back, from a restart or a long pause, holds itself for fit as soon as it is warm; the others route
//! past it until they reach it again and have handed over what it missed. If it coordinated meanwhile, two nodes would
//! run commands on the same slots, and an acknowledged write could lose to one with a later stamp that was made before
//! it. So each node says on all of its lanes whether it takes the other for fit ([`Word`]), behind the deltas that it
//! sent while it did not, and a node does not coordinate while one that it hears says that it is not, whether it
//! reaches that one already or not: links come back one after the other. A node that has just begun, was called unfit,
//! or reached nobody, takes the silence of a peer that it reaches for "unfit" ([`Doubt`]). Others ignore silence, so
//! that a node that comes back does not stop those that went on.
//!
//! While nobody says that it is fit, all agree who stands in for it. When some do and others do not, its slots have no
//! coordinator; nobody waits for longer than [`WAIT_MAX`] then: a node that cannot be heard, or that takes long to hand
//! over, stops nobody for good.
//!
//! What was said holds for as long as the connection does, and the generation of who said it. A connection may end long
//! after the next was made, so they are numbered; one on which nothing comes is ended (`replica`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::base::ids::NodeId;
use crate::base::wire::{Reader, WireError};

/// How long a node may be kept from coordinating by some while others take it for fit already.
const WAIT_MAX: Duration = Duration::from_millis(150);

/// What is said on a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// The sender takes the receiver for fit.
    pub is_fit: bool,
    /// How many lanes this is said on.
    pub lanes: u8,
}

impl Word {
    /// Appends the word.
    pub fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[u8::from(self.is_fit), self.lanes]);
    }

    /// Reads a word.
    pub fn read(body: &[u8]) -> Result<Word, WireError> {
        let mut reader = Reader::new(body);
        Ok(Word { is_fit: reader.u8()? != 0, lanes: reader.u8()? })
    }
}

/// A connection on which a node says what it takes this one for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Speaker {
    /// Who says it.
    pub node: NodeId,
    /// On which of its lanes.
    pub lane: u8,
    /// In which of its lives; later ones have higher numbers.
    pub generation: u64,
    /// Later connections have higher numbers.
    connection: u64,
}

/// What a node has said in the latest of its lives that has connected.
#[derive(Debug, Default)]
struct Words {
    generation: u64,
    /// Its last words by lane, each with its connection's number.
    by_lane: BTreeMap<u8, (u64, Word)>,
}

impl Words {
    /// This life has connected.
    fn begin(&mut self, generation: u64) {
        if self.generation < generation {
            *self = Words { generation, by_lane: BTreeMap::new() };
        }
    }
}

/// What the other nodes have said, by node and lane, and on which connection.
#[derive(Debug, Default)]
pub struct Trust {
    said: Mutex<BTreeMap<NodeId, Words>>,
    connections: AtomicU64,
}

impl Trust {
    /// A connection was made on which this lane of that node speaks.
    pub fn meet(&self, node: NodeId, generation: u64, lane: u8) -> Speaker {
        self.said.lock().entry(node).or_default().begin(generation);
        Speaker { node, lane, generation, connection: self.connections.fetch_add(1, Ordering::Relaxed) }
    }

    /// Notes what is said, unless a later connection has said something, or a later life has connected.
    pub fn hear(&self, speaker: Speaker, word: Word) {
        let mut said = self.said.lock();
        let words = said.entry(speaker.node).or_default();
        words.begin(speaker.generation);
        let by_lane = &mut words.by_lane;
        let is_latest = by_lane.get(&speaker.lane).is_none_or(|(connection, _)| *connection <= speaker.connection);
        if words.generation == speaker.generation && is_latest {
            by_lane.insert(speaker.lane, (speaker.connection, word));
        }
    }

    /// The connection has ended.
    pub fn forget(&self, speaker: Speaker) {
        let mut said = self.said.lock();
        if let Some(words) = said.get_mut(&speaker.node) {
            words.by_lane.retain(|lane, (connection, _)| (*lane, *connection) != (speaker.lane, speaker.connection));
            if words.by_lane.is_empty() && words.generation == speaker.generation {
                said.remove(&speaker.node);
            }
        }
    }

    /// What that node says: that this one is fit, on every lane; that it is not; or nothing yet. So far as this node
    /// knows its latest life has this `generation`: one that it has not heard of yet is empty, and has no say.
    pub fn word_of(&self, node: &NodeId, generation: u64) -> Option<bool> {
        let said = self.said.lock();
        let words = said.get(node).filter(|words| words.generation <= generation);
        let words = words.map(|words| &words.by_lane).filter(|words| !words.is_empty())?;
        let lanes = words.values().map(|(_, word)| usize::from(word.lanes)).max().unwrap_or_default();
        match words.values().all(|(_, word)| word.is_fit) {
            true => (words.len() >= lanes).then_some(true),
            false => Some(false),
        }
    }
}

/// What a node takes this one for.
#[derive(Clone, Copy, Debug)]
pub struct Opinion {
    /// Whose it is.
    pub of: NodeId,
    /// This node reaches it. Of one that it does not reach only that counts which keeps this node from coordinating.
    pub is_reached: bool,
    /// Whether it takes this node for fit; `None` while it says nothing.
    pub says: Option<bool>,
    /// This node owes it something, so does not take it for fit either.
    pub is_owed: bool,
}

/// Whether a node may coordinate, from view to view; see the head of the file.
#[derive(Debug)]
pub struct Doubt {
    /// Silence counts against it.
    is_open: bool,
    /// Since when some have kept it from coordinating though others take it for fit.
    waits_since: Option<Instant>,
}

impl Default for Doubt {
    /// Of a node that begins.
    fn default() -> Doubt {
        Doubt { is_open: true, waits_since: None }
    }
}

impl Doubt {
    /// Somebody has called this node unfit; its connection may end before anybody looks at its word.
    pub fn open(&mut self) {
        self.is_open = true;
    }

    /// True when this node may coordinate, which is `able` to as far as it knows. Of two that owe each other something
    /// one has to go on, or nobody would coordinate what both hold.
    pub fn may_coordinate(&mut self, me: NodeId, able: bool, opinions: &[Opinion], now: Instant) -> bool {
        let counted = opinions.iter().filter(|it| it.is_reached || it.says == Some(false));
        let opinions: SmallVec<[&Opinion; 8]> = counted.collect();
        let is_said = |what| move |it: &&Opinion| it.says == what;
        if opinions.is_empty() || opinions.iter().any(is_said(Some(false))) {
            self.is_open = true;
        } else if opinions.iter().all(is_said(Some(true))) {
            self.is_open = false;
        }
        let yields_to = |it: &Opinion| !(it.is_owed && me < it.of);
        let is_kept_by = |it: &&Opinion| it.says.map_or(self.is_open, |is_fit| !is_fit) && yields_to(it);
        let is_kept = opinions.iter().any(is_kept_by);
        let is_disputed = able && is_kept && opinions.iter().any(is_said(Some(true)));
        self.waits_since = is_disputed.then(|| self.waits_since.unwrap_or(now));
        able && (!is_kept || self.waits_since.is_some_and(|since| now.duration_since(since) >= WAIT_MAX))
    }

    /// When this node stops waiting for the others, if it waits.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.waits_since.map(|since| since + WAIT_MAX).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_what_every_lane_has_said_last() {
        let (trust, node) = (Trust::default(), NodeId::random());
        let word = |is_fit| Word { is_fit, lanes: 2 };
        let [first, second] = [0, 1].map(|lane| trust.meet(node, 1, lane));
        assert_eq!(trust.word_of(&node, 9), None);
        trust.hear(first, word(true));
        assert_eq!(trust.word_of(&node, 9), None, "deltas may still be on the other lane");
        trust.hear(second, word(true));
        assert_eq!((trust.word_of(&node, 9), trust.word_of(&NodeId::random(), 9)), (Some(true), None));
        trust.hear(second, word(false));
        assert_eq!(trust.word_of(&node, 9), Some(false));
        trust.hear(second, word(true));
        trust.forget(first);
        assert_eq!(trust.word_of(&node, 9), None, "the connection has ended");
    }

    #[test]
    fn a_connection_that_ends_late_takes_nothing_back_from_a_later_one() {
        let (trust, node) = (Trust::default(), NodeId::random());
        let word = |is_fit| Word { is_fit, lanes: 1 };
        let [earlier, later] = [(), ()].map(|()| trust.meet(node, 1, 0));
        trust.hear(later, word(true));
        trust.hear(earlier, word(false));
        trust.forget(earlier);
        assert_eq!(trust.word_of(&node, 9), Some(true));
        trust.forget(later);
        assert_eq!(trust.word_of(&node, 9), None);
    }

    #[test]
    fn another_life_says_everything_anew() {
        let (trust, node) = (Trust::default(), NodeId::random());
        let word = |is_fit| Word { is_fit, lanes: 1 };
        let dead = trust.meet(node, 1, 0);
        trust.hear(dead, word(true));
        let alive = trust.meet(node, 2, 0);
        assert_eq!(trust.word_of(&node, 9), None, "its connection has not ended, but who made it has");
        trust.hear(dead, word(true));
        assert_eq!(trust.word_of(&node, 9), None, "it was on its way");
        trust.forget(dead);
        trust.hear(alive, word(false));
        trust.hear(dead, word(true));
        assert_eq!(trust.word_of(&node, 2), Some(false));
        assert_eq!(trust.word_of(&node, 1), None, "its row is still that of the life before");
    }

    /// A node called `me`, and what it made of these opinions one after the other.
    fn judged(doubt: &mut Doubt, me: u8, rounds: &[&[(u8, Option<bool>, bool)]], now: Instant) -> Vec<bool> {
        let id = |byte| NodeId::from_bytes([byte; 20]);
        let opinion = |(of, says, is_owed): &(u8, Option<bool>, bool)| Opinion {
            of: id(*of),
            is_reached: true,
            says: *says,
            is_owed: *is_owed,
        };
        let mut judge = |round: &&[(u8, Option<bool>, bool)]| {
            doubt.may_coordinate(id(me), true, &round.iter().map(opinion).collect::<Vec<_>>(), now)
        };
        rounds.iter().map(&mut judge).collect()
    }

    const FIT: Option<bool> = Some(true);
    const UNFIT: Option<bool> = Some(false);

    /// Simulated: a node was killed and came back empty, filled up, and coordinated, while the others still routed past
    /// it because they had not handed over yet; its SET, stamped by a clock that was behind, lost to an older one.
    #[test]
    fn who_is_back_coordinates_once_all_that_it_reaches_say_that_it_may() {
        let now = Instant::now();
        let rounds: [&[_]; 5] = [
            &[],
            &[(1, None, false), (3, None, false)],
            &[(1, FIT, false), (3, None, false)],
            &[(1, FIT, false), (3, UNFIT, false)],
            &[(1, FIT, false), (3, FIT, false)],
        ];
        assert_eq!(judged(&mut Doubt::default(), 2, &rounds, now), [true, false, false, false, true]);
    }

    #[test]
    fn who_went_on_goes_on_when_another_dies_or_comes_back_without_a_word() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        let rounds: [&[_]; 4] = [
            &[(1, FIT, false), (3, FIT, false)],
            &[(1, FIT, false), (3, None, false)],
            &[(1, FIT, false)],
            &[(1, FIT, false), (3, None, true)],
        ];
        assert_eq!(judged(&mut doubt, 2, &rounds, now), [true; 4]);
        assert_eq!(judged(&mut doubt, 2, &[&[], &[(1, None, false)]], now), [true, false], "it was alone");
    }

    /// Simulated: a node that had been cut off reached one that only stood in for others before it reached those, and
    /// both of them, which held nothing, agreed that a key was not there.
    #[test]
    fn who_reaches_some_again_heeds_the_others_too() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        let of =
            |byte, is_reached, says| Opinion { of: NodeId::from_bytes([byte; 20]), is_reached, says, is_owed: false };
        let mut judge = |opinions: &[Opinion]| doubt.may_coordinate(NodeId::from_bytes([2; 20]), true, opinions, now);
        assert!(!judge(&[of(1, true, FIT), of(3, false, UNFIT)]));
        assert!(judge(&[of(1, true, FIT), of(3, false, FIT)]), "and those that it does not reach are silent");
        assert!(judge(&[of(1, true, FIT), of(3, false, None)]));
    }

    /// Simulated: a node was stopped for so long that others closed their lanes, on which they had called it unfit. It
    /// heard that and the end together, and coordinated with the one whose lane was not closed yet.
    #[test]
    fn who_was_called_unfit_waits_for_those_that_are_silent_though_the_word_has_gone() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        assert_eq!(judged(&mut doubt, 2, &[&[(1, FIT, false)], &[(1, None, false)]], now), [true, true]);
        doubt.open();
        assert_eq!(judged(&mut doubt, 2, &[&[(1, None, false)], &[(1, FIT, false)]], now), [false, true]);
    }

    #[test]
    fn of_two_that_owe_each_other_something_exactly_one_goes_on() {
        let now = Instant::now();
        for says in [UNFIT, None] {
            let one = judged(&mut Doubt::default(), 1, &[&[(2, says, true)]], now);
            let other = judged(&mut Doubt::default(), 2, &[&[(1, says, true)]], now);
            assert_eq!((one, other), (vec![true], vec![false]));
        }
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (mut doubt, began) = (Doubt::default(), Instant::now());
        let [unfit, disputed]: [&[_]; 2] =
            [&[(1, UNFIT, false), (3, None, false)], &[(1, FIT, false), (3, UNFIT, false)]];
        let now = began + 9 * WAIT_MAX;
        assert_eq!(judged(&mut doubt, 2, &[unfit], began), [false]);
        assert_eq!(judged(&mut doubt, 2, &[unfit], now), [false], "all agree on who stands in for it");
        assert_eq!(
            (judged(&mut doubt, 2, &[disputed], now), doubt.waits_until(now)),
            (vec![false], Some(now + WAIT_MAX))
        );
        assert_eq!(judged(&mut doubt, 2, &[disputed], now + WAIT_MAX / 2), [false]);
        assert_eq!(judged(&mut doubt, 2, &[disputed], now + WAIT_MAX), [true]);
        assert_eq!(doubt.waits_until(now + WAIT_MAX), None);
        assert_eq!(judged(&mut doubt, 2, &[&[(1, FIT, false)], disputed], now + 2 * WAIT_MAX), [true, false], "anew");
    }

    #[test]
    fn who_is_not_able_to_coordinate_does_not_wait_yet() {
        let (mut doubt, began) = (Doubt::default(), Instant::now());
        let of = |byte, says| Opinion { of: NodeId::from_bytes([byte; 20]), is_reached: true, says, is_owed: false };
        let (me, disputed) = (NodeId::from_bytes([2; 20]), [of(1, FIT), of(3, UNFIT)]);
        assert!(!doubt.may_coordinate(me, false, &disputed, began) && doubt.waits_until(began).is_none());
        let filled_up = began + 9 * WAIT_MAX;
        assert!(!doubt.may_coordinate(me, true, &disputed, filled_up), "it waits from now on");
    }

    #[test]
    fn words_read_back() {
        let (mut out, word) = (Vec::new(), Word { is_fit: true, lanes: 3 });
        word.put(&mut out);
        assert_eq!(Word::read(&out), Ok(word));
        assert_eq!(Word::read(&[1]), Err(WireError));
    }
}
