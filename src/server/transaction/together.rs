//! Requests that run as one: under the locks of all their slots, if watched keys are unchanged. EXEC's groups, and what
//! `across` changes.
//!
//! Nothing is checked here that was checked when a request was queued, as in Redis: a transaction that subscribes goes
//! on as it began. Commands that need no more than the connection and its messages run under the locks too. One of the
//! node that may look at the store itself is the last of its group (`groups`), and runs when the locks are given up:
//! others may see what was done before.

use std::time::Instant;

use crate::base::ids::{Slot, slot_of};
use crate::commands::spec::{Command, Cx, Handler, KeysFunction, NodeCommand, flag};
use crate::commands::subcommands;
use crate::commands::table::{self, CommandIndex};
use crate::protocol::{Args, Reply};
use crate::replication::wait::WaitPlaces;
use crate::server::batch::scanned::scanned;
use crate::server::batch::window::Request;
use crate::server::commands::unknown_command;
use crate::server::error::RequestError;
use crate::server::request::group_writes::GroupWrites;
use crate::server::request::readiness::keys_of;
use crate::server::request::run::{Origin, Run, Step};
use crate::server::session::watched::{EXACTLY, Watched};
use crate::server::share::marks::wishes;
use crate::server::transaction::queued::Queued;
use crate::server::transaction::runner::{Runner, runner_of, selected};
use crate::server::transaction::{NoReplies, Ran};
use crate::store::Keyspace;

/// What MONITOR inside a transaction reads.
const NOT_IN_TRANSACTION: &str = "ERR MONITOR isn't allowed for DENY BLOCKING client";

/// How and when the requests of a group run, and what they have written so far.
struct Moment {
    ran: Ran,
    /// The time that they see, in milliseconds since 1970.
    now_ms: u64,
    written: GroupWrites,
}

impl Run<'_> {
    /// Runs requests under the locks of all their slots; their replies stand one behind the other.
    fn together(&mut self, requests: &[Queued<'_>], watched: &[Watched]) -> Result<(), NoReplies> {
        let store = self.worker.shared.node.store.clone();
        let now_ms = self.now_us / 1_000;
        let names = self.keys_of_all(requests, watched);
        let names = || names.iter().map(|(db, key)| (*db, key.as_slice()));
        self.current.unsettlings = self.worker.shared.coordinator.ballots.unsettlings();
        if !self.view.is_solo && self.may_lack(true) && !self.is_ready(names()) {
            return Err(NoReplies::NotRun);
        }
        let mut slots: Vec<Slot> = names().map(|(_, key)| slot_of(key)).collect();
        if !self.has_quorums(&slots, requests) {
            return Err(NoReplies::NotRun);
        }
        if slots.is_empty() {
            slots.extend(Slot::all().take(1));
        }
        let notify = self.worker.shared.node.pubsub.wants_events();
        let mut effects = crate::store::Effects { notify, ..Default::default() };
        let mut keys = store.lock_many(&slots, self.session.db, now_ms, &mut effects);
        let has_waited = keys.effects().has_waited;
        // Who has no keys builds on nothing that could be out of date.
        let builds = names().next().is_some();
        if builds && (self.is_out_of_date(true, has_waited) || !self.may_run_strictly(&mut keys, names())) {
            return Err(NoReplies::NotRun);
        }
        if !watched.iter().all(|it| is_unchanged(&mut keys, it)) {
            return Err(NoReplies::Changed);
        }
        // It has begun in time, and its asker waits.
        self.late_at = None;
        let written = GroupWrites::since(store.clock.so_far());
        let mut moment = Moment { ran: Ran::as_one(requests), now_ms, written };
        let first = self.batch.unconfirmed.len();
        let locked = requests.iter().take_while(|request| self.run_locked(&mut keys, request, &mut moment)).count();
        drop(keys);
        if !watched.is_empty() {
            // Each reply says that nobody has written what was watched, which others may have done if this is doubtful.
            self.batch.unconfirmed.iter_mut().skip(first).for_each(|unconfirmed| unconfirmed.tells = true);
        }
        self.worker.count_lookups_of(&mut effects);
        self.count_effects(&mut effects);
        // The last of its group, if any.
        requests.iter().skip(locked).for_each(|request| self.run_unlocked(request));
        Ok(())
    }

    /// All keys that requests may build on or that are watched, with their databases; some more than once. SELECT says
    /// which database the requests behind it mean.
    fn keys_of_all(&self, requests: &[Queued<'_>], watched: &[Watched]) -> Vec<(u8, Vec<u8>)> {
        let mut names: Vec<(u8, Vec<u8>)> = watched.iter().map(|it| (it.db, it.key.clone())).collect();
        let (mut db, databases) = (self.session.db, self.worker.settings.read(|settings| settings.databases));
        for request in requests {
            let (Some(command), Ok(scanner)) = (request.command, scanned(request.bytes)) else { continue };
            let args = scanner.args(request.bytes);
            let may_select = |db: &u8| usize::from(*db) < databases && !self.session.cluster_face;
            db = selected(command, args).filter(may_select).unwrap_or(db);
            names.extend(keys_of(command, args, db).map(|(db, key)| (db, key.to_vec())));
        }
        names
    }

    /// Whether enough replicas are reachable for all that may be written or read. A write that finds that there is
    /// nothing to do has only read (`Run::must_verify`).
    fn has_quorums(&self, slots: &[Slot], requests: &[Queued<'_>]) -> bool {
        let (view, quorum, coordinator) = (self.view, self.quorum, &self.worker.shared.coordinator);
        if view.is_solo {
            return true;
        }
        let writes = requests.iter().any(|request| request.has(flag::WRITE));
        slots.iter().all(|slot| {
            view.roles.of(*slot).is_some_and(|it| view.check(it, quorum, writes).is_ok())
                && coordinator.has_confirmers(view, *slot, quorum)
        })
    }

    /// Runs requests as one if this node coordinates all their keys and the watched ones, and those are unchanged.
    pub fn together_if_here(&mut self, requests: &[Queued<'_>], watched: &[Watched]) -> Result<(), NoReplies> {
        let is_here = |request: &Queued<'_>| match runner_of(self.view, request) {
            Runner::One(at) => at == self.view.me,
            runner => runner == Runner::Anyone,
        };
        let here = requests.iter().all(is_here) && watched.iter().all(|it| self.view.is_coordinator(slot_of(&it.key)));
        let may_grow = || requests.iter().any(|it| it.has(flag::DENYOOM));
        if here && self.origin == Origin::Peer && may_grow() && self.has_no_room() {
            // The client's node has asked for room on itself alone.
            requests.iter().for_each(|_| self.fail(RequestError::OutOfMemory.text()));
            return Ok(());
        }
        if here { self.together(requests, watched) } else { Err(NoReplies::NotRun) }
    }

    /// As [`Run::together_if_here`], and says so in front of the replies: 1, or 0 alone when a watched key has changed.
    pub fn together_if_unchanged(&mut self, requests: &[Queued<'_>], watched: &[Watched]) -> Result<(), NoReplies> {
        self.batch.out.push(1);
        let tried = self.together_if_here(requests, watched);
        if tried == Err(NoReplies::Changed) {
            self.batch.out.clear();
            self.batch.out.push(0);
        }
        tried
    }

    /// Runs one request on locked slots; false, with nothing done, when the slots may not be locked for it.
    fn run_locked(&mut self, keys: &mut Keyspace<'_>, request: &Queued<'_>, moment: &mut Moment) -> bool {
        let Ok(scanner) = scanned(request.bytes) else { return true };
        let whole = Request::new(scanner.args(request.bytes), request.bytes);
        let Some((index, command)) = whole.row else {
            self.fail_with(&unknown_command(whole.args));
            return true;
        };
        let command = subcommands::running(command, whole.args);
        match command.handler {
            Handler::Keys(function) | Handler::FanOut(function, _) => {
                self.run_on_locked(keys, index, command, function, &whole, moment)
            }
            Handler::Node(node) if node.leaves_store_alone() => self.run_without_keys(index, command, &whole),
            Handler::Node(_) => return false,
        }
        true
    }

    fn run_on_locked(
        &mut self,
        keys: &mut Keyspace<'_>,
        index: CommandIndex,
        command: &'static Command,
        function: KeysFunction,
        request: &Request<'_>,
        moment: &mut Moment,
    ) {
        keys.select(self.session.db);
        keys.only_write(command.only_writes());
        keys.leave_untouched(self.leaves_untouched(command));
        let (from, began) = (self.batch.out.len(), Instant::now());
        let out = Reply::new(&mut self.batch.out, self.session.proto);
        let result = Cx { args: request.args, keys, out, limits: self.limits }.run(function);
        let family = request.row.map_or(command, |(_, row)| row);
        let counted_at = table::counted_at(index, family, request.args).unwrap_or(index);
        self.count_run(counted_at, command, request.args, Some(began));
        // Before replication, which notes where the reply lies.
        if let Err(error) = result {
            self.fail_run(counted_at, from, &error);
        }
        let must_verify = self.must_verify(keys);
        if !self.view.is_solo {
            let clock = &self.worker.shared.node.store.clock;
            let note = |slot, waits: &WaitPlaces| moment.written.note(slot, clock.so_far(), waits);
            self.replicate_noting(command, request.args, keys, from, moment.now_ms, note);
        }
        if must_verify && self.verify_behind(&moment.written, command, request, keys, from).is_err() {
            // Who could have confirmed it was there a moment ago (`has_quorums`). What was written cannot be taken
            // back.
            let has_written = moment.ran == Ran::Together;
            let error = if has_written { RequestError::UnknownOutcome } else { RequestError::NobodyInTime };
            self.batch.forget_from(from);
            self.fail(error.text());
        }
    }

    fn run_unlocked(&mut self, request: &Queued<'_>) {
        let Ok(scanner) = scanned(request.bytes) else { return };
        let whole = Request::new(scanner.args(request.bytes), request.bytes);
        if let Some((index, command)) = whole.row {
            self.run_without_keys(index, command, &whole);
        }
    }

    /// Runs a command of the node.
    fn run_without_keys(&mut self, index: CommandIndex, command: &'static Command, request: &Request<'_>) {
        if let Err(error) = self.client.admits_names(command, request.args) {
            return self.fail_with(&error);
        }
        if self.subscribe_together(command, request.args) {
            return;
        }
        match command.handler {
            Handler::Node(NodeCommand::Wait) => return self.wait_together(request.args),
            Handler::Node(NodeCommand::Monitor) => return self.fail(NOT_IN_TRANSACTION),
            _ => {}
        }
        let origin = self.origin;
        if self.view.is_solo {
            // Its share of the keyspace is the whole.
            self.origin = Origin::Share;
        }
        let step = self.execute(index, command, request);
        self.origin = origin;
        if step != Step::Done {
            self.fail("ERR this command is not allowed inside a transaction over several nodes");
        }
    }

    /// WAIT inside MULTI: nothing is waited for, and the reply goes out when W nodes hold what was written.
    fn wait_together(&mut self, args: Args<'_>) {
        match wishes(args) {
            Ok(_) => {
                let held = self.quorum.write as i64 - 1;
                self.reply().int(held);
            }
            Err(error) => self.fail_with(&error),
        }
    }
}

fn is_unchanged(keys: &mut Keyspace<'_>, watched: &Watched) -> bool {
    keys.select(watched.db);
    let (key, seen) = (&watched.key, &watched.seen);
    match (watched.was_live, keys.exists(key)) {
        // One that has expired since has changed, as in Redis; one that had expired already has not.
        (true, false) => false,
        // A tombstone, or what had expired, may have been forgotten, and a clear of the slot leaves no stamp of a key.
        (false, false) if keys.entry(key).is_none() => match &watched.missing {
            Some(missing) => !missing.is_over(),
            None => !keys.may_have_been_there(key, watched.since),
        },
        _ if watched.since == EXACTLY => keys.version_of(key).0 == *seen,
        _ => keys.is_as_seen(key, seen),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::replication::routing::Quorum;
    use crate::replication::test_support::view_of;
    use crate::replication::view::View;
    use crate::server::batch::Batch;
    use crate::server::session::settings::Consistency;
    use crate::server::session::transaction::Transaction;
    use crate::server::session::{Session, Talk};
    use crate::server::state::client::Client;
    use crate::server::transaction::queued::requests_of;
    use crate::server::worker::Worker;
    use crate::server::worker::tests::shared;

    /// A watched SET that had waited out a cut was answered OK, while others had given the key another value on the
    /// same condition meanwhile.
    #[test]
    fn what_was_done_on_a_condition_says_more_than_that_it_is_done() {
        let (worker, view) = (Worker::new(0, shared(1, View::default())), view_of(true));
        worker.shared.node.store.set_replicated(true);
        let watched = Watched {
            db: 0,
            key: b"k".to_vec(),
            seen: Default::default(),
            was_live: false,
            since: worker.shared.node.store.clock.so_far(),
            missing: None,
            at: None,
        };
        for watched in [vec![watched], Vec::new()] {
            let addr = SocketAddr::from(([127, 0, 0, 1], 1));
            let (client, mut batch) = (Client::new(1, addr, addr, 1), Batch::new(Instant::now()));
            let (session, transaction) = (Session::new(false, ""), Transaction::default());
            let mut talk = Talk { session, transaction, consistency: Consistency::default() };
            let mut run = Run::new(&worker, &view, &client, &mut talk, &mut batch, Origin::Part);
            assert_eq!(run.together(&requests_of(b"SET k v\r\n"), &watched), Ok(()));
            let tells: Vec<bool> = batch.unconfirmed.iter().map(|it| it.tells).collect();
            assert_eq!(tells, [!watched.is_empty()]);
        }
    }

    /// Which requests of a group have a read that other nodes have to confirm.
    fn verified(strict: bool, requests: &[u8]) -> Vec<bool> {
        let (worker, view, requests) =
            (Worker::new(0, shared(1, View::default())), view_of(true), requests_of(requests));
        let slots: Vec<Slot> = requests.iter().flat_map(|it| it.slots.clone()).collect();
        let peers = view.peers.iter().flatten();
        peers.for_each(|peer| slots.iter().for_each(|slot| peer.granted.note(*slot)));
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let (client, mut batch) = (Client::new(1, addr, addr, 1), Batch::new(Instant::now()));
        let (session, transaction) = (Session::new(false, ""), Transaction::default());
        let mut talk = Talk { session, transaction, consistency: Consistency::default() };
        let mut run = Run::new(&worker, &view, &client, &mut talk, &mut batch, Origin::Part);
        run.quorum = Quorum { write: 2, read: 2, strict };
        let (store, mut effects) = (worker.shared.node.store.clone(), crate::store::Effects::default());
        store.set_replicated(true);
        let mut keys = store.lock_many(&slots, 0, 1, &mut effects);
        let written = GroupWrites::since(store.clock.so_far());
        let mut moment = Moment { ran: Ran::as_one(&requests), now_ms: 1, written };
        let of_request = |request| {
            let first = run.batch.unconfirmed.len();
            assert!(run.run_locked(&mut keys, request, &mut moment));
            let all = run.batch.unconfirmed.get(first..).unwrap_or_default();
            assert!(!all.is_empty(), "no reply is sent on hope");
            all.iter().any(|it| it.read.is_some())
        };
        requests.iter().map(of_request).collect()
    }

    #[test]
    fn what_is_read_behind_a_write_of_the_same_group_is_told_by_that_write() {
        for strict in [false, true] {
            let requests = b"GET a\r\nINCR a\r\nEXPIRE a 9\r\nPTTL a\r\nSET a v NX\r\nSET b v NX\r\nGET c\r\nMGET a b\r\nMGET a c\r\n";
            let expected = [true, false, false, false, false, false, true, false, true];
            assert_eq!(verified(strict, requests), expected, "strict: {strict}");
            assert_eq!(verified(strict, b"DEL a\r\nSET a v XX\r\n"), [true, true], "they have written nothing");
        }
    }
}
