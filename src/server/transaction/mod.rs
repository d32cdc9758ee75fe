//! What of a transaction runs as one: which requests that are ([`groups`]), and running them under all their locks
//! ([`together`]). Who is to run each group is asked by `job::exec`.

pub mod groups;
pub mod together;
