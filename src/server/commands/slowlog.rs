//! SLOWLOG: what the node's slow log (`figures::slow_log`) holds.

use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply, parse_i64};
use crate::server::figures::slow_log::SlowLog;

/// Entries that SLOWLOG GET answers with unless told otherwise.
const GET_DEFAULT: i64 = 10;

/// Runs SLOWLOG.
pub fn run(row: &'static Command, args: Args<'_>, log: &SlowLog, out: &mut Reply<'_>) -> Result<(), CommandError> {
    match subcommands::short_name(subcommands::checked(row, args)?) {
        "get" => get(args, log, out)?,
        "len" => out.int(log.len() as i64),
        "reset" => {
            log.clear();
            out.ok();
        }
        _ => subcommands::help(out, row.name),
    }
    Ok(())
}

fn get(args: Args<'_>, log: &SlowLog, out: &mut Reply<'_>) -> Result<(), CommandError> {
    if args.len() > 3 {
        return Err(CommandError::Arity("slowlog|get".into()));
    }
    let count = args.get(2).map_or(Some(GET_DEFAULT), parse_i64).filter(|count| *count >= -1);
    let count = count.ok_or(CommandError::text("ERR count should be greater than or equal to -1"))?;
    let entries = log.latest(usize::try_from(count).unwrap_or(usize::MAX));
    out.array(entries.len());
    for entry in entries {
        out.array(6);
        out.int(entry.id as i64);
        out.int(entry.at_s as i64);
        out.int(entry.took_us as i64);
        out.array(entry.args.len());
        entry.args.iter().for_each(|arg| out.bulk(arg));
        out.bulk(entry.addr.to_string().as_bytes());
        out.bulk(&entry.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    use crate::commands::table;
    use crate::protocol::{Limits, Proto, Scanner};
    use crate::server::figures::slow_log::Sender;

    fn note(log: &SlowLog, line: &str, len_max: usize) {
        note_of(log, line, len_max, b"app");
    }

    fn note_of(log: &SlowLog, line: &str, len_max: usize, name: &[u8]) {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let sender = Sender { addr: SocketAddr::from(([127, 0, 0, 1], 9)), name };
        log.set_limits(0, len_max);
        log.note(scanner.args(buf.as_bytes()), 0, 20_000, 5_000, sender);
    }

    fn ask(log: &SlowLog, line: &str) -> String {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let (_, row) = table::find(b"slowlog").expect("a row");
        let mut reply = Vec::new();
        if let Err(error) = run(row, scanner.args(buf.as_bytes()), log, &mut Reply::new(&mut reply, Proto::Resp2)) {
            Reply::new(&mut reply, Proto::Resp2).error(error.bytes());
        }
        String::from_utf8(reply).expect("text")
    }

    #[test]
    fn the_latest_come_first_and_the_oldest_go() {
        let log = SlowLog::default();
        ["SET a 1", "GET a", "DEL a"].iter().for_each(|line| note(&log, line, 2));
        assert_eq!(ask(&log, "SLOWLOG LEN"), ":2\r\n");
        let first = "*6\r\n:2\r\n:5\r\n:20000\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n$11\r\n127.0.0.1:9\r\n$3\r\napp\r\n";
        assert_eq!(ask(&log, "SLOWLOG GET 1"), format!("*1\r\n{first}"));
        assert!(ask(&log, "SLOWLOG GET -1").starts_with("*2\r\n"));
        assert_eq!((ask(&log, "SLOWLOG RESET"), ask(&log, "SLOWLOG GET")), ("+OK\r\n".into(), "*0\r\n".into()));
        note(&log, "GET b", 2);
        assert!(ask(&log, "SLOWLOG GET").contains(":3\r\n"));
    }

    #[test]
    fn counts_are_checked_and_long_requests_cut() {
        let log = SlowLog::default();
        for count in ["x", "-2"] {
            let refused = "-ERR count should be greater than or equal to -1\r\n";
            assert_eq!(ask(&log, &format!("SLOWLOG GET {count}")), refused);
        }
        note(&log, &format!("MSET {} {}", "k".repeat(200), "v ".repeat(40)), 9);
        let shown = ask(&log, "SLOWLOG GET");
        assert!(
            shown.contains("*32\r\n")
                && shown.contains("... (72 more bytes)")
                && shown.contains("... (11 more arguments)")
        );
    }

    #[test]
    fn long_names_of_clients_are_cut() {
        let log = SlowLog::default();
        note_of(&log, "GET a", 9, &[b'n'; 60_000]);
        let shown = ask(&log, "SLOWLOG GET");
        assert!(shown.ends_with(&format!("\r\n{}... (59872 more bytes)\r\n", "n".repeat(128))), "{shown}");
    }

    #[test]
    fn passwords_are_not_kept() {
        let log = SlowLog::default();
        let lines = ["AUTH pw", "AUTH me pw", "HELLO 3 AUTH me pw SETNAME x", "CONFIG SET requirepass pw"];
        lines.iter().for_each(|line| note(&log, line, 9));
        let shown = ask(&log, "SLOWLOG GET");
        assert!(!shown.contains("pw") && !shown.contains("\r\nme\r\n"), "{shown}");
        assert!(shown.contains("SETNAME") && shown.contains("requirepass"));
        assert_eq!((log.is_slow(0), log.limit_us()), (true, 0));
    }
}
