//! Deadlines: how options and commands say when a key expires.
//!
//! A deadline is an absolute time in milliseconds since 1970; relative ones are made absolute once, at the
//! coordinator, by the time of the batch. One that has already passed deletes the key at once, as in Redis.

use crate::commands::CommandError;
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, flag};
use crate::protocol::parse_i64;
use crate::store::mutation::Mutation;

/// How a command gives a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Seconds from now.
    Ex,
    /// Milliseconds from now.
    Px,
    /// Seconds since 1970.
    ExAt,
    /// Milliseconds since 1970.
    PxAt,
}

impl Unit {
    /// The unit that an option's name, in any case, stands for.
    pub fn parse(word: &[u8]) -> Option<Unit> {
        let names: [(&[u8], Unit); 4] =
            [(b"EX", Unit::Ex), (b"PX", Unit::Px), (b"EXAT", Unit::ExAt), (b"PXAT", Unit::PxAt)];
        names.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
    }

    /// `amount` of this unit as a deadline; refused when not positive or beyond 64 bits, in the name of `command`.
    pub fn deadline_ms(self, amount: &[u8], now_ms: u64, command: &'static str) -> Result<u64, CommandError> {
        let amount = parse_i64(amount).ok_or(CommandError::NotInteger)?;
        let ms = self.absolute_ms(amount, now_ms).filter(|_| amount > 0);
        ms.map(|ms| ms.max(0) as u64).ok_or(CommandError::InvalidExpire(command))
    }

    /// `amount` of this unit, of any sign, as a time in milliseconds since 1970; `None` beyond 64 bits.
    pub fn absolute_ms(self, amount: i64, now_ms: u64) -> Option<i64> {
        let ms = match self {
            Unit::Ex | Unit::ExAt => amount.checked_mul(1_000)?,
            Unit::Px | Unit::PxAt => amount,
        };
        match self {
            Unit::Ex | Unit::Px => ms.checked_add(i64::try_from(now_ms).ok()?),
            Unit::ExAt | Unit::PxAt => Some(ms),
        }
    }
}

/// Gives an existing key a deadline; one that has passed deletes it.
pub fn expire_key(cx: &mut Cx<'_, '_>, key: &[u8], deadline_ms: u64) {
    if deadline_ms <= cx.keys.now_ms() {
        cx.keys.delete(key);
        cx.keys.notify(b'g', "del", key);
    } else {
        cx.keys.write(key, Mutation::Expire { deadline_ms });
        cx.keys.notify(b'g', "expire", key);
    }
}

/// Takes an existing key's deadline away if it has one.
pub fn persist_key(cx: &mut Cx<'_, '_>, key: &[u8]) {
    if cx.keys.peek(key).is_some_and(|entry| entry.deadline_ms() != 0) {
        cx.keys.write(key, Mutation::Expire { deadline_ms: 0 });
        cx.keys.notify(b'g', "persist", key);
    }
}

/// EXPIRE key seconds with a condition: 1 when the deadline was set, else 0.
pub static EXPIRE: Command = Command {
    name: "expire",
    summary: "Set a key's time to live in seconds",
    syntax: "key seconds [NX|XX|GT|LT]",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: -3,
    flags: flag::WRITE | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(expire),
};
fn expire(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    set_deadline(cx, Unit::Ex, "expire")
}

/// PEXPIRE key milliseconds with a condition: 1 when the deadline was set, else 0.
pub static PEXPIRE: Command = Command {
    name: "pexpire",
    summary: "Set a key's time to live in milliseconds",
    syntax: "key milliseconds [NX|XX|GT|LT]",
    since: "2.6.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: -3,
    flags: flag::WRITE | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(pexpire),
};
fn pexpire(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    set_deadline(cx, Unit::Px, "pexpire")
}

/// EXPIREAT key unix-time-seconds with a condition: 1 when the deadline was set, else 0.
pub static EXPIREAT: Command = Command {
    name: "expireat",
    summary: "Set the expiration for a key as a UNIX timestamp",
    syntax: "key unix-time-seconds [NX|XX|GT|LT]",
    since: "1.2.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: -3,
    flags: flag::WRITE | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(expireat),
};
fn expireat(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    set_deadline(cx, Unit::ExAt, "expireat")
}

/// PEXPIREAT key unix-time-milliseconds with a condition: 1 when the deadline was set, else 0.
pub static PEXPIREAT: Command = Command {
    name: "pexpireat",
    summary: "Set the expiration for a key as a UNIX timestamp specified in milliseconds",
    syntax: "key unix-time-milliseconds [NX|XX|GT|LT]",
    since: "2.6.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: -3,
    flags: flag::WRITE | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(pexpireat),
};
fn pexpireat(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    set_deadline(cx, Unit::PxAt, "pexpireat")
}

/// The conditions of EXPIRE and its family.
#[derive(Clone, Copy, Default)]
struct Conditions {
    without: bool,
    with: bool,
    later: bool,
    sooner: bool,
}

impl Conditions {
    fn parse(cx: &Cx<'_, '_>) -> Result<Conditions, CommandError> {
        let mut found = Conditions::default();
        for word in cx.args.iter().skip(3) {
            let condition = match () {
                () if word.eq_ignore_ascii_case(b"NX") => &mut found.without,
                () if word.eq_ignore_ascii_case(b"XX") => &mut found.with,
                () if word.eq_ignore_ascii_case(b"GT") => &mut found.later,
                () if word.eq_ignore_ascii_case(b"LT") => &mut found.sooner,
                () => return Err(CommandError::quoting("ERR Unsupported option ", word, "")),
            };
            *condition = true;
        }
        if found.without && (found.with || found.later || found.sooner) {
            return Err(CommandError::text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if found.later && found.sooner {
            return Err(CommandError::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(found)
    }

    /// True when a deadline of `old_ms`, 0 for never, may become `new_ms`.
    fn allow(self, old_ms: u64, new_ms: u64) -> bool {
        let never = old_ms == 0;
        !(self.without && !never
            || self.with && never
            || self.later && (never || new_ms <= old_ms)
            || self.sooner && !never && new_ms >= old_ms)
    }
}

fn set_deadline(cx: &mut Cx<'_, '_>, unit: Unit, command: &'static str) -> Result<(), CommandError> {
    let (key, amount) = (cx.arg(1)?, cx.arg(2)?);
    let conditions = Conditions::parse(cx)?;
    let amount = parse_i64(amount).ok_or(CommandError::NotInteger)?;
    let deadline_ms = unit.absolute_ms(amount, cx.keys.now_ms()).ok_or(CommandError::InvalidExpire(command))?;
    // A time before 1970 has passed like any other; 0 would mean never.
    let deadline_ms = deadline_ms.max(1) as u64;
    let allowed = cx.keys.look(key).is_some_and(|entry| conditions.allow(entry.deadline_ms(), deadline_ms));
    if allowed {
        expire_key(cx, key, deadline_ms);
    }
    cx.out.int(i64::from(allowed));
    Ok(())
}

/// PERSIST key: 1 when a deadline was taken away, 0 when there was none.
pub static PERSIST: Command = Command {
    name: "persist",
    summary: "Remove the expiration from a key",
    syntax: "key",
    since: "2.2.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 2,
    flags: flag::WRITE | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(persist),
};
fn persist(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let expires = cx.keys.look(key).is_some_and(|entry| entry.deadline_ms() != 0);
    if expires {
        persist_key(cx, key);
    }
    cx.out.int(i64::from(expires));
    Ok(())
}

/// TTL key: seconds until the key expires, -1 for never, -2 for no key.
pub static TTL: Command = Command {
    name: "ttl",
    summary: "Get the time to live for a key in seconds",
    syntax: "key",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 2,
    flags: flag::READONLY | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(ttl),
};
fn ttl(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let now_ms = cx.keys.now_ms();
    reply_deadline(cx, |deadline_ms| (deadline_ms.saturating_sub(now_ms) + 500) / 1_000)
}

/// PTTL key: milliseconds until the key expires, -1 for never, -2 for no key.
pub static PTTL: Command = Command {
    name: "pttl",
    summary: "Get the time to live for a key in milliseconds",
    syntax: "key",
    since: "2.6.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 2,
    flags: flag::READONLY | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(pttl),
};
fn pttl(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let now_ms = cx.keys.now_ms();
    reply_deadline(cx, |deadline_ms| deadline_ms.saturating_sub(now_ms))
}

/// EXPIRETIME key: when the key expires, in seconds since 1970, -1 for never, -2 for no key.
pub static EXPIRETIME: Command = Command {
    name: "expiretime",
    summary: "Get the expiration Unix timestamp for a key",
    syntax: "key",
    since: "7.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 2,
    flags: flag::READONLY | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(expiretime),
};
fn expiretime(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    reply_deadline(cx, |deadline_ms| (deadline_ms + 500) / 1_000)
}

/// PEXPIRETIME key: when the key expires, in milliseconds since 1970, -1 for never, -2 for no key.
pub static PEXPIRETIME: Command = Command {
    name: "pexpiretime",
    summary: "Get the expiration Unix timestamp for a key in milliseconds",
    syntax: "key",
    since: "7.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 2,
    flags: flag::READONLY | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(pexpiretime),
};
fn pexpiretime(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    reply_deadline(cx, |deadline_ms| deadline_ms)
}

fn reply_deadline(cx: &mut Cx<'_, '_>, show: impl Fn(u64) -> u64) -> Result<(), CommandError> {
    let shown = match cx.keys.look(cx.arg(1)?).map(|entry| entry.deadline_ms()) {
        None => -2,
        Some(0) => -1,
        Some(deadline_ms) => i64::try_from(show(deadline_ms)).unwrap_or(i64::MAX),
    };
    cx.out.int(shown);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    #[test]
    fn what_is_set_with_a_deadline_that_has_passed_has_been_there_and_expires() {
        let mut node = Node::new();
        node.effects.notify = true;
        assert_eq!(node.run("SET k v EXAT 1 NX"), "+OK\r\n");
        assert_eq!(node.effects.writes, 1);
        assert_eq!(node.run("GET k"), "$-1\r\n");
        let names: Vec<_> = node.take_events().iter().map(|event| event.name).collect();
        assert_eq!(names, ["new", "set", "expire", "expired"]);
        assert_eq!(node.effects.expired, 1);
    }

    #[test]
    fn deadlines_are_set_shown_and_taken_away() {
        let mut node = Node::new();
        assert_eq!((node.run("TTL k"), node.run("EXPIRE k 1")), (":-2\r\n".into(), ":0\r\n".into()));
        node.run("SET k v");
        assert_eq!((node.run("PTTL k"), node.run("PERSIST k")), (":-1\r\n".into(), ":0\r\n".into()));
        assert_eq!(node.run("PEXPIRE k 1500"), ":1\r\n");
        assert_eq!((node.run("TTL k"), node.run("PTTL k")), (":2\r\n".into(), ":1500\r\n".into()));
        assert_eq!(node.run("PEXPIRETIME k"), format!(":{}\r\n", node.now_ms() + 1500));
        assert_eq!(node.run("EXPIRETIME k"), format!(":{}\r\n", (node.now_ms() + 2000) / 1000));
        assert_eq!((node.run("PERSIST k"), node.run("TTL k")), (":1\r\n".into(), ":-1\r\n".into()));
        assert_eq!((node.run("EXPIREAT k 1"), node.run("EXISTS k")), (":1\r\n".into(), ":0\r\n".into()));
    }

    #[test]
    fn conditions_compare_deadlines_and_never_is_the_latest() {
        let mut node = Node::new();
        node.run("SET k v");
        let steps = [
            ("EXPIRE k 10 XX", 0),
            ("EXPIRE k 10 gt", 0),
            ("EXPIRE k 10 LT", 1),
            ("EXPIRE k 20 NX", 0),
            ("EXPIRE k 20 LT", 0),
            ("EXPIRE k 20 XX GT", 1),
            ("EXPIRE k 20 GT", 0),
        ];
        for (line, reply) in steps {
            assert_eq!(node.run(line), format!(":{reply}\r\n"), "{line}");
        }
        let refused = [
            ("EXPIRE k 1 NX XX", "NX and XX, GT or LT options at the same time are not compatible"),
            ("EXPIRE k 1 GT LT", "GT and LT options at the same time are not compatible"),
            ("EXPIRE k 1 Up", "Unsupported option Up"),
            ("EXPIRE k 9223372036854775807", "invalid expire time in 'expire' command"),
            ("PEXPIRE k x", "value is not an integer or out of range"),
        ];
        for (line, text) in refused {
            assert_eq!(node.run(line), format!("-ERR {text}\r\n"), "{line}");
        }
    }

    #[test]
    fn a_key_is_gone_at_its_deadline_for_every_command() {
        let mut node = Node::new();
        for line in ["SET k v", "SET j w", "PEXPIRE k 10"] {
            node.run(line);
        }
        node.advance_ms(10);
        for (line, reply) in [
            ("TTL k", ":-2"),
            ("TYPE k", "+none"),
            ("DEL k", ":0"),
            ("APPEND k x", ":1"),
            ("TTL k", ":-1"),
            ("RENAMENX j k", ":0"),
        ] {
            assert_eq!(node.run(line), format!("{reply}\r\n"), "{line}");
        }
    }
}
