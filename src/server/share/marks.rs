//! What a node says of its lanes when a WAIT asks it (`wait`): where they are, and how many replicas hold all up to there.

use std::collections::HashMap;
use std::time::Duration;

use crate::base::wire::{Reader, WireError, put_u16, put_u64};
use crate::commands::CommandError;
use crate::peer::lane::Fate;
use crate::protocol::{Args, Reply, parse_i64};
use crate::replication::coordinator::View;

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

/// The last frame on every lane: `[node u64][lanes u16][number u64 ...]` for each peer.
pub fn marks(view: &View) -> Vec<u8> {
    let mut out = Vec::new();
    for peer in view.peers.iter().flatten() {
        put_u64(&mut out, peer.id.short());
        put_u16(&mut out, peer.lanes.len() as u16);
        peer.lanes.iter().for_each(|lane| put_u64(&mut out, lane.last()));
    }
    out
}

/// How many replicas, beside this node, hold everything up to `marks`: the fewest of all slots that it coordinates.
pub fn held(view: &View, marks: &[u8]) -> Result<usize, WireError> {
    let mut numbers: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut reader = Reader::new(marks);
    while !reader.is_empty() {
        let node = reader.u64()?;
        let lanes = (0..reader.u16()?).map(|_| reader.u64()).collect::<Result<_, _>>()?;
        numbers.insert(node, lanes);
    }
    let holds_all = |at: &u16| {
        let Some(Some(peer)) = view.peers.get(usize::from(*at)) else { return false };
        let marked = numbers.get(&peer.id.short()).into_iter().flatten();
        peer.has_caught_up() && peer.lanes.iter().zip(marked).all(|(lane, mark)| lane.fate(*mark) != Fate::Pending)
    };
    let own = view.roles.groups.iter().filter(|group| group.coordinator == Some(view.me));
    let fewest = own.map(|group| group.targets.iter().filter(|at| holds_all(at)).count()).min();
    Ok(fewest.unwrap_or(usize::MAX).min(view.replicas.saturating_sub(1)))
}

/// The number of replicas and the time to wait for them; `None` for as long as it takes.
pub fn wishes(args: Args<'_>) -> Result<(i64, Option<Duration>), CommandError> {
    let wanted = parse_i64(args.get(1).unwrap_or_default()).ok_or(CommandError::NotInteger)?;
    let timeout = parse_i64(args.get(2).unwrap_or_default())
        .ok_or(CommandError::text("ERR timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout).map_err(|_| CommandError::text("ERR timeout is negative"))?;
    Ok((wanted, (timeout_ms != 0).then(|| Duration::from_millis(timeout_ms))))
}
