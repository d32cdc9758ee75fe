//! Asks at the addresses where another process may run under this node's id, if that is what has written its row.
//!
//! What is to be done about one that answers there is decided by `ending`.

use std::net::SocketAddr;

use tracing::error;

use crate::cluster::Cluster;
use crate::ring::{Row, Rows};

impl Cluster {
    /// Asks at the address where `rows` have this node, if that is not its own, whether somebody lives there under its
    /// id.
    pub(super) async fn look_where_known(&self, rows: &Rows) {
        let is_elsewhere = |row: &&Row| row.state.is_member() && row.peer_addr != self.identity.peer_addr;
        if let Some(row) = rows.get(&self.identity.id).filter(is_elsewhere) {
            self.ask_for_twin(row.peer_addr).await;
        }
    }

    /// Looks, for ever, at each address from which this node's row was taken while it ran.
    pub(super) async fn watch_for_twins(&self) {
        let mut taken = self.oneness.row_taken_from.subscribe();
        while taken.changed().await.is_ok() {
            let from = *taken.borrow_and_update();
            if let Some(addr) = from {
                error!(%addr, "this node's row was written by another process: do two nodes share a node-name?");
                self.ask_for_twin(addr).await;
            }
        }
    }

    async fn ask_for_twin(&self, addr: SocketAddr) {
        if let Err(error) = self.exchange_rows(&self.links.to_addr(addr), &Rows::new()).await {
            self.look_for_twin(addr, &error);
        }
    }
}
