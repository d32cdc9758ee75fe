//! Ownership, as a pure function: which nodes hold which hash slot.
//!
//! | file | what it is |
//! |---|---|
//! | `member` | what placement needs to know of a node |
//! | `walk` | the circle: how far each slot is from each member |
//! | `share` | how many slot copies and first places each member is due |
//! | `rates` | brings every member's load into bounds by nudging its rate |
//! | `placement` | the ring: each slot's preference list, computed from the members alone |
//! | `rows` | the replicated map that rings are computed from |
//! | `steps` | which rings others may go by meanwhile; when a node steps on |
//!
//! - [`Ring`]: a set of [`Member`]s and a replica count in, a preference list for each of the 16,384 slots out.
//! - [`Rows`]: the replicated map {node id -> [`Row`]} that rings are computed from. A node writes only its own row;
//!   two copies of the map merge into the same one whatever arrives first.
//!
//! Invariants: equal member sets give equal rings on every machine, in every order, in every build (`vectors.txt`
//! holds published ones); merging rows is commutative, associative and idempotent.
//!
//! Knows no socket, no clock, no randomness and not who is alive: a dead node keeps its slots until its row says that
//! it has gone.

mod member;
mod rates;
mod walk;
mod share;
mod placement;
mod rows;
pub mod steps;

#[cfg(test)]
mod tests;

pub use member::{Member, WEIGHT_MAX, WEIGHT_MIN};
pub use placement::{ALGORITHM_VERSION, MEMBERS_MAX, REPLICAS_MAX, Ring};
pub use rows::{ROWS_BYTES_MAX, ROWS_MAX, Row, RowState, Rows, RowsError};
