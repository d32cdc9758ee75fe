//! COMMAND INFO: one command as an array of ten.
//!
//! Name, arity, flags, first, last and step of its keys, ACL categories, tips, key specifications, subcommands. The ACL
//! categories follow from flags and group as in Redis (`ACL CAT` lists them).

use super::traits::{KEY_FLAGS, NOTES, TIPS, traits_of};
use crate::commands::spec::{Command, Group, Keys, flag};
use crate::commands::subcommands;
use crate::protocol::Reply;

/// Writes one command.
pub fn write(out: &mut Reply<'_>, row: &Command) {
    out.array(10);
    out.bulk(row.name.as_bytes());
    out.int(row.arity.into());
    let flags: Vec<&str> = flag::NAMES.iter().filter(|(bit, _)| row.has(*bit)).map(|(_, name)| *name).collect();
    write_words(out, &flags);
    let (first, last, step) = match row.keys {
        Keys::Range { first, last, step } => (i64::from(first), i64::from(last), i64::from(step)),
        Keys::None | Keys::Counted { .. } | Keys::Subcommand { .. } => (0, 0, 0),
    };
    [first, last, step].into_iter().for_each(|number| out.int(number));
    write_words(out, &categories(row));
    let tips = traits_of(TIPS, row.name);
    out.set(tips.len());
    tips.iter().for_each(|tip| out.bulk(tip.as_bytes()));
    write_key_specs(out, row);
    let subcommands = subcommands::of(row.name);
    out.set(subcommands.len());
    subcommands.iter().for_each(|subcommand| write(out, subcommand));
}

/// The ACL categories of a command, each with its `@`, in the order of ACL CAT.
pub fn categories(row: &Command) -> Vec<&'static str> {
    let parent = row.name.split('|').next().unwrap_or(row.name);
    // Some of other chapters are about the connection; a family as a whole is about nothing.
    let of_connection = match parent {
        "command" | "readonly" | "readwrite" | "asking" | "wait" => true,
        "client" => row.name != parent,
        _ => row.group == Group::Connection,
    };
    let of_admin = row.has(flag::ADMIN) || matches!(row.name, "lastsave" | "role");
    let all = [
        (row.has(flag::KEYSPACE), "@keyspace"),
        (row.has(flag::READONLY), "@read"),
        (row.has(flag::WRITE), "@write"),
        (row.group == Group::Set, "@set"),
        (row.group == Group::Hash, "@hash"),
        (row.group == Group::String, "@string"),
        (row.group == Group::Bitmap, "@bitmap"),
        (row.has(flag::PUBSUB), "@pubsub"),
        (of_admin, "@admin"),
        (row.has(flag::FAST), "@fast"),
        (!row.has(flag::FAST), "@slow"),
        (of_admin || row.has(flag::DANGEROUS), "@dangerous"),
        (of_connection, "@connection"),
        (row.group == Group::Transactions, "@transaction"),
    ];
    all.into_iter().filter(|(applies, _)| *applies).map(|(_, name)| name).collect()
}

/// Whether what a request names are no keys: none at all, or names of channels, which only route it.
pub fn has_no_keys(row: &Command) -> bool {
    matches!(row.keys, Keys::None) || traits_of(KEY_FLAGS, row.name).contains(&"not_key")
}

/// Writes what a request does to a key: the first one, or one `behind` it.
pub fn write_key_flags(out: &mut Reply<'_>, row: &Command, words: &[&[u8]], behind: bool) {
    let specs = traits_of(KEY_FLAGS, row.name);
    let flags = specs.get(usize::from(behind)).or(specs.first()).copied().unwrap_or_default();
    let has = |word: &[u8]| words.iter().skip(2).any(|it| it.eq_ignore_ascii_case(word));
    // Two commands only write, or only read, unless they are asked for both.
    let flags = match (flags.strip_suffix(" variable_flags"), row.name) {
        (Some(_), "set") if !has(b"GET") => "OW update",
        (Some(_), "bitfield") if !has(b"SET") && !has(b"INCRBY") => "RO access",
        (Some(flags), _) => flags,
        (None, _) => flags,
    };
    write_flags(out, flags);
}

fn write_flags(out: &mut Reply<'_>, flags: &str) {
    let flags: Vec<&str> = flags.split_whitespace().collect();
    write_words(out, &flags);
}

fn write_words(out: &mut Reply<'_>, words: &[&str]) {
    out.set(words.len());
    words.iter().for_each(|word| out.simple(word));
}

fn write_key_specs(out: &mut Reply<'_>, row: &Command) {
    let specs = traits_of(KEY_FLAGS, row.name);
    match row.keys {
        Keys::None | Keys::Subcommand { .. } => out.set(0),
        Keys::Counted { at } => {
            out.set(1);
            write_spec_head(out, &[], specs.first(), at.into());
            out.bulk(b"keynum");
            out.bulk(b"spec");
            write_numbers(out, &[("keynumidx", 0), ("firstkey", 1), ("keystep", 1)]);
        }
        Keys::Range { first, last, step } => {
            // The end is counted from the beginning, or from the end when negative.
            let last_from = |begin: u8| if last < 0 { i64::from(last) } else { i64::from(last) - i64::from(begin) };
            let ranges = match specs.len() {
                0 | 1 => vec![(first, last_from(first))],
                _ => vec![(first, 0), (first + 1, last_from(first + 1))],
            };
            out.set(ranges.len());
            for (at, (begin, last)) in ranges.into_iter().enumerate() {
                write_spec_head(out, traits_of(NOTES, row.name), specs.get(at), begin.into());
                out.bulk(b"range");
                out.bulk(b"spec");
                write_numbers(out, &[("lastkey", last), ("keystep", step.into()), ("limit", 0)]);
            }
        }
    }
}

/// Everything of a key specification up to the type of its second half.
fn write_spec_head(out: &mut Reply<'_>, notes: &[&str], flags: Option<&&str>, begin: i64) {
    out.map(3 + notes.len());
    for note in notes {
        out.bulk(b"notes");
        out.bulk(note.as_bytes());
    }
    out.bulk(b"flags");
    write_flags(out, flags.copied().unwrap_or_default());
    out.bulk(b"begin_search");
    out.map(2);
    out.bulk(b"type");
    out.bulk(b"index");
    out.bulk(b"spec");
    write_numbers(out, &[("index", begin)]);
    out.bulk(b"find_keys");
    out.map(2);
    out.bulk(b"type");
}

fn write_numbers(out: &mut Reply<'_>, numbers: &[(&str, i64)]) {
    out.map(numbers.len());
    for (name, number) in numbers {
        out.bulk(name.as_bytes());
        out.int(*number);
    }
}
