//! Who runs one request of a transaction, and what besides decides about the groups that it may be in (`groups`).
//!
//! Pure, and by one view. Says nothing about whether who runs a request may do so yet.

use crate::base::ids::slot_of;
use crate::commands::spec::{Command, Handler, NodeCommand, flag};
use crate::protocol::{Args, parse_i64};
use crate::replication::view::View;
use crate::server::batch::scanned::scanned;
use crate::server::session::watched::Watched;
use crate::server::transaction::queued::Queued;

/// Who runs a queued request. Members are places in a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Runner {
    /// Any node: it has no keys.
    Anyone,
    /// The coordinator of all its keys.
    One(u16),
    /// More than one: its keys have several coordinators, or some have none.
    Several,
    /// Nobody yet: none of its keys has a coordinator.
    Nobody,
    /// Every node: it is about the whole keyspace.
    All,
}

/// Who runs a request.
pub fn runner_of(view: &View, request: &Queued<'_>) -> Runner {
    if view.is_solo {
        return Runner::One(view.me);
    }
    // Shard channels have slots, and are served by every node.
    let Some(command) = request.command.filter(|command| !command.has(flag::PUBSUB)) else { return Runner::Anyone };
    let mut at = request.slots.iter().map(|slot| view.coordinator_of(*slot));
    match (at.next(), command.handler) {
        (Some(first), _) if at.any(|other| other != first) => Runner::Several,
        (Some(Some(first)), _) => Runner::One(first),
        (Some(None), _) => Runner::Nobody,
        (None, Handler::Node(node)) if node.is_of_all_keys() => Runner::All,
        (None, _) => Runner::Anyone,
    }
}

/// Whether no slot may be locked while a request runs.
pub fn runs_unlocked(request: &Queued<'_>) -> bool {
    let is_unlocked = |command: &Command| matches!(command.handler, Handler::Node(node) if !node.leaves_store_alone());
    request.command.is_some_and(is_unlocked)
}

/// Who runs what depends on these watched keys: the node that coordinates them all. `Several` when there is none who
/// could tell whether they are as they were. The version of a key that was there says so to any coordinator; that there
/// was none says so only to the one that was asked to watch it, since what has come and gone since may have left
/// nothing but a stamp of its own clock.
pub fn runner_of_watched(view: &View, watched: &[Watched]) -> Runner {
    let mut coordinators = watched.iter().map(|it| view.coordinator_of(slot_of(&it.key)));
    let Some(first) = coordinators.clone().next() else { return Runner::Anyone };
    let Some(at) = first.filter(|_| coordinators.clone().all(|it| it.is_some())) else { return Runner::Nobody };
    let seen_at = |it: &Watched| it.at.map_or(Some(view.me), |id| view.place_of(id));
    let is_comparable = |it: &Watched| it.was_live || seen_at(it) == Some(at);
    match coordinators.all(|it| it == Some(at)) && watched.iter().all(is_comparable) {
        true => Runner::One(at),
        false => Runner::Several,
    }
}

/// The database that a request selects for those behind it, if it is one that does.
pub fn selected(command: &Command, args: Args<'_>) -> Option<u8> {
    let selects = matches!(command.handler, Handler::Node(NodeCommand::Select));
    args.get(1).filter(|_| selects).and_then(parse_i64).and_then(|number| u8::try_from(number).ok())
}

/// Whether a request selects a database, one of so many, for those behind it.
pub fn selects(request: &Queued<'_>, databases: usize) -> bool {
    let selected = |request: &Queued<'_>| {
        let scanner = scanned(request.bytes).ok()?;
        selected(request.command?, scanner.args(request.bytes))
    };
    request.is_select() && selected(request).is_some_and(|db| usize::from(db) < databases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::version::Version;
    use crate::replication::test_support::view_of;
    use crate::server::transaction::queued::requests_of;

    #[test]
    fn any_coordinator_can_tell_whether_a_key_that_was_there_is_as_it_was() {
        let view = view_of(true);
        let watched = |key: &str, was_live, at: Option<usize>| {
            let (key, at) = (key.as_bytes().to_vec(), at.and_then(|at| view.ids.get(at)).map(|(id, _)| *id));
            Watched { db: 0, key, seen: Version::default(), was_live, since: Hlc(0), missing: None, at }
        };
        let keys: Vec<String> = (0..99).map(|n| format!("k{n}")).collect();
        let key_of =
            |at| keys.iter().find(|key| view.coordinator_of(slot_of(key.as_bytes())) == Some(at)).expect("a key");
        for (was_live, at, runner) in
            [(true, Some(1), Runner::One(0)), (false, Some(1), Runner::Several), (false, None, Runner::One(0))]
        {
            assert_eq!(runner_of_watched(&view, &[watched(key_of(0), was_live, at)]), runner);
        }
        assert_eq!(runner_of_watched(&view, &[0, 1].map(|at| watched(key_of(at), true, None))), Runner::Several);
    }

    #[test]
    fn only_a_database_that_there_is_can_be_selected() {
        let queued = requests_of(b"SELECT 3\r\nSELECT 16\r\nSELECT -1\r\nSELECT x\r\nGET 3\r\nselect 0\r\n");
        let found = |databases| queued.iter().map(|request| selects(request, databases)).collect::<Vec<_>>();
        assert_eq!(found(16), [true, false, false, false, false, true]);
        assert_eq!(found(0), [false; 6]);
    }
}
