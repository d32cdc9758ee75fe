//! COMMAND against a real redis-server 7.0, and what does not need one.

use super::run;
use crate::commands::oracle::Oracle;
use crate::commands::spec::flag;
use crate::commands::table::{self, COMMANDS};
use crate::protocol::client::{ReplyDecoder, Value, encode_command};
use crate::protocol::{Limits, Proto, Reply, Scanner};

fn ask(words: &[&str]) -> Value {
    let mut request = Vec::new();
    encode_command(&mut request, words);
    let mut scanner = Scanner::new();
    scanner.scan(&request, &Limits::default()).expect("a request");
    let (_, row) = table::find(b"command").expect("a row");
    let mut reply = Vec::new();
    if let Err(error) = run(row, scanner.args(&request), &mut Reply::new(&mut reply, Proto::Resp3)) {
        reply.clear();
        Reply::new(&mut reply, Proto::Resp3).error(error.bytes());
    }
    let (value, len) = ReplyDecoder::default().decode(&reply).expect("well-formed").expect("complete");
    assert_eq!(len, reply.len());
    value
}

/// Sets in one order, and without the subcommands, of which Redis has more.
fn comparable(value: Value) -> Value {
    match value {
        Value::Set(values) => {
            let mut values: Vec<Value> = values.into_iter().map(comparable).collect();
            values.sort_by_key(|value| format!("{value:?}"));
            Value::Set(values)
        }
        Value::Array(mut values) => {
            if values.len() == 10 {
                values.pop();
            }
            Value::Array(values.into_iter().map(comparable).collect())
        }
        Value::Map(pairs) => Value::Map(pairs.into_iter().map(|(name, value)| (name, comparable(value))).collect()),
        value => value,
    }
}

#[test]
fn info_is_what_redis_says() {
    let Some(mut oracle) = Oracle::start() else { return };
    oracle.run(&["HELLO", "3"]);
    let families = COMMANDS.iter().flat_map(|row| crate::commands::subcommands::of(row.name));
    let rows = COMMANDS.iter().copied().chain(families);
    let ours_alone = ["rondo.", "sentinel", "client|no-touch", "client|setinfo"];
    for row in rows.filter(|row| !ours_alone.iter().any(|name| row.name.starts_with(name))) {
        let theirs = comparable(oracle.run(&["COMMAND", "INFO", row.name]));
        assert_eq!(comparable(ask(&["COMMAND", "INFO", row.name])), theirs, "{}", row.name);
    }
}

#[test]
fn keys_are_found_and_refused_as_in_redis() {
    let Some(mut oracle) = Oracle::start() else { return };
    oracle.run(&["HELLO", "3"]);
    let requests = [
        "GETKEYS GET",
        "GETKEYS GET a",
        "GETKEYS GET a b",
        "GETKEYS",
        "GETKEYS PING x",
        "GETKEYS nope x",
        "GETKEYS SMOVE a b c",
        "GETKEYSANDFLAGS SMOVE a b c",
        "GETKEYSANDFLAGS SINTERSTORE a b c d",
        "GETKEYSANDFLAGS SET k v",
        "GETKEYSANDFLAGS SET k v GET",
        "GETKEYS SINTERCARD 2 a b LIMIT 3",
        "GETKEYS SINTERCARD 2 a",
        "GETKEYS SINTERCARD 0 a",
        "GETKEYS SINTERCARD x a",
        "GETKEYSANDFLAGS MEMORY USAGE k",
        "GETKEYS MEMORY USAGE",
        "GETKEYS OBJECT ENCODING a",
        "GETKEYS OBJECT HELP x",
        "GETKEYS OBJECT foo a",
        "GETKEYSANDFLAGS OBJECT foo a",
        "GETKEYS MEMORY foo a",
        "GETKEYS CONFIG foo a",
        "GETKEYS CONFIG GET a",
        "GETKEYS CLIENT foo a",
        "GETKEYS CLUSTER foo",
        "GETKEYS CLUSTER MEET a 1",
        "GETKEYS PUBSUB foo",
        "GETKEYS SLOWLOG foo",
        "GETKEYS COMMAND GETKEYS GET a",
        "GETKEYS SPUBLISH a b",
        "GETKEYSANDFLAGS SPUBLISH a b",
        "GETKEYS SSUBSCRIBE a b",
        "GETKEYS SUNSUBSCRIBE a",
        "GETKEYS SUBSCRIBE a",
        "COUNT x",
        "FOO",
        "LIST x",
        "LIST FILTERBY PATTERN hs?t",
        "LIST FILTERBY MODULE x",
        "LIST FILTERBY ACLCAT nope",
        "LIST FILTERBY FOO x",
        "INFO nope",
        "DOCS nope",
    ];
    for request in requests {
        let words: Vec<&str> = ["COMMAND"].into_iter().chain(request.split(' ')).collect();
        let sorted = |value: Value| match value {
            Value::Array(mut values) if request.starts_with("LIST") => {
                values.sort_by_key(|value| format!("{value:?}"));
                Value::Array(values)
            }
            value => comparable(value),
        };
        assert_eq!(sorted(ask(&words)), sorted(oracle.run(&words)), "{request}");
    }
}

/// A document without what the table does not keep (history, versions of arguments) or names by itself (groups).
fn outline(value: Value) -> Value {
    let Value::Map(pairs) = value else { return value };
    let kept = |name: &Value| {
        let Value::Bulk(name) = name else { return true };
        !matches!(&name[..], b"history" | b"since" | b"summary" | b"complexity" | b"subcommands")
    };
    let is_group =
        pairs.iter().any(|(_, value)| matches!(value, Value::Bulk(kind) if kind == b"oneof" || kind == b"block"));
    let kept = pairs.into_iter().filter(|(name, _)| kept(name) && !(is_group && *name == Value::Bulk(b"name".into())));
    Value::Map(
        kept.map(|(name, value)| {
            let value = match value {
                Value::Array(arguments) => Value::Array(arguments.into_iter().map(outline).collect()),
                value => value,
            };
            (name, value)
        })
        .collect(),
    )
}

/// Where the notation of a syntax says less than Redis's own description: types of the same name that differ, a token
/// of a whole group, a group of one.
const OTHERWISE: [&str; 8] =
    ["bitfield_ro", "bitfield", "setbit", "hincrbyfloat", "incrbyfloat", "hello", "debug", "psubscribe"];

#[test]
fn arguments_are_those_of_redis() {
    let Some(mut oracle) = Oracle::start() else { return };
    oracle.run(&["HELLO", "3"]);
    let document = |value: Value| match value {
        Value::Map(mut pairs) => pairs.pop().map(|(_, document)| outline(document)),
        other => panic!("not a map: {other:?}"),
    };
    let mut compared = 0;
    for row in COMMANDS.iter().filter(|row| !OTHERWISE.contains(&row.name)) {
        let Some(theirs) = document(oracle.run(&["COMMAND", "DOCS", row.name])) else { continue };
        assert_eq!(document(ask(&["COMMAND", "DOCS", row.name])), Some(theirs), "{}", row.name);
        compared += 1;
    }
    assert!(compared > 60);
}

#[test]
fn all_commands_and_their_documents_are_complete() {
    let Value::Array(all) = ask(&["COMMAND"]) else { panic!("an array") };
    let listed = COMMANDS.iter().filter(|row| !row.has(flag::INTERNAL)).count();
    assert_eq!(all.len(), listed);
    assert!(listed < COMMANDS.len() && ask(&["COMMAND", "INFO", "rondo.apply"]) == Value::Array(vec![Value::Null]));
    assert_eq!(ask(&["COMMAND", "COUNT"]), Value::Int(listed as i64));
    let Value::Map(documents) = ask(&["COMMAND", "DOCS"]) else { panic!("a map") };
    assert_eq!(documents.len(), listed);
    let Value::Array(help) = ask(&["COMMAND", "HELP"]) else { panic!("an array") };
    assert_eq!(help.len(), 1 + 2 * 7);
}

#[test]
fn traits_are_those_of_commands_that_exist() {
    use super::traits::{DEPRECATED, KEY_FLAGS, TIPS};
    let listed = KEY_FLAGS.iter().chain(TIPS).flat_map(|(_, names)| names.iter().copied());
    for name in listed.chain(DEPRECATED.iter().map(|(name, ..)| *name)) {
        assert!(super::lookup(name.as_bytes()).is_some(), "{name}");
    }
}
