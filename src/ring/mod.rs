//! Ownership, as a pure function: which nodes hold which hash slot.
//!
//! - [`Ring`]: a set of [`Member`]s and a replica count in, a preference list for each of the 16,384 slots out.
//! - [`Rows`]: the replicated map {node id -> [`Row`]} that rings are computed from. A node writes only its own row;
//!   two copies of the map merge into the same one whatever arrives first.
//! - [`steps`]: which rings are possible while nodes come and go, and when one may take its next step.
//!
//! Invariants: equal member sets give equal rings on every machine, in every order, in every build (`vectors.txt`
//! holds published ones); merging rows is commutative, associative and idempotent.
//!
//! Knows no socket, no clock, no randomness and not who is alive: a dead node keeps its slots until its row says that
//! it has gone.

mod member;
mod placement;
mod rates;
mod rows;
mod share;
pub mod steps;
mod walk;

#[cfg(test)]
mod tests;

pub use member::{Member, WEIGHT_MAX, WEIGHT_MIN};
pub use placement::{ALGORITHM_VERSION, MEMBERS_MAX, REPLICAS_MAX, Ring};
pub use rows::{ROWS_BYTES_MAX, ROWS_MAX, Row, RowState, Rows, RowsError};
