//! What each Redis command means, as functions on locked slots. Commands never await.
//!
//! | file | what it is |
//! |---|---|
//! | `spec`, `table` | the shape of a command's row; all rows, and their lookup |
//! | `node_command` | commands that work on no keys of their own |
//! | `error` | why a command was refused, in Redis's words |
//! | `generic`, `expiry` | keys of any type, and OBJECT; deadlines of keys |
//! | `string`, `substring` | strings as a whole; parts of strings |
//! | `counter`, `long_double` | INCR and its family; the 80-bit floats that some add with |
//! | `bitmap`, `bits`, `bitfield` | SETBIT and its like; the bits themselves; BITFIELD |
//! | `lcs` | the longest common subsequence of two strings |
//! | `hash`, `hash_number` | fields with values under one key; numbers in fields |
//! | `set`, `set_algebra` | members without order; intersection, union and difference |
//! | `random`, `scan` | random elements of collections; walking a collection in steps |
//! | `memory` | MEMORY USAGE: what a key takes |
//! | `introspection` | COMMAND: what the table says, for programs |
//! | `node_rows`, `subcommands` | rows of commands that the server runs; rows of subcommands |
//! | `absent` | the commands of Redis 7.0 that rondo does not have |
//! | `repeat` | what may be asked again when its outcome is unknown |
//! | `exchange`, `scratch` | for keys of several coordinators: RONDO.FETCH, APPLY, GROW; a keyspace apart |
//! | `oracle`, `testing` | for tests: a real redis-server; a node without a network |
//!
//! A command is one block in the file of its kind: its row ([`Command`]: name, arity, flags, where its keys are, and
//! what COMMAND DOCS says of it), then the function that runs it. [`table::COMMANDS`] lists the rows; lookup, arity
//! check, routing, COMMAND, ACL categories, metrics and the documents all read that one table. To add a command,
//! write the block and add its row to the table.
//!
//! A function gets a [`Cx`]: the arguments, the locked [`Keyspace`](crate::store::Keyspace) that holds every key the
//! row names, and the reply to write. It answers by writing one reply and returning `Ok`, or by returning a
//! [`CommandError`]: then no key was changed (but for `ReplyTooLarge`, when it has run), and what it has written of its
//! reply is thrown away. All its changes go through the `Keyspace`, so it needs to know nothing of
//! replicas.
//!
//! Commands that need the server rather than keys (CLIENT, CONFIG, INFO, ...) are rows here too, so that the table is
//! complete, with a [`NodeCommand`] in place of a function; the server runs them.

pub mod absent;
mod bits;
pub mod error;
pub mod long_double;
pub mod node_command;
pub mod spec;
pub mod counter;
pub mod exchange;
pub mod expiry;
pub mod generic;
pub mod hash;
pub mod hash_number;
pub mod lcs;
mod memory;
mod node_rows;
pub mod repeat;
pub mod scratch;
pub mod set;
pub mod random;
pub mod scan;
pub mod set_algebra;
pub mod string;
pub mod subcommands;
pub mod substring;
pub mod bitmap;
pub mod bitfield;
pub mod table;
pub mod introspection;
#[cfg(test)]
mod differential_string_tests;
#[cfg(test)]
mod differential_tests;
#[cfg(test)]
pub mod oracle;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod repeat_tests;
#[cfg(test)]
pub mod testing;

pub use error::CommandError;
pub use spec::{Command, Cx, Gather, Group, Handler, Keys, NodeCommand};
