//! Answers to other nodes' control connections.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::base::clock::wall_us;
use crate::base::ids::{NodeId, Slot};
use crate::base::net::TcpStream;
use crate::cluster::Cluster;
use crate::cluster::difference::{Room, compare};
use crate::cluster::pacer::Pacer;
use crate::cluster::reconcile::SLOTS_PER_QUESTION;
use crate::cluster::transfer::PIECE_BYTES;
use crate::peer::compare::{Compare, CompareAnswer};
use crate::peer::control::{ControlError, Request, Response, read_request, write_response};
use crate::peer::entries::Entries;
use crate::peer::handshake::Hello;
use crate::peer::refusal::Refusal;
use crate::ring::Rows;
use crate::store::fingerprint::fingerprint;

/// A connection on which nothing was asked for so long is closed; whoever needs it dials again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

impl Cluster {
    /// Answers one node's control connection, behind the handshake, until it ends.
    pub async fn serve_control(self: Arc<Self>, mut stream: TcpStream, hello: Hello) {
        if let Err(error) = self.serve(&mut stream, &hello).await {
            debug!(peer = %hello.node, %error, "control connection ended");
        }
    }

    async fn serve(&self, stream: &mut TcpStream, hello: &Hello) -> Result<(), ControlError> {
        stream.set_nodelay(true)?;
        let mut pace = Pacer::of_transfer();
        loop {
            let request = timeout(IDLE_TIMEOUT, read_request(stream)).await.unwrap_or(Err(ControlError::TimedOut))?;
            self.note_contact(hello.node);
            let began = Instant::now();
            let response = self.answer(request, &hello.node).await;
            let worked = began.elapsed();
            write_response(stream, &response).await?;
            if matches!(response, Response::Piece { .. }) {
                pace.rest_for(worked).await;
            }
        }
    }

    async fn answer(&self, request: Request, asker: &NodeId) -> Response {
        match request {
            Request::Digest(_) => {
                let topology = self.topology();
                Response::Digest(if topology.is_formed() { topology.digest } else { 0 })
            }
            Request::Rows(rows) => {
                self.merge_rows(&rows);
                let topology = self.topology();
                Response::Rows(if topology.is_formed() { topology.rows.clone() } else { Rows::new() })
            }
            Request::Adopt { node, generation, version } => {
                let row = self.topology().rows.get(&node).map(|row| (row.generation, row.version));
                let is_known = row.is_some_and(|known| known >= (generation, version));
                Response::YesNo(is_known && self.quiesce().await && self.has_remembered().await)
            }
            Request::GetSlots { .. } if !self.is_warm_for(asker) => Response::Refused(Refusal::Warming),
            Request::Compare(question) if question.is_about_keys() && !self.is_warm_for(asker) => {
                Response::Refused(Refusal::Warming)
            }
            Request::GetSlots { slots, cursor } => self.read_piece(&slots, cursor).await,
            Request::PutStates(entries) => match self.intake.take(entries).await {
                Ok(()) => Response::Stored,
                Err(refusal) => Response::Refused(refusal),
            },
            Request::Compare(question) => Response::Compared(self.answer_question(question, asker).await),
            Request::TakenOver { node, generation } => Response::YesNo(self.has_taken_over(&node, generation)),
            Request::Time => Response::Time(wall_us()),
            Request::Standing => self.standing(),
        }
    }

    /// Answers another node's question, which may be given what is here.
    async fn answer_question(&self, question: Compare, asker: &NodeId) -> CompareAnswer {
        match question {
            Compare::Slots { horizon_ms, digests } => {
                let measure = self.measure(horizon_ms);
                let mut differing = Vec::new();
                for turn in digests.chunks(SLOTS_PER_QUESTION) {
                    let differs = |(slot, digest): &&(Slot, u64)| self.store.slot_digest(*slot, measure) != *digest;
                    differing.extend(turn.iter().filter(differs).map(|(slot, _)| *slot));
                    yield_now().await;
                }
                CompareAnswer::Slots(differing)
            }
            Compare::Buckets { horizon_ms, slot, digests } => {
                let ours = self.store.bucket_digests(slot, self.measure(horizon_ms));
                let differs = |(at, (ours, theirs)): (usize, (&u64, &u64))| u64::from(ours != theirs) << at;
                CompareAnswer::Buckets(ours.iter().zip(digests.iter()).enumerate().map(differs).sum())
            }
            Compare::Keys { horizon_ms, slot, buckets, only_known, must_take, marks } => {
                let ours = self.store.slot_marks(slot, self.measure(horizon_ms), buckets);
                let room = Room { ours: must_take || !self.store.is_nearly_full(), theirs: !only_known };
                let difference = compare(&ours, &marks, room);
                let entries = self.pick(slot, &difference.send).await;
                CompareAnswer::Keys { entries, wanted: difference.wanted, is_buried: difference.is_buried }
            }
            Compare::Calm => CompareAnswer::Calm(self.is_calm(asker)),
            Compare::Absences => self.absences(),
        }
    }

    /// The keys of `slot` with these fingerprints, as many as one message takes.
    async fn pick(&self, slot: Slot, send: &HashSet<u64>) -> Entries {
        let (mut entries, mut cursor) = (Entries::default(), 0);
        while !send.is_empty() {
            cursor = self.read_batch(slot, cursor, &mut entries, |entry| {
                send.contains(&fingerprint(entry.db(), entry.key(), self.digest_seed))
            });
            if cursor == 0 || entries.len_bytes() >= PIECE_BYTES {
                break;
            }
            yield_now().await;
        }
        entries
    }
}
