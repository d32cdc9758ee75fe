//! Which writes may be run a second time when nobody knows whether they were run: the whole table, row by row.
//!
//! A row that says so is run once and twice on keys of every kind: replies and keys must be the same. A row that does
//! not must have an example here that shows why.

use crate::commands::spec::{Command, Handler, flag};
use crate::commands::table::COMMANDS;
use crate::commands::testing::Node;
use crate::protocol::{Limits, Scanner};

/// What the keys may hold before.
const BEFORE: &[&[&str]] = &[
    &[],
    &["SET {k}a old PX 9000"],
    &["SET {k}a 12", "SET {k}b 7 PX 500"],
    &["HSET {k}a f 1 g 2"],
    &["SADD {k}a 1 2 3", "SADD {k}b 2 3 4", "SADD {k}c 3 9"],
];

/// Requests that may be run twice.
const REPEATABLE: &[&str] = &[
    "SET {k}a x",
    "SET {k}a nx PX 700",
    "SET {k}a x KEEPTTL",
    "SET {k}a x PXAT 1",
    "SETEX {k}a 9 NX",
    "PSETEX {k}a 900 x",
    "MSET {k}a NX {k}b GET",
    "SETRANGE {k}a 5 xyz",
    "SETRANGE {k}a 5 \"\"",
    "HMSET {k}a f x h y",
    "SINTERSTORE {k}a {k}a {k}b",
    "SINTERSTORE {k}c {k}a {k}b",
    "SUNIONSTORE {k}a {k}a {k}b",
];

/// Requests that may not, with what the keys hold before.
const ONCE: &[(&[&str], &str)] = &[
    (&[], "SET {k}a x NX"),
    (&[], "SET {k}a x GET"),
    (&[], "SETNX {k}a x"),
    (&[], "MSETNX {k}a x {k}b y"),
    (&[], "GETSET {k}a x"),
    (&["SET {k}a x"], "GETDEL {k}a"),
    (&["SET {k}a x"], "GETEX {k}a PXAT 1"),
    (&[], "APPEND {k}a x"),
    (&[], "INCR {k}a"),
    (&[], "DECR {k}a"),
    (&[], "INCRBY {k}a 2"),
    (&[], "DECRBY {k}a 2"),
    (&[], "INCRBYFLOAT {k}a 1.5"),
    (&[], "SETBIT {k}a 3 1"),
    (&["SET {k}b x"], "BITOP NOT {k}b {k}b"),
    (&[], "BITFIELD {k}a INCRBY u8 0 1"),
    (&["SET {k}a x"], "DEL {k}a"),
    (&["SET {k}a x"], "UNLINK {k}a"),
    (&["SET {k}a x"], "RENAME {k}a {k}b"),
    (&["SET {k}a x"], "RENAMENX {k}a {k}b"),
    (&["SET {k}a x"], "COPY {k}a {k}b"),
    (&["SET {k}a x"], "MOVE {k}a 1"),
    (&["SET {k}a x"], "EXPIRE {k}a 5 NX"),
    (&["SET {k}a x"], "PEXPIRE {k}a -1"),
    (&["SET {k}a x"], "EXPIREAT {k}a 1"),
    (&["SET {k}a x"], "PEXPIREAT {k}a 1"),
    (&["SET {k}a x PX 900"], "PERSIST {k}a"),
    (&[], "SADD {k}a x"),
    (&["SADD {k}a x"], "SREM {k}a x"),
    (&["SADD {k}a x"], "SPOP {k}a"),
    (&["SADD {k}a x"], "SMOVE {k}a {k}b x"),
    (&["SADD {k}a x", "SADD {k}b x y"], "SDIFFSTORE {k}a {k}b {k}a"),
    (&[], "HSET {k}a f x"),
    (&[], "HSETNX {k}a f x"),
    (&["HSET {k}a f x"], "HDEL {k}a f"),
    (&[], "HINCRBY {k}a f 1"),
    (&[], "HINCRBYFLOAT {k}a f 1.5"),
];

/// The reply to the last of several runs, and what the keys hold then.
fn found_after(before: &[&str], request: &str, times: usize) -> Vec<String> {
    let mut node = Node::new();
    before.iter().for_each(|line| drop(node.run(line)));
    let reply = (0..times).map(|_| node.run(request)).last().expect("at least one run");
    let mut seen = vec![reply];
    for key in ["{k}a", "{k}b", "{k}c"] {
        let looks = ["GET", "HGETALL", "SMEMBERS", "PTTL"];
        seen.extend(looks.iter().map(|look| node.run(&format!("{look} {key}"))));
    }
    seen
}

/// The row of a request, and whether the request may be run twice.
fn judged(request: &str) -> (&'static Command, bool) {
    let line = format!("{request}\r\n");
    let mut scanner = Scanner::new();
    scanner.scan(line.as_bytes(), &Limits::default()).expect("a valid request");
    let args = scanner.args(line.as_bytes());
    let (_, command) = crate::commands::table::find(args.name()).expect("a known command");
    (command, command.is_repeatable(args))
}

#[test]
fn what_is_called_repeatable_leaves_and_answers_the_same_when_it_is_run_twice() {
    for request in REPEATABLE {
        assert!(judged(request).1, "{request} is not repeatable by its row");
        for before in BEFORE {
            assert_eq!(found_after(before, request, 1), found_after(before, request, 2), "{request} after {before:?}");
        }
    }
}

#[test]
fn every_write_that_is_not_repeatable_has_a_reason() {
    for (before, request) in ONCE {
        assert!(!judged(request).1, "{request} is repeatable by its row");
        assert_ne!(found_after(before, request, 1), found_after(before, request, 2), "{request} after {before:?}");
    }
}

#[test]
fn no_write_of_the_table_is_left_out() {
    let shown = |row: &Command| {
        let requests = REPEATABLE.iter().chain(ONCE.iter().map(|(_, request)| request));
        requests.map(|request| judged(request).0).any(|it| it.name == row.name)
    };
    for row in COMMANDS {
        let runs_on_keys = !matches!(row.handler, Handler::Node(_));
        if !row.has(flag::WRITE) || row.has(flag::INTERNAL) || !runs_on_keys {
            assert!(!row.has(flag::REPEATABLE), "{} needs no such flag", row.name);
        } else {
            assert!(shown(row), "{} is neither shown to be repeatable nor why it is not", row.name);
        }
    }
}
