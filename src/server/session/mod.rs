//! What a connection has agreed on with its client: what its requests are run under, and what one may leave to the
//! next.
//!
//! | file | what it is |
//! |---|---|
//! | `settings` | what a batch is run under: quorums and limits |
//! | `transaction` | what a connection has queued since MULTI, and what it watches |
//! | `watched` | watched keys, each with the version that WATCH saw |
//!
//! Plain values. A connection keeps them; a request that runs alone takes them along and gives them back.

pub mod settings;
pub mod watched;
pub mod transaction;

use crate::commands::CommandError;
use crate::commands::spec::{Command, flag};
use crate::protocol::Proto;
use crate::server::session::settings::Consistency;
use crate::server::session::transaction::Transaction;

/// The state of a connection that its requests see.
#[derive(Clone)]
pub struct Talk {
    /// What was agreed on.
    pub session: Session,
    /// MULTI and WATCH.
    pub transaction: Transaction,
    /// RONDO.CONSISTENCY.
    pub consistency: Consistency,
}

/// The protocol, the database and the rest that is not about a transaction. Starts out authenticated when there is no
/// password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The selected database.
    pub db: u8,
    /// The version of RESP.
    pub proto: Proto,
    /// A password was given, or none is needed.
    pub authenticated: bool,
    /// The connection closes once its replies are sent.
    pub closing: bool,
    /// The connection came in by the cluster face.
    pub cluster_face: bool,
}

impl Session {
    /// The start of a connection to this face; `password` is the one in force, or empty.
    pub fn new(cluster_face: bool, password: &str) -> Session {
        Session { db: 0, proto: Proto::Resp2, authenticated: password.is_empty(), closing: false, cluster_face }
    }

    /// Whether a command may run before the client has authenticated; the error is the answer if not.
    #[inline]
    pub fn admits(&self, row: &Command) -> Result<(), CommandError> {
        if self.authenticated || row.has(flag::NO_AUTH) {
            return Ok(());
        }
        Err(CommandError::text("NOAUTH Authentication required."))
    }
}
