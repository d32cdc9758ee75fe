//! A command that needs its keys together (RENAME, SINTERSTORE, BITOP, MSETNX ...) over several coordinators.
//!
//! What each key holds is fetched from its coordinator, confirmed by R nodes; the command's ordinary function runs on a
//! scratch keyspace (`commands::scratch`); what it changes goes to each key's coordinator, which takes it only if the
//! key is still what was fetched. What a command adds is written before what it takes away, so a node that dies in
//! between leaves a value twice and never nowhere. When a key has changed meanwhile, what was written is put back and
//! all begins anew; after a while ([`Tries`]) the client is told to try again. Where somebody else has changed what was
//! to be put back, that stays; then no reply says that nothing was done.
//!
//! So each key's change is atomic and builds on what the command has read of that key, and the outcome is all of the
//! changes or none, also when one of the coordinators has no memory left for what the command adds, unless a node dies
//! or falls silent in the middle: then `-TIMEOUT` says that it is not known. What is not promised: others may see the
//! keys between two changes, and keys that are only read may come from different moments.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::wall_us;
use crate::base::ids::slot_of;
use crate::base::metrics::Count;
use crate::base::version::ActorTable;
use crate::base::wire::WireError;
use crate::commands::CommandError;
use crate::commands::exchange::{APPLY, FETCH, Fetched, GROW, Standing};
use crate::commands::scratch::{Brought, Change, KeyName, ScratchRun, Setting};
use crate::commands::spec::{Command, Gather, KeysFunction, flag};
use crate::protocol::client::{Value, encode_command};
use crate::protocol::{Args, Proto};
use crate::replication::view::View;
use crate::server::batch::scanned::scanned;
use crate::server::error::RequestError;
use crate::server::job::Job;
use crate::server::job::retry::RETRY_PAUSE;
use crate::server::job::tries::Tries;
use crate::server::job::values::{decoded, garbled, refused, values_of};
use crate::server::session::settings::command_limits;
use crate::server::session::watched::{EXACTLY, Watched};
use crate::server::transaction::NoReplies;
use crate::server::transaction::queued::requests_of;

/// Changes for one coordinator, each with what its key must still be.
struct ChangesAt {
    at: u16,
    db: u8,
    takes_away: bool,
    changes: Vec<(Change, Standing)>,
}

impl Job {
    /// Runs `command` over several coordinators.
    pub(super) async fn across(
        &mut self,
        command: &Command,
        run: KeysFunction,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let (tries, db) = (Tries::begin(), self.talk.session.db);
        let keys: BTreeSet<&[u8]> = command.key_positions(args).filter_map(|at| args.get(at)).collect();
        let names: Vec<KeyName> = keys.into_iter().map(|key| (db, key.to_vec())).collect();
        let by = if command.has(flag::DENYOOM) { &GROW } else { &APPLY };
        let mut has_traces = false;
        loop {
            let (ran, brought) = self.compute(command, run, args, &names).await?;
            let changes = if ran.reply.is_ok() { &ran.changes[..] } else { &[] };
            if has_traces && changes.is_empty() {
                // It would say that it has changed nothing.
                return Err(RequestError::UnknownOutcome.refusal());
            }
            let has_run = match self.commit(by, changes, &brought).await? {
                Committed::Yes => return self.conclude(ran, out),
                Committed::No { has_run, leaves_traces } => {
                    has_traces |= leaves_traces;
                    has_run
                }
            };
            // Two commands that stand in each other's way do not come back at the same moment.
            let pause_ms = 1 + self.worker.draw() as u64 % 8;
            if !tries.again_after(Duration::from_millis(pause_ms)).await {
                return Err(match has_run {
                    _ if has_traces => RequestError::UnknownOutcome.refusal(),
                    true => CommandError::text("TRYAGAIN the keys of the command kept changing while it ran"),
                    false => RequestError::NobodyInTime.refusal(),
                });
            }
        }
    }

    /// Runs the command on what its keys hold, with all that it was run on.
    async fn compute(
        &mut self,
        command: &Command,
        run: KeysFunction,
        args: Args<'_>,
        names: &[KeyName],
    ) -> Result<(ScratchRun, Brought), CommandError> {
        let mut brought = self.bring(names).await?;
        loop {
            let ran = self.on_scratch(command, run, args, &brought);
            let changed = ran.changes.iter().map(|it| &it.name);
            let missing: Vec<KeyName> = changed.filter(|name| !brought.contains_key(*name)).cloned().collect();
            if missing.is_empty() {
                return Ok((ran, brought));
            }
            brought.extend(self.bring(&missing).await?);
        }
    }

    /// Tells and counts what a command has done, and answers.
    fn conclude(&self, mut ran: ScratchRun, out: &mut Vec<u8>) -> Result<(), CommandError> {
        // That a key is new has been told where it was put.
        ran.events.retain(|event| event.class != b'n');
        self.worker.shared.node.pubsub.publish_events(&ran.events);
        let (hits, misses) = ran.lookups;
        self.worker.metrics.count(Count::KeyspaceHits, hits);
        self.worker.metrics.count(Count::KeyspaceMisses, misses);
        self.worker.metrics.count(Count::KeyChanges, if ran.reply.is_err() { 0 } else { ran.changed });
        out.extend_from_slice(&ran.reply?);
        Ok(())
    }

    fn on_scratch(&self, command: &Command, run: KeysFunction, args: Args<'_>, brought: &Brought) -> ScratchRun {
        let node = &self.worker.shared.node;
        let setting = Setting {
            db: self.talk.session.db,
            proto: self.talk.session.proto,
            limits: command_limits(&node.config.settings(), self.talk.session.cluster_face),
            tuning: &node.store.tuning,
            notify: node.pubsub.wants_events(),
            only_writes: command.only_writes(),
            now_ms: wall_us() / 1_000,
        };
        self.worker.scratch.run(run, args, brought, setting)
    }

    /// What keys hold, each as its coordinator and R nodes know it.
    async fn bring(&mut self, names: &[KeyName]) -> Result<Brought, CommandError> {
        let mut brought = Brought::with_capacity(names.len());
        for of_db in names.chunk_by(|a, b| a.0 == b.0) {
            let Some((db, _)) = of_db.first() else { continue };
            let words: Vec<&[u8]> =
                std::iter::once(FETCH.name.as_bytes()).chain(of_db.iter().map(|(_, key)| key.as_slice())).collect();
            let (mut request, mut reply) = (Vec::new(), Vec::new());
            encode_command(&mut request, &words);
            let scanner = scanned(&request)?;
            let before = self.enter(*db);
            let result = self.fan_out(&FETCH, Gather::Concat, scanner.args(&request), &mut reply).await;
            self.leave(before);
            result?;
            let items = match decoded(&reply)? {
                Value::Array(items) => items,
                Value::Error(text) => return Err(refused(&text)),
                _ => return Err(garbled()),
            };
            for (name, item) in of_db.iter().zip(&items) {
                brought.insert(name.clone(), self.said(item, Fetched::read).ok_or_else(garbled)?);
            }
        }
        Ok(brought)
    }

    /// Makes the changes. Refused, with nothing changed, when a coordinator has no room.
    async fn commit(&mut self, by: &Command, changes: &[Change], brought: &Brought) -> Result<Committed, CommandError> {
        let view = self.worker.shared.view.load_full();
        let standing_of = |name: &KeyName| Some(&brought.get(name)?.standing);
        let Some(parts) = changes_by_coordinator(&view, changes, standing_of) else {
            return Ok(Committed::No { has_run: false, leaves_traces: false });
        };
        let mut done: Vec<(KeyName, Standing)> = Vec::new();
        for part in &parts {
            let failed = match self.apply(&view, by, part).await {
                Applied::Yes(after) => {
                    let names = part.changes.iter().map(|(change, _)| change.name.clone());
                    done.extend(names.zip(after));
                    continue;
                }
                failed => failed,
            };
            let unknown = Err(RequestError::UnknownOutcome.refusal());
            if matches!(failed, Applied::No(NoReplies::Unknown)) {
                return unknown;
            }
            let leaves_traces = match self.put_back(done, brought).await {
                PutBack::Unknown => return unknown,
                put_back => put_back == PutBack::Theirs,
            };
            return match failed {
                Applied::NoRoom if leaves_traces => unknown,
                Applied::NoRoom => Err(RequestError::OutOfMemory.refusal()),
                failed => {
                    Ok(Committed::No { has_run: matches!(failed, Applied::No(NoReplies::Changed)), leaves_traces })
                }
            };
        }
        Ok(Committed::Yes)
    }

    /// Puts back what keys held before, the last one first.
    async fn put_back(&mut self, done: Vec<(KeyName, Standing)>, brought: &Brought) -> PutBack {
        let (tries, mut worst) = (Tries::begin(), PutBack::Done);
        for (name, after) in done.into_iter().rev() {
            let Some(before) = brought.get(&name) else { continue };
            let change = Change { name, mutations: vec![before.restoring()], takes_away: false };
            worst = worst.max(self.put_one_back(&change, after, &tries).await);
        }
        worst
    }

    /// Asks whoever coordinates the key by now, again while nobody does.
    async fn put_one_back(&mut self, change: &Change, after: Standing, tries: &Tries) -> PutBack {
        while tries.may_go_on() {
            let view = self.worker.shared.view.load_full();
            let parts =
                changes_by_coordinator(&view, std::slice::from_ref(change), |_| Some(&after)).unwrap_or_default();
            if let Some(part) = parts.first() {
                match self.apply(&view, &APPLY, part).await {
                    Applied::Yes(_) => return PutBack::Done,
                    Applied::No(NoReplies::Changed) => return PutBack::Theirs,
                    Applied::No(NoReplies::Unknown) => return PutBack::Unknown,
                    Applied::No(NoReplies::NotRun) | Applied::NoRoom => {}
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        PutBack::Unknown
    }

    /// Makes a part of the changes by RONDO.APPLY or RONDO.GROW.
    async fn apply(&mut self, view: &Arc<View>, by: &Command, part: &ChangesAt) -> Applied {
        let watched = |(change, standing): &(Change, Standing)| Watched {
            db: change.name.0,
            key: change.name.1.clone(),
            seen: standing.version.clone(),
            was_live: standing.is_live,
            since: EXACTLY,
            missing: None,
            at: None,
        };
        let watched: Vec<Watched> = part.changes.iter().map(watched).collect();
        let requests: Vec<u8> = part.changes.iter().flat_map(|(change, _)| change.request(by)).collect();
        let before = self.enter(part.db);
        let attempt = self.if_unchanged(view, part.at, &watched, &requests_of(&requests)).await;
        self.leave(before);
        let values = match attempt {
            Ok(replies) => values_of(&replies).unwrap_or_default(),
            Err(why) => return Applied::No(why),
        };
        let is_full = |text: &[u8]| RequestError::of(text) == Some(RequestError::OutOfMemory);
        let has_no_room = |value: &Value| matches!(value, Value::Error(text) if is_full(text));
        // Looked at before any of them is run: all are refused, or none.
        if !values.is_empty() && values.iter().all(has_no_room) {
            return Applied::NoRoom;
        }
        let after: Option<Vec<Standing>> = values.iter().map(|value| self.said(value, Standing::read)).collect();
        let after = after.filter(|after| after.len() == part.changes.len());
        after.map_or(Applied::No(NoReplies::Unknown), Applied::Yes)
    }

    /// What another node says in a bulk reply, as `read` understands it.
    fn said<T>(&self, reply: &Value, read: impl Fn(&[u8], &ActorTable) -> Result<T, WireError>) -> Option<T> {
        let Value::Bulk(bytes) = reply else { return None };
        read(bytes, &self.worker.shared.node.store.actors).ok()
    }

    /// Speaks for the client in database `db` and in RESP2 until [`Job::leave`].
    fn enter(&mut self, db: u8) -> (u8, Proto) {
        let session = &mut self.talk.session;
        (std::mem::replace(&mut session.db, db), std::mem::replace(&mut session.proto, Proto::Resp2))
    }

    fn leave(&mut self, before: (u8, Proto)) {
        (self.talk.session.db, self.talk.session.proto) = before;
    }
}

/// What came of all changes.
enum Committed {
    /// They are made.
    Yes,
    /// None is.
    No {
        /// A coordinator has found that a key is no longer what was brought. Else nobody was found who is one, and
        /// ready to be.
        has_run: bool,
        /// A key was changed, and by somebody else after that, who may have built on it.
        leaves_traces: bool,
    },
}

/// What came of putting something back, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PutBack {
    /// It is as it was.
    Done,
    /// Somebody else has changed it again, and it stays theirs.
    Theirs,
    /// Nobody knows.
    Unknown,
}

/// What came of the changes for one coordinator.
enum Applied {
    /// They are made; what their keys are now.
    Yes(Vec<Standing>),
    /// None is made, because memory is full there.
    NoRoom,
    /// They have no replies. What they watch is what was brought.
    No(NoReplies),
}

/// The changes by coordinator, those that only take away behind all others; `None` when a key has no coordinator.
fn changes_by_coordinator<'s>(
    view: &View,
    changes: &[Change],
    standing_of: impl Fn(&KeyName) -> Option<&'s Standing>,
) -> Option<Vec<ChangesAt>> {
    let mut parts: Vec<ChangesAt> = Vec::new();
    let (taking, adding): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(|change| change.takes_away);
    for change in adding.into_iter().chain(taking) {
        let (db, key) = &change.name;
        let (db, takes_away) = (*db, change.takes_away);
        let at = view.roles.of(slot_of(key))?.coordinator?;
        let one = (change.clone(), standing_of(&change.name)?.clone());
        match parts.iter_mut().find(|part| part.at == at && part.db == db && part.takes_away == takes_away) {
            Some(part) => part.changes.push(one),
            None => parts.push(ChangesAt { at, db, takes_away, changes: vec![one] }),
        }
    }
    Some(parts)
}
