//! Whether a command may be run on its keys yet, and what it is bound to: the request path's side of settling and of
//! strict mode (`replication::settle`, `replication::ballot`).

use std::time::Instant;

use crate::base::clock::Hlc;
use crate::base::ids::slot_of;
use crate::commands::repeat::{Repeat, deadlines_of, repeat_of};
use crate::commands::spec::{Command, flag};
use crate::protocol::{Args, parse_i64};
use crate::server::batch::window::Request;
use crate::server::error::RequestError;
use crate::server::request::run::Run;
use crate::store::Keyspace;
use crate::store::keyspace::value_ref;

/// The keys that a command may build on, with their databases: those that it names, in the database that is selected
/// and in any that its other words may mean, if it looks at another.
pub fn keys_of<'k>(command: &Command, args: Args<'k>, db: u8) -> impl Iterator<Item = (u8, &'k [u8])> + Clone {
    let others = args.iter().skip(2).filter(|_| command.has(flag::OTHER_DATABASE));
    let others = others.filter_map(|word| u8::try_from(parse_i64(word)?).ok()).filter(move |other| *other != db);
    let databases = std::iter::once(db).chain(others);
    let keys = command.key_positions(args).filter_map(move |at| args.get(at));
    databases.flat_map(move |db| keys.clone().map(move |key| (db, key)))
}

impl Run<'_> {
    /// Whether this node has to ask [`Run::is_ready`] before it runs something that writes or not. A cheap look.
    ///
    /// What only reads is confirmed by as many home replicas once it has run ([`Run::must_verify`]); only a strict read
    /// needs promises besides.
    #[inline]
    pub fn may_lack(&self, is_write: bool) -> bool {
        self.quorum.strict || is_write && self.worker.shared.coordinator.ballots.has_unsettled()
    }

    /// Whether another node's question has lain about for too long.
    pub fn is_late(&self, now: Instant) -> bool {
        self.late_at.is_some_and(|late_at| now > late_at)
    }

    /// Whether what a request was let in by may hold no longer, now that its slots are locked: another worker may have
    /// had them for as long as makes others take this node's slots over, or a command before it have taken so long. Who
    /// writes by an earlier view, or what was asked for elsewhere meanwhile, would undo what they were told is safe.
    #[inline]
    pub fn is_out_of_date(&self, writes: bool, has_waited: bool) -> bool {
        let coordinator = &self.worker.shared.coordinator;
        if writes && !coordinator.is_current(self.view) {
            return true;
        }
        if self.view.is_solo {
            return false;
        }
        if has_waited || self.worker.held_up.get() {
            self.worker.held_up.set(false);
            let now = Instant::now();
            self.worker.look_at_pulse(self.view, now);
            if self.is_late(now) {
                return true;
            }
        }
        writes && self.current.unsettlings != coordinator.ballots.unsettlings()
    }

    /// Whether what this node, which coordinates these keys, holds of them may be built on (`replication::settle`).
    pub fn is_ready<'k>(&self, keys: impl Iterator<Item = (u8, &'k [u8])>) -> bool {
        self.worker.shared.coordinator.is_ready(self.view, keys, self.quorum, self.now_us / 1_000)
    }

    /// Whether a strict command may run on these keys, whose slots are locked; bounds its stamps.
    pub fn may_run_strictly<'k>(
        &self,
        locked: &mut Keyspace<'_>,
        keys: impl Iterator<Item = (u8, &'k [u8])> + Clone,
    ) -> bool {
        if !self.quorum.strict || self.view.is_solo {
            return true;
        }
        let coordinator = &self.worker.shared.coordinator;
        coordinator.may_run(self.view, keys.clone())
            && keys
                .filter_map(|(_, key)| coordinator.window(self.view, slot_of(key)))
                .min()
                .is_none_or(|max| locked.stamp_until(max))
    }

    /// What to answer instead of running a request that may have run before, when its keys were written later than it
    /// was first sent: running it now would undo that, or tell of it (`commands::repeat`).
    #[inline]
    pub fn is_overtaken(&self, command: &Command, request: &Request<'_>, keys: &Keyspace<'_>) -> Option<RequestError> {
        self.fence.and_then(|fence| overtaken_since(fence, command, request, keys))
    }

    /// Whether other replicas have to confirm what a command has read: if it has written nothing, for then its reply,
    /// be it an error, says what it found. An error about its arguments alone says nothing of the kind. Ask before its
    /// writes are replicated.
    #[inline]
    pub fn must_verify(&self, keys: &Keyspace<'_>) -> bool {
        !self.view.is_solo && self.quorum.read > 1 && keys.has_looked() && keys.effects().deltas.is_empty()
    }
}

fn overtaken_since(fence: Hlc, command: &Command, request: &Request<'_>, keys: &Keyspace<'_>) -> Option<RequestError> {
    let is_later = |key: &[u8]| keys.version_of(key).0.dot.hlc > fence;
    let deadlines = deadlines_of(command, request.args, fence.ms(), keys.now_ms());
    let holds = |key: &[u8], value: &[u8]| {
        let found = keys.peek(key).filter(|entry| deadlines.contains(&entry.deadline_ms()));
        found.and_then(value_ref).and_then(|found| found.text()).is_some_and(|text| *text == *value)
    };
    let mut names = command.key_positions(request.args).filter_map(|at| request.args.get(at));
    match repeat_of(command, request.args) {
        Repeat::Writes(pairs) => {
            let is_there = |key: &[u8]| pairs.iter().any(|(name, value)| *name == key && holds(key, value));
            names.any(|key| is_later(key) && !is_there(key)).then_some(RequestError::UnknownOutcome)
        }
        Repeat::Reads => names.any(is_later).then_some(RequestError::NobodyInTime),
        Repeat::Never => Some(RequestError::UnknownOutcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::commands::table::find;
    use crate::server::batch::scanned::scanned;
    use crate::store::mutation::Mutation;
    use crate::store::{Effects, Store};

    const SENT_MS: u64 = 10_000;

    /// Whether a request that was sent at [`SENT_MS`] is not to be run again, after `later` has been written.
    fn is_refused(line: &str, later: Mutation<'_>) -> bool {
        let bytes = format!("{line}\r\n").into_bytes();
        let scanner = scanned(&bytes).expect("a request");
        let args = scanner.args(&bytes);
        let (_, command) = find(args.name()).expect("a command");
        let (store, mut effects) = (Store::new(ActorId { node: 1, generation: 1 }), Effects::default());
        store.set_replicated(true);
        let fence = store.clock.tick(SENT_MS);
        let mut keys = store.lock(slot_of(b"k"), 0, SENT_MS + 50, &mut effects);
        keys.write(b"k", later);
        overtaken_since(fence, command, &Request::new(args, &bytes), &keys).is_some()
    }

    #[test]
    fn what_would_undo_a_later_write_is_not_run_again() {
        let assign = |deadline_ms| Mutation::Assign { value: b"v", deadline_ms };
        for (line, later, is_undone) in [
            ("SET k v", assign(0), false),
            ("SET k w", assign(0), true),
            ("SET k v", Mutation::Delete, true),
            ("SET k v", assign(90_000), true),
            ("SET k v KEEPTTL", assign(90_000), false),
            ("SETEX k 5 v", assign(SENT_MS + 5_020), false),
            ("SETEX k 5 v", assign(SENT_MS + 3_600_000), true),
            ("SETEX k 5 v", assign(0), true),
            ("SET k v PXAT 90000", assign(90_000), false),
            ("GET k", assign(0), true),
        ] {
            assert_eq!(is_refused(line, later), is_undone, "{line} after {later:?}");
        }
    }
}
