//! Answers to other nodes' control connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::base::clock::wall_us;
use crate::base::ids::NodeId;
use crate::base::net::TcpStream;
use crate::cluster::Cluster;
use crate::cluster::pacer::Pacer;
use crate::peer::control::{ControlError, Request, Response, read_request, write_response};
use crate::peer::handshake::Hello;
use crate::peer::refusal::Refusal;
use crate::ring::Rows;

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
                Response::Adopted(is_known && self.quiesce().await && self.has_remembered().await)
            }
            Request::GetSlots { .. } if !self.is_warm_for(asker) => Response::Refused(Refusal::Warming),
            Request::Compare(question) if question.is_about_keys() && !self.is_warm_for(asker) => {
                Response::Refused(Refusal::Warming)
            }
            Request::GetSlots { slots, cursor } => self.read_piece(&slots, cursor).await,
            Request::PutStates(entries) => match self.merge_entries(&entries).await {
                Ok(()) => Response::Stored,
                Err(refusal) => Response::Refused(refusal),
            },
            Request::Compare(question) => Response::Compared(self.answer_question(question, asker).await),
            Request::TakenOver { node, generation } => Response::Adopted(self.has_taken_over(&node, generation)),
            Request::Time => Response::Time(wall_us()),
            Request::Standing => self.standing(),
        }
    }
}
