//! What a node says of its lanes when a WAIT asks it (`wait`): where they are, and how many replicas hold all up to
//! there.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::base::wire::{Reader, WireError, put_u16, put_u64};
use crate::commands::CommandError;
use crate::peer::lane::Fate;
use crate::peer::registry::Peer;
use crate::protocol::{Args, Reply, parse_i64};
use crate::replication::view::View;

/// The questions that nodes ask each other in WAIT's name: for marks, and how many replicas hold all up to them.
pub const MARKS: &[u8] = b"MARKS";
/// See [`MARKS`].
pub const HELD: &[u8] = b"HELD";

/// A node's answer to another node's WAIT.
pub fn answer(view: &View, args: Args<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    match args.get(1) {
        Some(MARKS) => out.bulk(&marks(view)),
        Some(HELD) => {
            let held = held(view, args.get(2).unwrap_or_default()).map_err(|_| CommandError::Syntax)?;
            out.int(held as i64);
        }
        _ => return Err(CommandError::Syntax),
    }
    Ok(())
}

/// Where this node's lanes are, and who holds its slots: for each peer the last frame on every lane, and each set of
/// other home replicas that hold what was written before, of which only these can hold all of it. A stand-in has what
/// was written since it is one, and a home replica that is being refilled has not yet what it had acknowledged in
/// another life.
///
/// `[peers u16]([node u64][lanes u16][number u64 ...])...([homes u16][node u64 ...])...`
pub fn marks(view: &View) -> Vec<u8> {
    let (mut out, peers) = (Vec::new(), || view.peers.iter().flatten());
    put_u16(&mut out, peers().count() as u16);
    for peer in peers() {
        put_u64(&mut out, peer.id.short());
        put_u16(&mut out, peer.lanes.len() as u16);
        peer.lanes.iter().for_each(|lane| put_u64(&mut out, lane.last()));
    }
    let active = view.roles.distinct.iter().filter(|roles| roles.is_active);
    let sets: BTreeSet<&[u16]> = active.map(|roles| roles.confirming_homes()).collect();
    for homes in sets {
        let ids = || view.peers_at(homes).map(|peer| peer.id.short());
        put_u16(&mut out, ids().count() as u16);
        ids().for_each(|id| put_u64(&mut out, id));
    }
    out
}

/// How many replicas, beside this node, hold everything up to `marks`: the fewest of all sets of home replicas.
pub fn held(view: &View, marks: &[u8]) -> Result<usize, WireError> {
    let mut reader = Reader::new(marks);
    let mut numbers: HashMap<u64, Vec<u64>> = HashMap::new();
    for _ in 0..reader.u16()? {
        numbers.insert(reader.u64()?, u64s(&mut reader)?);
    }
    let is_warm = |at: &u16| view.roles.distinct.iter().any(|roles| roles.confirmers.contains(at));
    let warm = (0..view.peers.len() as u16).filter(is_warm).filter_map(|at| view.peer(at));
    let holders: BTreeSet<u64> = warm.filter(|peer| holds_all(peer, &numbers)).map(|peer| peer.id.short()).collect();
    let mut fewest = view.replicas.saturating_sub(1);
    while !reader.is_empty() {
        let homes = u64s(&mut reader)?;
        fewest = fewest.min(homes.iter().filter(|id| holders.contains(id)).count());
    }
    Ok(fewest)
}

/// Whether a peer has been given everything up to the marks of its lanes.
fn holds_all(peer: &Peer, numbers: &HashMap<u64, Vec<u64>>) -> bool {
    let Some(marked) = numbers.get(&peer.id.short()).filter(|marked| marked.len() == peer.lanes.len()) else {
        return false;
    };
    let mut lanes = peer.lanes.iter().zip(marked);
    // What is lost by the first look counts as missed by the second.
    lanes.all(|(lane, mark)| lane.fate(*mark) != Fate::Open) && peer.has_caught_up()
}

fn u64s(reader: &mut Reader<'_>) -> Result<Vec<u64>, WireError> {
    (0..reader.u16()?).map(|_| reader.u64()).collect()
}

/// The number of replicas and the time to wait for them; `None` for as long as it takes.
pub fn wishes(args: Args<'_>) -> Result<(i64, Option<Duration>), CommandError> {
    let wanted = parse_i64(args.get(1).unwrap_or_default()).ok_or(CommandError::NotInteger)?;
    let timeout = parse_i64(args.get(2).unwrap_or_default())
        .ok_or(CommandError::text("ERR timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout).map_err(|_| CommandError::text("ERR timeout is negative"))?;
    Ok((wanted, (timeout_ms != 0).then(|| Duration::from_millis(timeout_ms))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Slot;
    use crate::peer::frame::Kind;
    use crate::replication::test_support::view_of;

    fn slot() -> Slot {
        Slot::new(0).expect("a slot")
    }

    fn send(peer: &Peer) -> u64 {
        let lane = peer.lane_of(slot()).expect("a lane");
        let number = lane.append(Kind::Delta, |_| {}).expect("the lane is open");
        lane.write_with(|bytes| Ok(bytes.len())).expect("written");
        number
    }

    fn ack(peer: &Peer, number: u64) {
        peer.lane_of(slot()).expect("a lane").ack(number);
    }

    /// This node's view, in which the last home replica is stood in for, or refilled: it gets what is written, and is
    /// no more.
    fn with_a_newcomer() -> View {
        let mut view = view_of(true);
        for roles in &mut view.roles.distinct {
            roles.confirmers.retain(|at| *at != 2);
            roles.home_confirmers = roles.confirmers.len();
        }
        view
    }

    #[test]
    fn who_holds_all_up_to_the_marks_counts() {
        let view = view_of(true);
        let peers: Vec<_> = view.peers.iter().flatten().collect();
        let numbers: Vec<u64> = peers.iter().map(|peer| send(peer)).collect();
        let marks = marks(&view);
        assert_eq!(held(&view, &marks), Ok(0));
        for (at, (peer, number)) in peers.iter().zip(&numbers).enumerate() {
            ack(peer, *number);
            assert_eq!(held(&view, &marks), Ok(at + 1));
        }
    }

    #[test]
    fn who_stands_in_or_is_being_refilled_does_not_hold_what_was_written_before() {
        let view = with_a_newcomer();
        for peer in view.peers.iter().flatten() {
            let number = send(peer);
            ack(peer, number);
        }
        assert_eq!(held(&view, &marks(&view)), Ok(1));
        let before = marks(&view_of(true));
        assert_eq!(held(&view, &before), Ok(1), "nor once it has come after the marks");
    }

    #[test]
    fn what_is_lost_is_not_held_before_it_has_been_handed_over() {
        let view = view_of(true);
        let numbers: Vec<u64> = view.peers.iter().flatten().map(|peer| send(peer)).collect();
        let marks = marks(&view);
        let lost = view.peer(1).expect("a peer");
        lost.hints.note(slot(), 1);
        lost.lane_of(slot()).expect("a lane").close(|_| {});
        lost.lane_of(slot()).expect("a lane").open();
        ack(view.peer(2).expect("a peer"), numbers[1]);
        assert_eq!(held(&view, &marks), Ok(1));
        assert!(lost.hints.take().is_some());
        lost.hints.delivered();
        assert_eq!(held(&view, &marks), Ok(2));
    }

    #[test]
    fn marks_that_make_no_sense_are_an_error() {
        let view = view_of(true);
        let marks = marks(&view);
        assert!((1..marks.len()).filter(|len| held(&view, &marks[..*len]).is_err()).count() > marks.len() / 2);
        assert!(held(&view, b"").is_err());
    }
}
