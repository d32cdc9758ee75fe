//! COMMAND: what the table says, for programs.
//!
//! | file | what it is |
//! |---|---|
//! | `traits` | what COMMAND INFO says beyond the rows |
//! | `details` | COMMAND INFO |
//! | `docs`, `syntax` | COMMAND DOCS; arguments, read out of a row's syntax |
//!
//! Everything here is read from the rows in `table` and `subcommands`, but for what Redis says beyond a row (`traits`).

use crate::base::glob;
use crate::commands::CommandError;
use crate::commands::spec::{Command, Keys, flag};
use crate::commands::subcommands;
use crate::commands::table;
use crate::protocol::{Args, Reply, parse_i64};

mod syntax;
mod traits;
mod details;
mod docs;

/// Runs COMMAND, with or without a subcommand.
pub fn run(row: &'static Command, args: Args<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    if args.len() == 1 {
        all(out);
        return Ok(());
    }
    let subcommand = subcommands::checked(row, args)?;
    match subcommands::short_name(subcommand) {
        "count" => out.int(table::listed().count() as i64),
        "docs" => docs::write_all(out, &named(args)),
        "info" => info(args, out),
        "list" => list(args, out)?,
        "getkeys" => keys(args, out, false)?,
        "getkeysandflags" => keys(args, out, true)?,
        _ => subcommands::help(out, row.name),
    }
    Ok(())
}

fn all(out: &mut Reply<'_>) {
    out.array(table::listed().count());
    table::listed().for_each(|command| details::write(out, command));
}

/// The row of a command, or of a subcommand as `parent|name`.
fn lookup(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|byte| *byte == b'|') {
        None => table::find(name).map(|(_, row)| row).filter(|row| !row.has(flag::INTERNAL)),
        Some(bar) => {
            let (parent, rest) = name.split_at(bar);
            let (_, parent) = table::find(parent)?;
            subcommands::find(parent.name, rest.get(1..)?)
        }
    }
}

/// The rows of the commands named from argument 2 on, unknown names left out; all rows when none is named.
fn named(args: Args<'_>) -> Vec<&'static Command> {
    if args.len() == 2 {
        return table::listed().collect();
    }
    args.iter().skip(2).filter_map(lookup).collect()
}

fn info(args: Args<'_>, out: &mut Reply<'_>) {
    if args.len() == 2 {
        all(out);
        return;
    }
    out.array(args.len() - 2);
    for name in args.iter().skip(2) {
        match lookup(name) {
            Some(command) => details::write(out, command),
            None => out.null(),
        }
    }
}

/// COMMAND LIST: names, subcommands included, that pass the filter. There are no modules to list commands of.
fn list(args: Args<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let filter = match (args.len(), args.get(2), args.get(3), args.get(4)) {
        (2, ..) => None,
        (5, Some(word), Some(kind), Some(value)) if word.eq_ignore_ascii_case(b"FILTERBY") => Some((kind, value)),
        _ => return Err(CommandError::Syntax),
    };
    let kinds: [&[u8]; 3] = [b"MODULE", b"ACLCAT", b"PATTERN"];
    let kind = filter.and_then(|(kind, _)| kinds.into_iter().find(|it| it.eq_ignore_ascii_case(kind)));
    if filter.is_some() && kind.is_none() {
        return Err(CommandError::Syntax);
    }
    let value = filter.map_or(&b""[..], |(_, value)| value);
    let passes = |row: &&Command| match kind {
        None => true,
        Some(b"ACLCAT") => details::categories(row)
            .iter()
            .any(|it| it.as_bytes().get(1..).is_some_and(|it| it.eq_ignore_ascii_case(value))),
        Some(b"PATTERN") => glob::matches(value, row.name.as_bytes(), true),
        Some(_) => false,
    };
    let with_subcommands = table::listed().flat_map(|row| std::iter::once(row).chain(subcommands::of(row.name)));
    let names: Vec<&str> = with_subcommands.filter(passes).map(|row| row.name).collect();
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name.as_bytes()));
    Ok(())
}

/// COMMAND GETKEYS and GETKEYSANDFLAGS: the keys of the request that begins at argument 2.
fn keys(args: Args<'_>, out: &mut Reply<'_>, with_flags: bool) -> Result<(), CommandError> {
    const OFFSET: usize = 2;
    let words: Vec<&[u8]> = args.iter().skip(OFFSET).collect();
    let name = words.first().copied().unwrap_or_default();
    let unknown = CommandError::text("ERR Invalid command specified");
    let (_, parent) = table::find(name).ok_or(unknown.clone())?;
    let row = match words.get(1).filter(|_| !subcommands::of(parent.name).is_empty()) {
        Some(word) => subcommands::known(parent.name, word).ok_or(unknown)?,
        None => parent,
    };
    if details::has_no_keys(row) {
        return Err(CommandError::text("ERR The command has no key arguments"));
    }
    if !row.accepts(words.len()) {
        return Err(CommandError::text("ERR Invalid number of arguments specified for command"));
    }
    let invalid = CommandError::text("ERR Invalid arguments specified for command");
    if let Keys::Counted { at } = row.keys {
        let at = usize::from(at);
        let count = words.get(at).and_then(|word| parse_i64(word)).filter(|count| *count > 0).ok_or(invalid.clone())?;
        if usize::try_from(count).is_ok_and(|count| count > words.len() - at - 1) {
            return Err(invalid);
        }
    }
    let found: Vec<(usize, &[u8])> =
        row.key_positions_of(&words).filter_map(|at| words.get(at).map(|key| (at, *key))).collect();
    let first = found.first().map(|(at, _)| *at).ok_or(invalid)?;
    out.array(found.len());
    for (at, key) in found {
        if with_flags {
            out.array(2);
        }
        out.bulk(key);
        if with_flags {
            details::write_key_flags(out, row, &words, at > first);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
