//! RONDO.META: what the cluster knows of a key, for whoever asks why a read answers as it does.
//!
//! Every home replica, and the coordinator should it be a stand-in, is asked what it holds; each is compared with the
//! coordinator's copy, or with the first that answers when the coordinator does not. The answer is a picture of one
//! moment: a write on its way shows as a replica that is older.
//!
//! Repairs nothing and confirms nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::clock::wall_us;
use crate::base::ids::{NodeId, Slot, slot_of};
use crate::base::version::{ActorTable, Dot, Relation};
use crate::base::wire::Reader;
use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::peer::registry::Peer;
use crate::protocol::{Args, Reply};
use crate::server::error::RequestError;
use crate::server::forward::call::Outcome;
use crate::server::forward::wire::QuestionKind;
use crate::server::job::Job;
use crate::server::share::copies::KeyCopy;

/// An owner of the key and what it said.
struct Owner {
    id: NodeId,
    addr: String,
    hints: u64,
    copy: Option<KeyCopy>,
}

impl Job {
    /// RONDO.META key; HELP where no key is called so.
    pub(super) async fn meta(
        &mut self,
        row: &Command,
        args: Args<'_>,
        request: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let key = args.get(1).ok_or(CommandError::Syntax)?;
        let slot = slot_of(key);
        let owners = self.owners(slot, key, request).await;
        let reference = owners.iter().find_map(|owner| owner.copy.clone());
        let reference = reference.ok_or(RequestError::NoReplica.refusal())?;
        let actors = &self.worker.shared.node.store.actors;
        let mut reply = Reply::new(out, self.talk.session.proto);
        if subcommands::asks_for_help(args) && !reference.is_live {
            subcommands::help_alone(&mut reply, row);
            return Ok(());
        }
        reply.map(11);
        reply.bulk(b"key");
        reply.bulk(key);
        reply.bulk(b"slot");
        reply.int(i64::from(slot.number()));
        put_key(&mut reply, &reference, actors);
        let agreed = owners
            .iter()
            .all(|owner| owner.copy.as_ref().is_some_and(|it| it.agreement(&reference) == Some(Relation::Equal)));
        reply.bulk(b"agreed");
        reply.bulk(if agreed { b"yes" } else { b"no" });
        reply.bulk(b"owners");
        reply.array(owners.len());
        for (at, owner) in owners.iter().enumerate() {
            put_owner(&mut reply, owner, at == 0, &reference, actors);
        }
        Ok(())
    }

    /// The coordinator, then the slot's other owners, with what each says that it holds.
    async fn owners(&self, slot: Slot, key: &[u8], request: &[u8]) -> Vec<Owner> {
        let worker = self.worker.clone();
        let snapshot = worker.shared.node.snapshot.load_full();
        let view = worker.shared.view.load_full();
        let peer_of = |id: &NodeId| view.peers.iter().flatten().find(|peer| peer.id == *id).cloned();
        let run = snapshot.map.runs.iter().find(|run| run.first <= slot && slot <= run.last);
        let ids: Vec<NodeId> = run.map_or_else(|| vec![snapshot.this], |run| run.nodes.clone());
        let asked: Vec<_> = ids
            .into_iter()
            .map(|id| {
                let peer: Option<Arc<Peer>> = peer_of(&id);
                let manner = self.manner(QuestionKind::OwnCopies);
                let call = peer.as_ref().map(|peer| worker.ask(peer, manner, request));
                (id, peer, call)
            })
            .collect();
        let mut owners = Vec::new();
        for (id, peer, call) in asked {
            let copy = match call {
                None if id == snapshot.this => {
                    Some(KeyCopy::of(&worker.shared.node.store, self.talk.session.db, key, wall_us() / 1_000))
                }
                None => None,
                Some(call) => match call.answer().await {
                    Outcome::Replied(bytes) => {
                        KeyCopy::read(&mut Reader::new(&bytes), &worker.shared.node.store.actors).ok()
                    }
                    _ => None,
                },
            };
            let addr = snapshot.rows.get(&id).map_or(String::new(), |row| format!("{}:{}", row.host, row.port));
            let hints = peer.as_ref().map(|peer| &peer.hints).filter(|hints| !hints.is_empty());
            let hints = hints.map_or(0, |hints| hints.writes.load(Ordering::Relaxed));
            owners.push(Owner { id, addr, hints, copy });
        }
        owners
    }
}

/// Seven fields about the key itself.
fn put_key(reply: &mut Reply<'_>, copy: &KeyCopy, actors: &ActorTable) {
    reply.bulk(b"type");
    reply.bulk(if copy.is_live { copy.type_name.as_bytes() } else { b"none" });
    reply.bulk(b"version");
    put_version(reply, copy, actors);
    reply.bulk(b"context");
    let context = copy.version.iter().flat_map(|version| &version.context);
    reply.array(context.clone().count());
    context.for_each(|dot| reply.bulk(dot_text(*dot, actors).as_bytes()));
    let number_or_null = |reply: &mut Reply<'_>, name: &str, number: Option<u64>| {
        reply.bulk(name.as_bytes());
        match number {
            Some(number) => reply.int(number as i64),
            None => reply.null(),
        }
    };
    number_or_null(reply, "created-s", Some(copy.created_s).filter(|_| copy.is_live));
    number_or_null(reply, "modified-ms", copy.version.as_ref().map(|version| version.dot.hlc.ms()));
    number_or_null(reply, "expires-at-ms", Some(copy.deadline_ms).filter(|at| copy.is_live && *at != 0));
    number_or_null(reply, "size-bytes", Some(copy.bytes).filter(|_| copy.is_live));
}

fn put_owner(reply: &mut Reply<'_>, owner: &Owner, is_first: bool, reference: &KeyCopy, actors: &ActorTable) {
    reply.map(6);
    reply.bulk(b"node");
    reply.bulk(owner.id.to_string().as_bytes());
    reply.bulk(b"address");
    reply.bulk(owner.addr.as_bytes());
    reply.bulk(b"role");
    reply.bulk(if is_first { b"coordinator" } else { b"replica" });
    reply.bulk(b"agreement");
    reply.bulk(owner.copy.as_ref().map_or("unreachable", |copy| agreement_text(copy, reference)).as_bytes());
    reply.bulk(b"version");
    put_version(reply, owner.copy.as_ref().unwrap_or(&KeyCopy::default()), actors);
    reply.bulk(b"hinted-writes");
    reply.int(owner.hints as i64);
}

fn put_version(reply: &mut Reply<'_>, copy: &KeyCopy, actors: &ActorTable) {
    match &copy.version {
        Some(version) => reply.bulk(dot_text(version.dot, actors).as_bytes()),
        None => reply.null(),
    }
}

fn agreement_text(copy: &KeyCopy, reference: &KeyCopy) -> &'static str {
    match copy.agreement(reference) {
        None => "missing",
        Some(Relation::Equal) => "same",
        Some(Relation::Older) => "older",
        Some(Relation::Newer) => "newer",
        Some(Relation::Concurrent) => "concurrent",
    }
}

/// A write as text: the node's number, its generation, and the hybrid stamp as milliseconds and logical part.
fn dot_text(dot: Dot, actors: &ActorTable) -> String {
    let id = actors.id(dot.actor);
    format!("{:016x}/{}/{}.{}", id.node, id.generation, dot.hlc.ms(), dot.hlc.0 & 0xffff)
}
