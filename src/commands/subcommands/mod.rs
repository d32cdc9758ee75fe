//! Subcommands: what may stand behind CLIENT, CONFIG and other commands that are names for a family.
//!
//! | file | what it is |
//! |---|---|
//! | `clusters` | what CLUSTER and SENTINEL can do |
//! | `connections` | what CLIENT and PUBSUB can do |
//! | `diagnosis` | what COMMAND, CONFIG, LATENCY, MEMORY and SLOWLOG can do |
//! | `objects` | what OBJECT can do |
//!
//! A subcommand has a row of the same shape as a command, under the name `parent|subcommand`. From it come its arity
//! check, its errors, HELP, what COMMAND says of it, and its figures. The parent's row in `table` stands for the whole
//! family in lookups.

use crate::commands::CommandError;
use crate::commands::error::printed_name;
use crate::commands::spec::{Command, Handler, Keys};
use crate::protocol::{Args, Reply};

mod clusters;
mod connections;
mod diagnosis;
pub mod objects;

/// The families. What CLUSTER only refuses is known by name and arity, and listed nowhere.
static FAMILIES: &[&[Command]] = &[
    clusters::CLUSTER,
    clusters::SENTINEL,
    connections::CLIENT,
    connections::PUBSUB,
    diagnosis::COMMAND,
    diagnosis::CONFIG,
    diagnosis::LATENCY,
    diagnosis::MEMORY,
    diagnosis::SLOWLOG,
    objects::OBJECT,
    clusters::CHANGES,
];

/// The subcommands of `parent`, in alphabetical order; none for a command that has none.
pub fn of(parent: &str) -> &'static [Command] {
    let is_of_parent = |row: &Command| row.name.strip_prefix(parent).is_some_and(|rest| rest.starts_with('|'));
    let of_parent = |family: &&&[Command]| family.first().is_some_and(is_of_parent);
    FAMILIES.iter().find(of_parent).copied().unwrap_or_default()
}

/// The subcommand of `parent` called `name`, in any case.
pub fn find(parent: &str, name: &[u8]) -> Option<&'static Command> {
    position(parent, name).and_then(|at| of(parent).get(at))
}

/// Its place among them.
pub fn position(parent: &str, name: &[u8]) -> Option<usize> {
    of(parent).iter().position(|row| split(row.name).1.as_bytes().eq_ignore_ascii_case(name))
}

/// All subcommands, those too that are only refused.
pub fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().copied().flatten()
}

/// The subcommand of `parent` called `name`, in any case, also one that is only refused.
pub fn known(parent: &str, name: &[u8]) -> Option<&'static Command> {
    place(parent, name).and_then(|place| all().nth(place))
}

/// The place among [`all`] of the subcommand of `parent` called `name`.
pub fn place(parent: &str, name: &[u8]) -> Option<usize> {
    all().position(|row| split(row.name).0 == parent && split(row.name).1.as_bytes().eq_ignore_ascii_case(name))
}

/// The row of the subcommand that a request of `parent` asks for, its arguments counted.
pub fn checked(parent: &'static Command, args: Args<'_>) -> Result<&'static Command, CommandError> {
    let name = args.get(1).ok_or(CommandError::Arity(parent.name.into()))?;
    let row = known(parent.name, name);
    let row = row.ok_or_else(|| unknown(parent.name, name))?;
    if row.accepts(args.len()) { Ok(row) } else { Err(CommandError::Arity(row.name.into())) }
}

/// The row that a request is run by: that of its subcommand if that one works on keys (MEMORY USAGE), else its own.
#[inline]
pub fn running(row: &'static Command, args: Args<'_>) -> &'static Command {
    if !matches!(row.keys, Keys::Subcommand { .. }) {
        return row;
    }
    let of_keys = |row: &&Command| matches!(row.handler, Handler::Keys(_) | Handler::FanOut(..));
    args.get(1).and_then(|name| find(row.name, name)).filter(of_keys).unwrap_or(row)
}

/// Redis's words for a subcommand that does not exist.
pub fn unknown(parent: &str, name: &[u8]) -> CommandError {
    refused("unknown subcommand", parent, name)
}

/// Its words for one that was given too many arguments of a kind that its arity does not tell.
pub fn unknown_or_wrong(parent: &str, name: &[u8]) -> CommandError {
    refused("unknown subcommand or wrong number of arguments for", parent, name)
}

fn refused(what: &str, parent: &str, name: &[u8]) -> CommandError {
    let behind = format!("'. Try {} HELP.", parent.to_uppercase());
    CommandError::quoting(&format!("ERR {what} '"), printed_name(name), &behind)
}

/// The name behind the bar, in lower case: `list` of `client|list`.
pub fn short_name(row: &Command) -> &'static str {
    split(row.name).1
}

/// Answers HELP of a command of ours that is no family: how it is written, and what it does.
pub fn help_alone(out: &mut Reply<'_>, row: &Command) {
    let name = row.name.to_uppercase();
    out.array(5);
    out.simple(&format!("{name} <argument> ... Arguments are:"));
    out.simple(row.syntax);
    out.simple(&format!("    {}.", row.summary));
    out.simple("HELP");
    out.simple("    Print this help.");
}

/// Whether a request of such a command asks for that.
pub fn asks_for_help(args: Args<'_>) -> bool {
    args.len() == 2 && args.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"help"))
}

/// Answers HELP: each subcommand with its arguments, and below it what it does.
pub fn help(out: &mut Reply<'_>, parent: &str) {
    let rows = of(parent);
    out.array(1 + 2 * rows.len());
    out.simple(&format!("{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", parent.to_uppercase()));
    for row in rows {
        out.simple(format!("{} {}", short_name(row).to_uppercase(), row.syntax).trim_end());
        out.simple(&format!("    {}.", row.summary.trim_end_matches('.')));
    }
}

fn split(name: &'static str) -> (&'static str, &'static str) {
    name.split_once('|').unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table::{self, COMMANDS};

    #[test]
    fn every_family_has_a_parent_and_rows_in_order() {
        for family in FAMILIES {
            let parent = split(family[0].name).0;
            let (_, row) = table::find(parent.as_bytes()).expect("a parent in the table");
            assert!(family.iter().all(|sub| split(sub.name).0 == parent && !sub.summary.is_empty()));
            assert!(family.is_sorted_by_key(|sub| sub.name), "{parent}");
            assert!(family.iter().all(|sub| sub.group == row.group && sub.arity.unsigned_abs() > 1), "{parent}");
            assert!(find(parent, b"HELP").is_some_and(|help| help.arity == 2), "{parent}");
        }
        assert!(all().chain(COMMANDS.iter().copied()).all(|row| of(row.name).is_empty() || row.may_be_family()));
        assert!(of("get").is_empty() && find("client", b"nonsense").is_none());
    }

    #[test]
    fn an_unknown_subcommand_is_named_in_redis_words() {
        let text = unknown("command", b"FOO").to_string();
        assert_eq!(text, "ERR unknown subcommand 'FOO'. Try COMMAND HELP.");
        assert!(unknown("command", &[b'x'; 1000]).to_string().len() < 200);
    }
}
