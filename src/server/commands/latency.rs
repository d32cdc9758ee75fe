//! LATENCY: distributions of the time that commands take.
//!
//! HISTOGRAM answers from the node's own distributions, whose bounds are powers of two microseconds as Redis's are.
//! There is no monitor of single spikes (`latency-monitor-threshold` is fixed at 0), so LATEST, HISTORY and RESET
//! answer as a Redis does whose monitor is off.

use crate::base::metrics::{CommandTotals, Totals};
use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply};

/// Runs LATENCY over what was counted.
pub fn run(row: &'static Command, args: Args<'_>, totals: &Totals, out: &mut Reply<'_>) -> Result<(), CommandError> {
    match subcommands::short_name(subcommands::checked(row, args)?) {
        "histogram" => histogram(args, totals, out),
        "latest" | "history" => out.array(0),
        "reset" => out.int(0),
        "graph" => {
            let event = args.get(2).unwrap_or_default();
            return Err(CommandError::quoting("ERR No samples available for event '", event, "'"));
        }
        "doctor" => out.verbatim(
            b"txt",
            b"rondo keeps no list of latency spikes. LATENCY HISTOGRAM shows how long \
            commands take, SLOWLOG GET shows the slowest, and /metrics on the admin port has both over time.\n",
        ),
        _ => subcommands::help(out, row.name),
    }
    Ok(())
}

fn histogram(args: Args<'_>, totals: &Totals, out: &mut Reply<'_>) {
    let wanted = |command: &&CommandTotals| {
        // A family's name means all of its subcommands.
        let family = command.name.split('|').next().unwrap_or_default();
        let is_meant =
            |word: &[u8]| [command.name, family].iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
        args.len() == 2 || args.iter().skip(2).any(is_meant)
    };
    let ran: Vec<&CommandTotals> = totals.commands.iter().filter(wanted).filter(|it| it.latency.count() > 0).collect();
    out.map(ran.len());
    for command in ran {
        out.bulk(command.name.as_bytes());
        out.map(2);
        out.bulk(b"calls");
        out.int(command.calls as i64);
        out.bulk(b"histogram_usec");
        let buckets = command.latency.buckets.iter().enumerate().filter(|(_, events)| **events > 0);
        let mut seen = 0;
        let cumulated: Vec<(u64, u64)> = buckets
            .map(|(power, events)| {
                seen += events;
                (1 << power, seen)
            })
            .collect();
        out.map(cumulated.len());
        for (bound_us, events) in cumulated {
            out.int(bound_us as i64);
            out.int(events as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::base::metrics::Registry;
    use crate::commands::table;
    use crate::protocol::{Limits, Proto, Reply, Scanner};

    fn ask(registry: &Registry, line: &str) -> String {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let (_, row) = table::find(b"latency").expect("a row");
        let (args, totals, mut reply) = (scanner.args(buf.as_bytes()), registry.totals(), Vec::new());
        if let Err(error) = run(row, args, &totals, &mut Reply::new(&mut reply, Proto::Resp3)) {
            Reply::new(&mut reply, Proto::Resp3).error(error.bytes());
        }
        String::from_utf8(reply).expect("text")
    }

    #[test]
    fn distributions_are_cumulated_and_monitors_are_off() {
        let registry = Registry::new(vec!["get", "set"]);
        let worker = registry.worker();
        worker.ran(1, 3, 3);
        worker.ran(1, 1, 7);
        let set = "$3\r\nset\r\n%2\r\n$5\r\ncalls\r\n:4\r\n$14\r\nhistogram_usec\r\n%2\r\n:1\r\n:3\r\n:8\r\n:4\r\n";
        assert_eq!(ask(&registry, "LATENCY HISTOGRAM SET get nope"), format!("%1\r\n{set}"));
        assert_eq!(ask(&registry, "LATENCY HISTOGRAM"), format!("%1\r\n{set}"));
        assert_eq!(ask(&registry, "LATENCY HISTOGRAM se s"), "%0\r\n");
        assert_eq!(ask(&registry, "LATENCY LATEST"), "*0\r\n");
        assert_eq!(ask(&registry, "LATENCY RESET"), ":0\r\n");
        assert_eq!(ask(&registry, "LATENCY GRAPH x"), "-ERR No samples available for event 'x'\r\n");
        assert_eq!(ask(&registry, "LATENCY FOO"), "-ERR unknown subcommand 'FOO'. Try LATENCY HELP.\r\n");
    }
}
