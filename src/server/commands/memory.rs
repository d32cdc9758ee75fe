//! MEMORY: what the node takes. MEMORY USAGE, which is about a key, is with the commands on keys.

use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply};
use crate::server::figures::memory::MemoryFigures;

/// Above this share of resident memory over counted memory, memory is badly used.
const FRAGMENTATION_BAD: f64 = 1.4;

/// Less than this is too little to judge by, in bytes.
const JUDGED_BYTES_MIN: u64 = 5 << 20;

/// Runs MEMORY, but for USAGE.
pub fn run(
    row: &'static Command,
    args: Args<'_>,
    figures: MemoryFigures,
    out: &mut Reply<'_>,
) -> Result<(), CommandError> {
    match subcommands::short_name(subcommands::checked(row, args)?) {
        "doctor" => out.verbatim(b"txt", doctor(&figures).as_bytes()),
        "stats" => stats(&figures, out),
        // The allocator gives free pages back by itself.
        "purge" => out.ok(),
        "malloc-stats" => out.bulk(b"Stats not supported for the current allocator"),
        _ => subcommands::help(out, row.name),
    }
    Ok(())
}

fn doctor(figures: &MemoryFigures) -> String {
    if figures.used_bytes < JUDGED_BYTES_MIN {
        return "There is too little data here to judge how memory is used.\n".into();
    }
    let mut found = Vec::new();
    if figures.fragmentation() > FRAGMENTATION_BAD {
        found.push(format!(
            "The process holds {:.2} times the memory of its keys: many keys of other sizes were deleted, or clients \
             leave large replies waiting.",
            figures.fragmentation()
        ));
    }
    if figures.peak_bytes > figures.used_bytes / 2 * 3 {
        found.push("At its peak the data took more than half again as much as now.".into());
    }
    if figures.limit_bytes > 0 && figures.used_bytes > figures.limit_bytes / 10 * 9 {
        found.push(
            "Keys and values take more than nine tenths of maxmemory: keys are evicted or writes refused.".into(),
        );
    }
    if found.is_empty() { "Nothing is wrong with this node's memory.\n".into() } else { found.join("\n") + "\n" }
}

fn stats(figures: &MemoryFigures, out: &mut Reply<'_>) {
    let per_key = figures.used_bytes.checked_div(figures.keys).unwrap_or(0);
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    let counts = [
        ("peak.allocated", figures.peak_bytes),
        ("total.allocated", figures.used_bytes),
        ("startup.allocated", 0),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", figures.client_bytes),
        ("cluster.links", 0),
        ("aof.buffer", 0),
        ("lua.caches", 0),
        ("functions.caches", 0),
        ("overhead.total", 0),
        ("keys.count", figures.keys),
        ("keys.bytes-per-key", per_key),
        ("dataset.bytes", figures.used_bytes),
    ];
    let shares = [
        ("dataset.percentage", share(figures.used_bytes, figures.used_bytes)),
        ("peak.percentage", share(figures.used_bytes, figures.peak_bytes)),
        ("fragmentation", figures.fragmentation()),
    ];
    out.map(counts.len() + shares.len() + 1);
    for (name, count) in counts {
        out.bulk(name.as_bytes());
        out.int(count as i64);
    }
    for (name, share) in shares {
        out.bulk(name.as_bytes());
        out.double(share);
    }
    out.bulk(b"fragmentation.bytes");
    out.int(figures.resident_bytes as i64 - figures.used_bytes as i64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table;
    use crate::protocol::client::{ReplyDecoder, Value};
    use crate::protocol::{Limits, Proto, Scanner};

    fn ask(figures: MemoryFigures, line: &str) -> Value {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let (_, row) = table::find(b"memory").expect("a row");
        let mut reply = Vec::new();
        run(row, scanner.args(buf.as_bytes()), figures, &mut Reply::new(&mut reply, Proto::Resp3)).expect("an answer");
        let (value, len) = ReplyDecoder::default().decode(&reply).expect("well-formed").expect("complete");
        assert_eq!(len, reply.len());
        value
    }

    #[test]
    fn figures_are_told_and_judged() {
        let figures = MemoryFigures {
            used_bytes: 10 << 20,
            peak_bytes: 20 << 20,
            resident_bytes: 15 << 20,
            keys: 1 << 10,
            ..MemoryFigures::default()
        };
        let Value::Map(stats) = ask(figures, "MEMORY STATS") else { panic!("a map") };
        assert!(stats.contains(&(Value::Bulk(b"keys.bytes-per-key".into()), Value::Int(10 << 10))));
        assert!(stats.contains(&(Value::Bulk(b"peak.percentage".into()), Value::Double(50.0))));
        let told = format!("{:?}", ask(figures, "MEMORY DOCTOR"));
        let quiet = format!(
            "{:?}",
            ask(MemoryFigures { resident_bytes: 11 << 20, peak_bytes: 10 << 20, ..figures }, "MEMORY DOCTOR")
        );
        assert_ne!(told, quiet);
        assert!(doctor(&figures).contains("1.50 times") && doctor(&MemoryFigures::default()).contains("too little"));
    }
}
