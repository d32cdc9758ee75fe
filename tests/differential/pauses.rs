//! Nodes that stand still one after the other while commands are compared: a stopped process goes on where it was, and
//! must not show, or build on, what has been overtaken meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::StopOnDrop;
use crate::support::cluster::Cluster;
use crate::support::random::Random;

/// Longer than an outcome that a client was not told can take to show.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Stops one node at a time.
pub struct Pauses<'c> {
    cluster: &'c Cluster,
    /// Held while a node is stopped.
    stopped: Mutex<()>,
    is_over: AtomicBool,
}

impl<'c> Pauses<'c> {
    /// Runs `body` while nodes of `cluster` are stopped for a tenth of a second to a second each.
    pub fn during(cluster: &'c Cluster, seed: u64, body: impl FnOnce(&Pauses<'c>)) {
        let pauses = Pauses { cluster, stopped: Mutex::new(()), is_over: AtomicBool::new(false) };
        std::thread::scope(|scope| {
            scope.spawn(|| pauses.stop_one_after_the_other(&mut Random::new(seed)));
            let _stops = StopOnDrop(&pauses.is_over);
            body(&pauses);
        });
    }

    fn stop_one_after_the_other(&self, random: &mut Random) {
        while !self.is_over.load(Ordering::Relaxed) {
            let guard = self.stopped.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let process = self.cluster.nodes[random.below(self.cluster.nodes.len())].process();
            process.pause();
            std::thread::sleep(Duration::from_millis(100 + random.below(900) as u64));
            process.resume();
            drop(guard);
            std::thread::sleep(Duration::from_millis(300 + random.below(1_000) as u64));
        }
    }

    /// Does something while no node is stopped, when everything under way has come to its end.
    pub fn rest<T>(&self, act: impl FnOnce() -> T) -> T {
        let _guard = self.stopped.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.cluster.must_settle();
        std::thread::sleep(AFTERMATH);
        self.cluster.must_settle();
        act()
    }
}

/// What a client may read while a node stands still, instead of what redis-server says: that nobody can tell, or, from
/// a command about the whole keyspace, which no quorum confirms, what the nodes that answer hold.
pub fn is_excused(args: &[Vec<u8>], ours: &str) -> bool {
    let errors = ["-TIMEOUT", "-CLUSTERDOWN", "-TRYAGAIN"];
    let name = args.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
    errors.iter().any(|error| ours.contains(error))
        || matches!(name.as_slice(), b"KEYS" | b"SCAN" | b"DBSIZE" | b"RANDOMKEY")
}
