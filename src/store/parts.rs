//! The words for what an entry is made from, and for what it shows.
//!
//! Plain values: `entry` lays them out in memory.

use crate::base::version::Dot;
use crate::store::value::Value;

/// The string was changed in place by APPEND, SETRANGE or SETBIT: OBJECT ENCODING says `raw`, as Redis does.
pub const FLAG_RAW: u8 = 1;

/// The string is never shown as `int`, whatever it spells: INCRBYFLOAT wrote it.
pub const FLAG_TEXT: u8 = 2;

/// The tombstone is what expiry has left: nobody wrote it, and others may hold a live key at the same version.
pub const FLAG_EXPIRED: u8 = 4;

/// What an entry is made from.
pub enum Payload<'a> {
    /// A string's bytes.
    String(&'a [u8]),
    /// A deleted key: the version is all that is left.
    Tombstone,
    /// Any other type.
    Value(Box<Value>),
}

/// What an entry holds.
#[derive(Debug)]
pub enum Data<'a> {
    /// A string's bytes.
    String(&'a [u8]),
    /// Deleted, and remembered so that an older copy does not come back.
    Tombstone,
    /// Any other type.
    Value(&'a Value),
}

/// What an entry carries beside key and value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta {
    /// When the key expires, in milliseconds since 1970; 0 for never.
    pub deadline_ms: u64,
    /// When the key was created, in seconds since 1970.
    pub created_s: u32,
    /// The access word of the eviction policy (see `eviction`).
    pub access: u32,
    /// `FLAG_*`.
    pub flags: u8,
    /// The write that the rest is of (see [`rest_unnamed`]); `None` for what an entry need not name.
    pub rest: Option<Dot>,
}

/// The write that an entry's *rest* is of, where the entry names none for it.
///
/// The rest is what the last write may have left as it was, and what is therefore merged by a dot of its own: of a
/// register (a string or a tombstone) what it holds, as long as only the deadline is moved; of any other type, whose
/// elements have their own dots, the deadline. That of a key which never had one is nobody's.
#[inline]
pub fn rest_unnamed(is_register: bool, deadline_ms: u64, last: Dot) -> Dot {
    if is_register || deadline_ms != 0 { last } else { Dot::default() }
}

/// The earlier of two times, of which 0 is none.
pub(super) fn earlier(a: u64, b: u64) -> u64 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}
