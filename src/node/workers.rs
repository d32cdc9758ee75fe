//! The workers' threads and how work reaches them.
//!
//! Each thread runs one current-thread runtime and takes what it is dealt: connections whose handshake, if they have
//! one, is done, and the lanes it owns. A task that panics ends one connection and nothing else.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::base::net::{DetachedTcpStream, TcpStream};
use crate::node::memory::{hand_on, trim};
use crate::node::work::{Load, Work};
use crate::peer::handshake::Hello;
use crate::peer::link;
use crate::replication::replica::{Host, Replica};
use crate::server::connection::Connection;
use crate::server::connection::forwarded::Forwarded;
use crate::server::session::Session;
use crate::server::state::client::state;
use crate::server::state::clients::Registration;
use crate::server::worker::{Shared, Worker};
use crate::store::entry::set_maker;

/// The way to all workers.
#[derive(Default)]
pub struct Workers {
    senders: Vec<(UnboundedSender<Work>, Arc<AtomicUsize>)>,
}

impl Workers {
    /// The way to a worker that [`run`] is to be; returns its end of it.
    pub fn add(&mut self) -> UnboundedReceiver<Work> {
        let (sender, receiver) = unbounded_channel();
        self.senders.push((sender, Arc::default()));
        receiver
    }

    /// Gives work to one worker.
    pub fn give(&self, worker: usize, work: Work) {
        if let Some((sender, _)) = self.senders.get(worker % self.senders.len().max(1)) {
            // A worker that is gone has taken the process with it or is about to.
            _ = sender.send(work);
        }
    }

    /// Which worker is to be given the next connection, a client's or another node's for its clients: the one with the
    /// fewest. It counts until what is returned is dropped; the worker itself may be busy for a while, and whoever
    /// comes meanwhile is to go elsewhere.
    pub fn deal(&self) -> (usize, Load) {
        let fewest = self.senders.iter().enumerate().min_by_key(|(_, (_, load))| load.load(Ordering::Relaxed));
        let (worker, count) = fewest.map(|(at, (_, load))| (at, load.clone())).unwrap_or_default();
        (worker, Load::on(&count))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.senders.len()
    }
}

/// Starts the threads.
pub fn start(count: usize, shared: &Arc<Shared>) -> std::io::Result<Workers> {
    let mut workers = Workers::default();
    for index in 0..count {
        let (shared, receiver) = (shared.clone(), workers.add());
        let (report, built) = sync_channel(1);
        std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            // A runtime of tasks that never leave their thread, which is where it has to be made.
            let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(error))),
            };
            drop(report.send(Ok(())));
            runtime.block_on(run(index, shared, receiver));
        })?;
        built.recv().map_err(std::io::Error::other)??;
    }
    Ok(workers)
}

/// Is a worker, on the current thread, where local tasks can be spawned.
pub async fn run(index: usize, shared: Arc<Shared>, receiver: UnboundedReceiver<Work>) {
    set_maker(maker_of(index));
    let worker = Rc::new(Worker::new(index, shared.clone()));
    tokio::task::spawn_local(async move { shared.pulse.beat(index).await });
    serve(worker, receiver).await;
}

/// The number that entries bear which a worker has made; 0 for those of workers beyond what a byte holds.
pub fn maker_of(worker: usize) -> u8 {
    u8::try_from(worker + 1).unwrap_or_default()
}

async fn serve(worker: Rc<Worker>, mut receiver: UnboundedReceiver<Work>) {
    while let Some(work) = receiver.recv().await {
        match work {
            Work::Client { stream, registration, cluster_face, load } => {
                serve_client(&worker, stream, (registration, load), cluster_face);
            }
            Work::Replica { stream, hello, host } => serve_replica(&worker, stream, hello, host),
            Work::Forward { stream, hello, registration, load } => {
                serve_forward(&worker, stream, hello, (registration, load));
            }
            Work::Lane { peer, index } => {
                let shared = &worker.shared;
                let (hello, secret) = (shared.hello.clone(), shared.secret.clone());
                tokio::task::spawn_local(link::keep(peer, index, hello, secret, shared.coordinator.clone()));
            }
            Work::View(handout) => {
                if handout.passing.pass() {
                    worker.shared.coordinator.leave(&handout.left);
                }
                worker.open_links(&worker.shared.view.load());
            }
            Work::Free(entries) => {
                drop(entries);
                // However many there are, clients come between them.
                tokio::task::yield_now().await;
            }
            Work::Trim => trim(),
            Work::HandOn => hand_on(),
        }
    }
}

fn serve_client(worker: &Rc<Worker>, stream: DetachedTcpStream, counted: (Registration, Load), cluster_face: bool) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let client = counted.0.client.clone();
    client.set_state(state::CLUSTER_FACE, cluster_face);
    let session = Session::new(cluster_face, &worker.shared.node.config.settings().requirepass);
    let connection = Connection::new(worker.clone(), client, stream, session);
    tokio::task::spawn_local(async move {
        let _counted = counted;
        connection.serve().await;
    });
}

fn serve_replica(worker: &Rc<Worker>, stream: DetachedTcpStream, hello: Hello, host: Arc<dyn Host>) {
    let (store, metrics) = (worker.shared.node.store.clone(), worker.shared.node.metrics.clone());
    let ballots = worker.shared.coordinator.ballots.clone();
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let Ok(replica) = Replica::new(store, metrics, ballots, &hello, host) else {
        tracing::error!(node = %hello.node, "a peer's lane is not served: too many lives of nodes were met");
        return;
    };
    tokio::task::spawn_local(async move {
        let reason = replica.serve(stream).await;
        tracing::debug!(node = %hello.node, %reason, "a peer's lane ended");
    });
}

fn serve_forward(worker: &Rc<Worker>, stream: DetachedTcpStream, hello: Hello, counted: (Registration, Load)) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let Ok(forwarded) = Forwarded::new(worker.clone(), counted.0.client.clone(), stream, &hello) else { return };
    tokio::task::spawn_local(async move {
        let _counted = counted;
        let reason = forwarded.serve().await;
        tracing::debug!(%reason, "a peer's forward link ended");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_burst_go_round_while_nobody_takes_them() {
        let mut workers = Workers::default();
        let _receivers = [workers.add(), workers.add()];
        let mut dealt = Vec::new();
        for _ in 0..4 {
            dealt.push(workers.deal());
        }
        assert_eq!(dealt.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [0, 1, 0, 1]);
        dealt.retain(|(worker, _)| *worker == 0);
        assert_eq!(workers.deal().0, 1);
    }
}
