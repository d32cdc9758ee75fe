//! OBJECT: how a value is kept, and when it was used. Null for no key.

use crate::commands::CommandError;
use crate::commands::spec::{Command, Cx, Group, Handler, Keys, flag};
use crate::protocol::parse_i64;
use crate::store::entry::Entry;
use crate::store::keyspace::value_ref;
use crate::store::whole::Encoding;

/// OBJECT subcommand: what stands behind it is a command of its own.
pub static FAMILY: Command = Command {
    name: "object",
    summary: "A container for object introspection commands",
    syntax: "subcommand [argument ...]",
    since: "2.2.3",
    complexity: "Depends on subcommand.",
    group: Group::Generic,
    arity: -2,
    flags: 0,
    keys: Keys::Subcommand { at: 2 },
    handler: Handler::Keys(unknown),
};

const OBJECT_BASE: Command = Command {
    name: "object",
    summary: "",
    syntax: "key",
    since: "2.2.3",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 3,
    flags: flag::READONLY | flag::KEYSPACE,
    keys: Keys::Range { first: 2, last: 2, step: 1 },
    handler: Handler::Keys(unknown),
};

/// OBJECT's subcommands.
pub static OBJECT: &[Command] = &[
    Command {
        name: "object|encoding",
        summary: "Inspect the internal encoding of a Redis object",
        handler: Handler::Keys(encoding),
        ..OBJECT_BASE
    },
    Command {
        name: "object|freq",
        summary: "Get the logarithmic access frequency counter of a Redis object",
        since: "4.0.0",
        handler: Handler::Keys(freq),
        ..OBJECT_BASE
    },
    Command {
        name: "object|help",
        summary: "Show helpful text about the different subcommands",
        syntax: "",
        since: "6.2.0",
        arity: 2,
        flags: flag::LOADING | flag::STALE | flag::KEYSPACE,
        keys: Keys::None,
        handler: Handler::Keys(help),
        ..OBJECT_BASE
    },
    Command {
        name: "object|idletime",
        summary: "Get the time since a Redis object was last accessed",
        handler: Handler::Keys(idletime),
        ..OBJECT_BASE
    },
    Command {
        name: "object|refcount",
        summary: "Get the number of references to the value of the key",
        handler: Handler::Keys(refcount),
        ..OBJECT_BASE
    },
];

/// What is behind OBJECT is none of its subcommands.
fn unknown(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    Err(super::unknown(FAMILY.name, cx.arg(1)?))
}

fn encoding(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let encoding = cx.keys.look_untold(cx.arg(2)?).map(|entry| Encoding::of(entry).map_or("", Encoding::name));
    match encoding {
        Some(name) => cx.out.bulk(name.as_bytes()),
        None => cx.out.null(),
    }
    Ok(())
}

fn freq(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let access = cx.keys.access();
    let frequency = cx.keys.look_untold(cx.arg(2)?).map(|entry| access.frequency(entry));
    if frequency.is_some() && !access.is_lfu() {
        return Err(CommandError::text(NO_FREQUENCY));
    }
    number(cx, frequency.map(i64::from))
}

fn idletime(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let access = cx.keys.access();
    let idle_s = cx.keys.look_untold(cx.arg(2)?).map(|entry| access.idle_s(entry));
    if idle_s.is_some() && access.is_lfu() {
        return Err(CommandError::text(NO_IDLE_TIME));
    }
    number(cx, idle_s.map(i64::from))
}

fn refcount(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let shares = cx.keys.shares_values();
    let count = cx.keys.look_untold(cx.arg(2)?).map(|entry| if shares { references(entry) } else { 1 });
    number(cx, count)
}

fn help(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    cx.out.array(HELP.len());
    HELP.iter().for_each(|line| cx.out.simple(line));
    Ok(())
}

/// Replies with a number; null where there is no key to have one.
fn number(cx: &mut Cx<'_, '_>, number: Option<i64>) -> Result<(), CommandError> {
    match number {
        Some(number) => cx.out.int(number),
        None => cx.out.null(),
    }
    Ok(())
}

/// What Redis says: the small numbers are shared by everybody, all else has one owner.
fn references(entry: &Entry) -> i64 {
    let small = Encoding::of(entry) == Some(Encoding::Int)
        && value_ref(entry)
            .and_then(|view| view.text())
            .and_then(|text| parse_i64(&text))
            .is_some_and(|n| (0..10_000).contains(&n));
    if small { i64::from(i32::MAX) } else { 1 }
}

const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
const NO_IDLE_TIME: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";

const HELP: [&str; 15] = [
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    #[test]
    fn object_does_not_tell_of_a_key_that_is_not_there() {
        let mut node = Node::new();
        node.effects.notify = true;
        assert_eq!(node.run("OBJECT ENCODING none"), "$-1\r\n");
        assert!(node.effects.events.is_empty() && node.effects.misses == 1);
        node.run("TYPE none");
        assert_eq!(node.effects.events.len(), 1);
    }

    #[test]
    fn a_small_number_has_owners_without_end_unless_keys_go_for_their_use() {
        use crate::base::config::MaxmemoryPolicy::{AllkeysLru, AllkeysRandom, VolatileLfu, VolatileTtl};
        let mut node = Node::new();
        node.run("MSET small 5 large 10000");
        assert_eq!(node.run("OBJECT REFCOUNT small"), ":2147483647\r\n");
        for (bytes_max, policy, count) in [
            (0, AllkeysLru, "2147483647"),
            (1 << 40, AllkeysLru, "1"),
            (1 << 40, VolatileLfu, "1"),
            (1 << 40, VolatileTtl, "2147483647"),
            (1 << 40, AllkeysRandom, "2147483647"),
        ] {
            node.store.eviction.bytes_max.store(bytes_max, std::sync::atomic::Ordering::Relaxed);
            node.store.eviction.set_policy(policy);
            assert_eq!(node.run("OBJECT REFCOUNT small"), format!(":{count}\r\n"), "{policy:?}");
            assert_eq!(node.run("OBJECT REFCOUNT large"), ":1\r\n");
        }
    }

    #[test]
    fn encodings_are_those_of_redis_and_move_with_the_value() {
        let mut node = Node::new();
        let long = "x".repeat(44);
        for (line, encoding) in [
            ("SET k 123".to_owned(), "int"),
            ("SET k 0123".to_owned(), "embstr"),
            (format!("SET k {long}"), "embstr"),
            (format!("SET k {long}x"), "raw"),
            ("SET k 12".to_owned(), "int"),
            ("APPEND k 3".to_owned(), "raw"),
            ("RENAME k k".to_owned(), "raw"),
            ("COPY k j REPLACE".to_owned(), "raw"),
            ("RENAME j k".to_owned(), "raw"),
            ("INCR k".to_owned(), "int"),
        ] {
            node.run(&line);
            assert_eq!(node.run("OBJECT ENCODING k"), format!("${}\r\n{encoding}\r\n", encoding.len()), "{line}");
        }
        for (line, reply) in [
            ("OBJECT REFCOUNT k", ":2147483647"),
            ("OBJECT IDLETIME k", ":0"),
            ("OBJECT ENCODING none", "$-1"),
            ("OBJECT FREQ none", "$-1"),
            ("OBJECT nope", "-ERR unknown subcommand 'nope'. Try OBJECT HELP."),
            ("OBJECT FREQ", "-ERR wrong number of arguments for 'object|freq' command"),
        ] {
            assert_eq!(node.run(line), format!("{reply}\r\n"), "{line}");
        }
        assert!(node.run("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not selected"));
        assert!(node.run("OBJECT HELP").starts_with("*15\r\n+OBJECT <subcommand>"));
    }
}
