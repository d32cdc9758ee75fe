//! RONDO.FORGET: a dead node is given up for ever. What that takes is `cluster`'s business.
//!
//! A node is named by its id, by the first digits of it, or by what people call it (its `node-name`), as long as that
//! means one node only. Ids of nodes that were given up before mean nobody.

use crate::base::ids::NodeId;
use crate::cluster::ForgetError;
use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply};
use crate::ring::{Row, RowState, Rows};
use crate::server::state::NodeState;

/// Digits of an id that may stand for it, at least.
const PREFIX_MIN: usize = 8;

/// RONDO.FORGET node, with the words of CLUSTER FORGET where that has them.
pub fn run(row: &Command, args: Args<'_>, node: &NodeState, out: &mut Reply<'_>) -> Result<(), CommandError> {
    if subcommands::asks_for_help(args) {
        subcommands::help_alone(out, row);
        return Ok(());
    }
    let snapshot = node.snapshot.load();
    let id = find(&snapshot.rows, args.get(1).unwrap_or_default())?;
    let cluster = node.cluster.get().ok_or(CommandError::text("ERR this node has not started yet"))?;
    cluster.forget(&id).map_err(|error| match error {
        // Its links are down, and gossip has not agreed yet: that takes some seconds.
        ForgetError::Alive(id) if snapshot.down_since.contains_key(&id) => {
            CommandError::said(format!("ERR Node {id} is not yet known to be dead: try again in some seconds"))
        }
        error => CommandError::said(error.to_string()),
    })?;
    out.ok();
    Ok(())
}

/// The node that is meant.
fn find(rows: &Rows, text: &[u8]) -> Result<NodeId, CommandError> {
    let unknown = || CommandError::quoting("ERR Unknown node ", text, "");
    let word = std::str::from_utf8(text).map_err(|_| unknown())?;
    if let Ok(id) = word.parse() {
        return Ok(id);
    }
    let digits = word.to_ascii_lowercase();
    let is_meant = |row: &&Row| {
        let has_digits = digits.len() >= PREFIX_MIN && row.id.to_string().starts_with(&digits);
        row.state != RowState::Gone && (has_digits || row.shown_name() == word)
    };
    let mut meant = rows.iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(row), None) => Ok(row.id),
        (None, _) => Err(unknown()),
        _ => Err(CommandError::quoting("ERR More than one node is meant by ", text, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::state::snapshot::tests::rows_of;

    #[test]
    fn a_node_is_named_by_what_means_it_alone() {
        let mut rows = rows_of(3);
        let ids: Vec<NodeId> = rows.iter().map(|row| row.id).collect();
        let named = |rows: &Rows, text: &str| find(rows, text.as_bytes()).map_err(|error| error.to_string());
        let name = |rows: &Rows, at: usize| rows.get(&ids[at]).expect("a row").name.clone();
        for (at, id) in ids.iter().enumerate() {
            let whole = id.to_string();
            for text in [&whole, &whole[..8], &whole[..12].to_uppercase(), &name(&rows, at)] {
                assert_eq!(named(&rows, text), Ok(*id), "{text}");
            }
            assert_eq!(named(&rows, &whole[..7]), Err(format!("ERR Unknown node {}", &whole[..7])));
        }
        for nobody in ["", "n4", "N1", "zzzzzzzz"] {
            assert_eq!(named(&rows, nobody), Err(format!("ERR Unknown node {nobody}")));
        }
        // An id that no row names is the cluster's to refuse.
        let stranger = NodeId::random();
        assert_eq!(named(&rows, &stranger.to_string()), Ok(stranger));
        let twin = Row { name: name(&rows, 0), version: 2, ..rows.get(&ids[1]).expect("a row").clone() };
        rows.merge(twin);
        assert_eq!(
            named(&rows, &name(&rows, 0)),
            Err(format!("ERR More than one node is meant by {}", name(&rows, 0)))
        );
        rows.mark_gone(&ids[1]);
        assert_eq!(named(&rows, &name(&rows, 0)), Ok(ids[0]));
    }
}
