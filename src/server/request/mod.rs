//! One request, from its row in the table to its reply, without waiting for anything.
//!
//! | file | what it does |
//! |---|---|
//! | `run` | what a request is run with |
//! | `failure`, `cluster_face` | errors as replies; what a smart client is told instead of one |
//! | `dispatch` | the whole way on one page: here, there, or later |
//! | `admission`, `room` | whether it may run at all; room when memory is full |
//! | `readiness` | whether its keys may be built on yet |
//! | `elsewhere` | what another node coordinates: asked there |
//! | `own_copy` | what another node coordinates: read from a copy on condition that it agrees |
//! | `group_writes` | pure: which writes of a transaction tell of what it reads behind them |
//! | `confirm` | deltas and verifies: what it needs of replicas |
//! | `on_node`, `multi`, `listening` | what is about no key: the node, MULTI and WATCH, subscriptions |
//! | `events`, `timing` | what is told of it: keyspace events, and how long it took |

pub mod run;
pub mod failure;
pub mod cluster_face;
pub mod group_writes;
pub mod confirm;
pub mod events;
pub mod listening;
pub mod own_copy;
pub mod elsewhere;
pub mod readiness;
pub mod room;
pub mod admission;
pub mod multi;
pub mod on_node;
pub mod timing;
pub mod dispatch;
