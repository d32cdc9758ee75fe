//! The table against a real redis-server 7.0.

use crate::commands::oracle::Oracle;
use crate::commands::spec::{Keys, flag};
use crate::commands::table::{self, COMMANDS};
use crate::commands::testing::Node;
use crate::protocol::client::Value;

/// An array's elements; a value of another kind has none.
fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        _ => &[],
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) | Value::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("not a text: {other:?}"),
    }
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => panic!("not a number: {other:?}"),
    }
}

#[test]
fn rows_say_of_arity_flags_and_keys_what_redis_says() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut compared = 0;
    for row in elements(&oracle.run(&["COMMAND"])) {
        let [name, arity, flags, first, last, step, categories, ..] = elements(row) else { panic!("{row:?}") };
        let name = text(name);
        let Some((_, ours)) = table::find(name.as_bytes()) else { continue };
        compared += 1;
        assert_eq!(i64::from(ours.arity), int(arity), "{name}");
        let theirs: Vec<String> = elements(flags).iter().map(text).collect();
        let names: Vec<&str> =
            flag::NAMES.iter().filter(|(bit, _)| ours.has(*bit)).map(|(_, flag_name)| *flag_name).collect();
        assert_eq!(names, theirs, "{name}");
        if let Keys::None | Keys::Range { .. } = ours.keys {
            let (of_first, of_last, of_step) = match ours.keys {
                Keys::Range { first, last, step } => (i64::from(first), i64::from(last), i64::from(step)),
                _ => (0, 0, 0),
            };
            assert_eq!((of_first, of_last, of_step), (int(first), int(last), int(step)), "{name}");
        }
        let categories: Vec<String> = elements(categories).iter().map(text).collect();
        for (bit, category) in [(flag::KEYSPACE, "@keyspace"), (flag::DANGEROUS | flag::ADMIN, "@dangerous")] {
            assert_eq!(ours.flags & bit != 0, categories.iter().any(|theirs| theirs == category), "{name} {category}");
        }
    }
    let own = COMMANDS.iter().filter(|row| row.name.starts_with("rondo.") || row.name == "sentinel").count();
    assert_eq!(compared, COMMANDS.len() - own);
}

/// What INFO counts as lookups that found a key, and those that did not.
fn lookups(oracle: &mut Oracle) -> (u64, u64) {
    let stats = text(&oracle.run(&["INFO", "stats"]));
    let figure = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|number| number.trim().parse().ok()).expect("a figure of INFO")
    };
    (figure("keyspace_hits"), figure("keyspace_misses"))
}

#[test]
fn hits_and_misses_are_what_redis_counts() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut different = Vec::new();
    for line in include_str!("lookups.txt").lines() {
        for is_there in [false, true] {
            let mut node = Node::new();
            oracle.run(&["FLUSHALL"]);
            if is_there {
                for made in ["SET {k} 1", "HSET {k}h a 1", "SADD {k}s a b", "SADD {k}s2 c"] {
                    node.run(made);
                    oracle.run(&made.split(' ').collect::<Vec<_>>());
                }
            }
            (node.effects.hits, node.effects.misses) = (0, 0);
            oracle.run(&["CONFIG", "RESETSTAT"]);
            node.run(line);
            oracle.run(&line.split(' ').collect::<Vec<_>>());
            let (ours, theirs) = ((node.effects.hits, node.effects.misses), lookups(&mut oracle));
            if ours != theirs {
                different.push(format!("{line}, there {is_there}: {ours:?} instead of {theirs:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}
