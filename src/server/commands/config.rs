//! CONFIG: options, read and changed while the node runs. What they mean is `base::config`'s business.

use crate::base::config::{Change, Config, SetError};
use crate::base::metrics::Registry;
use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply};
use crate::server::figures::ErrorCodes;
use crate::server::state::client::Client;

/// What CONFIG works with.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// The request.
    pub args: Args<'a>,
    /// The options.
    pub config: &'a Config,
    /// The counters that RESETSTAT sets back.
    pub metrics: &'a Registry,
    /// The errors that it forgets.
    pub errors: &'a ErrorCodes,
    /// Whether the cluster face is asked.
    pub cluster_face: bool,
    /// Who asks.
    pub client: &'a Client,
}

/// Runs CONFIG. REWRITE writes a file while it runs; nothing else waits for a disk.
pub fn run(row: &'static Command, cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let words: Vec<&[u8]> = cx.args.iter().skip(2).collect();
    match subcommands::short_name(subcommands::checked(row, cx.args)?) {
        "get" => {
            let found = cx.config.get(words, cx.cluster_face);
            out.map(found.len());
            for (name, value) in found {
                out.bulk(name.as_bytes());
                out.bulk(value.as_bytes());
            }
        }
        "set" => {
            let (pairs, []) = words.as_chunks() else { return Err(CommandError::Syntax) };
            let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|[name, value]| (*name, *value)).collect();
            let refused = |error: SetError| CommandError::quoting("ERR ", &error.text(), "");
            let changes = cx.config.set(&pairs).map_err(refused)?;
            let (client, addr) = (cx.client.id, cx.client.addr);
            for Change { option, before, after } in changes {
                tracing::info!(option, before, after, client, %addr, "CONFIG SET");
            }
            out.ok();
        }
        "resetstat" => {
            cx.metrics.reset();
            cx.errors.reset();
            out.ok();
        }
        "rewrite" => {
            cx.config.rewrite().map_err(|error| CommandError::said(format!("ERR {error}")))?;
            out.ok();
        }
        _ => subcommands::help(out, row.name),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{Sources, load};
    use crate::commands::table;
    use crate::protocol::{Limits, Proto, Scanner};

    fn ask(config: &Config, line: &str) -> String {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        // Inline requests may quote any byte.
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let (_, row) = table::find(b"config").expect("a row");
        let (metrics, errors) = (Registry::new(Vec::new()), ErrorCodes::default());
        let args = scanner.args(buf.as_bytes());
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let client = Client::new(1, addr, addr, 0);
        let cx = Cx { args, config, metrics: &metrics, errors: &errors, cluster_face: false, client: &client };
        let mut reply = Vec::new();
        if let Err(error) = run(row, cx, &mut Reply::new(&mut reply, Proto::Resp2)) {
            Reply::new(&mut reply, Proto::Resp2).error(error.bytes());
        }
        String::from_utf8(reply).expect("text")
    }

    #[test]
    fn options_are_read_and_changed() {
        let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let config = Config::new(load(&Sources::default(), &no_file).expect("defaults")).expect("defaults");
        assert_eq!(ask(&config, "CONFIG GET MAXMEMORY"), "*2\r\n$9\r\nMAXMEMORY\r\n$1\r\n0\r\n");
        assert_eq!(ask(&config, "CONFIG GET nope"), "*0\r\n");
        assert_eq!(ask(&config, "CONFIG SET maxmemory 1mb slowlog-max-len 5"), "+OK\r\n");
        assert_eq!((config.settings().maxmemory, config.settings().slowlog_max_len), (1 << 20, 5));
        assert_eq!(ask(&config, "CONFIG RESETSTAT"), "+OK\r\n");
        let refusals = [
            ("CONFIG GET", "wrong number of arguments for 'config|get' command"),
            ("CONFIG SET a", "wrong number of arguments for 'config|set' command"),
            ("CONFIG SET a b", "Unknown option or number of arguments for CONFIG SET - 'a'"),
            ("CONFIG SET maxmemory 1 x", "syntax error"),
            (
                r#"CONFIG SET maxmemory 7 requirepass "\xff\xfe""#,
                "CONFIG SET failed (possibly related to argument 'requirepass') - argument must be text in UTF-8",
            ),
            (r#"CONFIG SET a "\xff""#, "Unknown option or number of arguments for CONFIG SET - 'a'"),
            ("CONFIG REWRITE", "The server is running without a config file"),
        ];
        for (line, text) in refusals {
            assert_eq!(ask(&config, line), format!("-ERR {text}\r\n"));
        }
        assert_eq!((config.settings().maxmemory, &*config.settings().requirepass), (1 << 20, ""));
    }
}
