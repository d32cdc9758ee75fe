//! Every option of a node, from one table.
//!
//! | file | what it is |
//! |---|---|
//! | `table`, `page` | one row per option; the table as a page for people |
//! | `kind`, `types`, `units` | kinds of value; values beyond numbers and texts; numbers with units |
//! | `error`, `suggest` | why a value is not taken; the known name nearest to a mistyped one |
//! | `entry` | an option's value in force, and who set it |
//! | `file` | the language of redis.conf |
//! | `layers` | default, file, environment and flags, laid over each other |
//! | `settings` | the options as plain typed fields, checked against each other |
//! | `live` | the options of a running node: CONFIG GET, SET and REWRITE |
//! | `compat` | what redis.conf knows and rondo has not |
//!
//! [`OPTIONS`] is the only place that names an option. A row gives its name (the one redis.conf uses where Redis has
//! it), its section, the kind of its value, its default, whether CONFIG SET may change it, and a line of help. From the
//! rows come: the flags (`--maxmemory 1gb`), the lines of a redis.conf-style file, the environment (`RONDO_MAXMEMORY`),
//! CONFIG GET, SET and REWRITE, `rondo server --help`, and the page `OPTIONS.md` below.
//!
//! Two steps. [`load`] lays the sources over each other (flag over environment over file over default), keeps for every
//! value where it came from, and collects *all* mistakes before it gives up. [`Settings::new`] then makes plain typed
//! fields of the values and checks what no single option can know (two ports the same, a quorum above the replicas).
//! [`Config`] holds the result while the node runs: a reader takes the current [`Settings`] for the price of one atomic
//! load, and CONFIG SET builds and checks a whole new one before it swaps it in, so that no reader ever sees half a
//! change.
//!
//! Adding an option: one row in `table.rs`, one field and one line in `settings.rs`; a test fails if either is missing.
//!
//! What Redis has and rondo has not comes in two shapes (`compat.rs`): options whose answer is fixed and true of us
//! (`appendonly no`), and directives that a redis.conf may contain and that are skipped with one warning.
//!
//! Deliberately not here: binding, logging, or acting on a change. Whoever must act registers with
//! [`Config::on_change`].
//!
#![doc = include_str!("OPTIONS.md")]

mod compat;
mod error;
mod file;
mod suggest;
mod units;
mod types;
mod kind;
mod entry;
mod table;
mod page;
mod settings;
mod layers;
mod live;

pub use compat::{FIXED, Fixed, REFUSED, SKIPPED};
pub use entry::{Entry, Origin};
pub use error::ValueError;
pub use file::{SyntaxError, split_words};
pub use kind::{Kind, NAME_BYTES_MAX, Value, is_name};
pub use layers::{Loaded, Problem, Problems, Sources, env_name, load};
pub use live::{Change, Config, RewriteError, SetError, SetRefusal, SettingsReader};
pub use page::markdown;
pub use settings::{Ports, RuleError, Settings, workers_for};
pub use suggest::nearest;
pub use table::{ALIASES, OPTIONS, Opt, Section};
pub use types::{
    Bind, BufferLimit, BufferLimits, EventClasses, LogFormat, LogLevel, MaxmemoryPolicy, PeerAddr, QuorumMode,
};

#[cfg(test)]
mod tests;
