//! MEMORY USAGE: what a key takes. The rest of MEMORY is about the node and belongs to the server.

use crate::commands::CommandError;
use crate::commands::spec::Cx;

/// The place of an entry in its slot's table, in bytes.
const PLACE_BYTES: usize = size_of::<usize>() + 1;

/// MEMORY USAGE key [SAMPLES count]: bytes of the key, its value and what they cost, or null. Nothing is sampled:
/// every value knows its size.
pub(super) fn usage(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    for at in (3..cx.args.len()).step_by(2) {
        if !cx.arg(at)?.eq_ignore_ascii_case(b"SAMPLES") || cx.args.get(at + 1).is_none() {
            return Err(CommandError::Syntax);
        }
        if cx.int(at + 1)? < 0 {
            return Err(CommandError::Syntax);
        }
    }
    let key = cx.arg(2)?;
    match cx.keys.peek(key) {
        Some(entry) => cx.out.int((entry.memory_bytes() + PLACE_BYTES) as i64),
        None => cx.out.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    fn bytes(reply: &str) -> usize {
        reply.trim_start_matches(':').trim_end().parse().expect("a number")
    }

    #[test]
    fn usage_grows_with_the_value_and_options_are_checked() {
        let mut node = Node::new();
        assert_eq!(node.run("MEMORY USAGE none"), "$-1\r\n");
        node.run("SET k v");
        let small = bytes(&node.run("MEMORY USAGE k"));
        node.run(&format!("SET k {}", "v".repeat(10_000)));
        let large = bytes(&node.run("memory usage k SAMPLES 0"));
        assert!((30..100).contains(&small) && (10_000..12_000).contains(&large), "{small} {large}");
        (0..1_000).for_each(|n| drop(node.run(&format!("HSET h f{n} v"))));
        assert!(bytes(&node.run("MEMORY USAGE h SAMPLES 5")) > 20_000);
        for options in ["SAMPLES", "SAMPLES -1", "FOO 1"] {
            assert_eq!(node.run(&format!("MEMORY USAGE k {options}")), "-ERR syntax error\r\n");
        }
        assert_eq!(node.run("MEMORY USAGE k SAMPLES x"), "-ERR value is not an integer or out of range\r\n");
    }
}
