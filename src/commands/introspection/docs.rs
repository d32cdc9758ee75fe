//! COMMAND DOCS: what a command is for and what arguments it takes.

use super::syntax::{Argument, Kind, parse};
use super::traits::{DEPRECATED, KEY_FLAGS, traits_of};
use crate::commands::spec::{Command, Group};
use crate::commands::subcommands;
use crate::protocol::Reply;

/// Writes the documents of these commands as a map from name to document.
pub fn write_all(out: &mut Reply<'_>, rows: &[&Command]) {
    out.map(rows.len());
    rows.iter().for_each(|row| write(out, row));
}

fn write(out: &mut Reply<'_>, row: &Command) {
    let arguments = parse(row.syntax);
    let subcommands = subcommands::of(row.name);
    let deprecated = DEPRECATED.iter().find(|(name, ..)| *name == row.name);
    // A family's own syntax only says that a subcommand is needed.
    let with_arguments = !arguments.is_empty() && subcommands.is_empty();
    out.bulk(row.name.as_bytes());
    let fields = 4 + 3 * usize::from(deprecated.is_some());
    out.map(fields + usize::from(with_arguments) + usize::from(!subcommands.is_empty()));
    let texts = [
        ("summary", row.summary),
        ("since", row.since),
        ("group", group_name(row.group)),
        ("complexity", row.complexity),
    ];
    texts.into_iter().for_each(|(name, text)| field(out, name, text));
    if let Some((_, since, instead)) = deprecated {
        out.bulk(b"doc_flags");
        out.set(1);
        out.simple("deprecated");
        field(out, "deprecated_since", since);
        field(out, "replaced_by", instead);
    }
    if with_arguments {
        // The first key is said by the first key specification, later ones by the second if there is one.
        let specs = traits_of(KEY_FLAGS, row.name).len();
        write_arguments(out, &arguments, &mut KeySpecs { seen: 0, specs });
    }
    if !subcommands.is_empty() {
        out.bulk(b"subcommands");
        out.map(subcommands.len());
        subcommands.iter().for_each(|subcommand| write(out, subcommand));
    }
}

/// Which key specification the next key belongs to.
struct KeySpecs {
    seen: usize,
    specs: usize,
}

fn write_arguments(out: &mut Reply<'_>, arguments: &[Argument], keys: &mut KeySpecs) {
    out.bulk(b"arguments");
    out.array(arguments.len());
    for argument in arguments {
        write_argument(out, argument, keys);
    }
}

fn write_argument(out: &mut Reply<'_>, argument: &Argument, keys: &mut KeySpecs) {
    let is_key = argument.kind == Kind::Value("key") && keys.specs > 0;
    let flags: Vec<&str> =
        [(argument.optional, "optional"), (argument.multiple, "multiple"), (argument.multiple_token, "multiple_token")]
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, name)| name)
            .collect();
    let parts = match &argument.kind {
        Kind::OneOf(parts) | Kind::Block(parts) => Some(parts),
        Kind::Value(_) | Kind::PureToken => None,
    };
    let optional_fields = [is_key, argument.token.is_some(), !flags.is_empty(), parts.is_some()];
    out.map(2 + optional_fields.iter().filter(|present| **present).count());
    field(out, "name", &argument.name);
    field(out, "type", argument.kind.type_name());
    if is_key {
        out.bulk(b"key_spec_index");
        out.int(keys.seen.min(keys.specs - 1) as i64);
        keys.seen += 1;
    }
    if let Some(token) = &argument.token {
        field(out, "token", token);
    }
    if !flags.is_empty() {
        out.bulk(b"flags");
        out.set(flags.len());
        flags.iter().for_each(|flag| out.simple(flag));
    }
    if let Some(parts) = parts {
        write_arguments(out, parts, keys);
    }
}

fn field(out: &mut Reply<'_>, name: &str, text: &str) {
    out.bulk(name.as_bytes());
    out.bulk(text.as_bytes());
}

fn group_name(group: Group) -> &'static str {
    match group {
        Group::Generic => "generic",
        Group::String => "string",
        Group::Bitmap => "bitmap",
        Group::Hash => "hash",
        Group::Set => "set",
        Group::PubSub => "pubsub",
        Group::Transactions => "transactions",
        Group::Connection => "connection",
        Group::Server => "server",
        Group::Cluster => "cluster",
        Group::Sentinel => "sentinel",
    }
}
