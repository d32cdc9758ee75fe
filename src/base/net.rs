//! The network as the rest of this program sees it: tokio's sockets, and nothing else.
//!
//! In unit tests the same names stand for sockets that are either tokio's or those of a network that only exists in
//! memory (`simulated`), so that `node::simulation` can run whole clusters in one thread. Whatever two nodes say to
//! each other, or a client to a node, goes through these types; the admin's HTTP, tools and load generators are not
//! simulated and use tokio's own.

#[cfg(not(test))]
mod real;
#[cfg(test)]
pub mod simulated;
#[cfg(test)]
mod either;

#[cfg(test)]
pub use either::*;
#[cfg(not(test))]
pub use real::*;
