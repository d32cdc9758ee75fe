//! CLIENT: about this connection and the others.
//!
//! Answers and errors are those of Redis 7.0.15, and of 7.2 for SETINFO and NO-TOUCH, which newer clients send.
//! Client-side caching is not offered: TRACKING ON is refused, so that no client believes in invalidations that never
//! come.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply, parse_i64};
use crate::server::state::client::{Client, ReplyMode, Unblocked, state};
use crate::server::state::client_line::ClientType;
use crate::server::state::clients::Clients;

/// Most bytes of a name. Redis has no such limit.
const NAME_BYTES_MAX: usize = 64 << 10;

/// What CLIENT works with.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// The request.
    pub args: Args<'a>,
    /// Everybody.
    pub clients: &'a Clients,
    /// Who asks.
    pub this: &'a Client,
    /// The time of the batch, in milliseconds since 1970.
    pub now_ms: u64,
}

impl<'a> Cx<'a> {
    fn arg(&self, at: usize) -> Result<&'a [u8], CommandError> {
        self.args.get(at).ok_or(CommandError::Syntax)
    }

    /// Argument `at` as ON or OFF.
    fn switch(&self, at: usize) -> Result<bool, CommandError> {
        let word = self.arg(at)?;
        match (word.eq_ignore_ascii_case(b"ON"), word.eq_ignore_ascii_case(b"OFF")) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => Err(CommandError::Syntax),
        }
    }
}

/// Runs CLIENT; true when the client has killed itself, and has to close once it has the answer. CLIENT REPLY OFF and
/// SKIP write nothing.
pub fn run(row: &'static Command, cx: Cx<'_>, out: &mut Reply<'_>) -> Result<bool, CommandError> {
    match subcommands::short_name(subcommands::checked(row, cx.args)?) {
        "id" => out.int(cx.this.id as i64),
        "info" => out.verbatim(b"txt", &[&cx.this.line(cx.now_ms)[..], b"\n"].concat()),
        "list" => list(cx, out)?,
        "kill" => return kill(cx, out),
        "setname" => set_name(cx, out)?,
        "getname" => match cx.this.names().name {
            name if name.is_empty() => out.null(),
            name => out.bulk(&name),
        },
        "setinfo" => set_info(cx, out)?,
        "reply" => reply(cx, out)?,
        "pause" => pause(cx, out)?,
        "unpause" => {
            cx.clients.unpause();
            out.ok();
        }
        "no-evict" => set_state(cx, out, state::NO_EVICT)?,
        "no-touch" => set_state(cx, out, state::NO_TOUCH)?,
        "getredir" => out.int(-1),
        "tracking" => tracking(cx, out)?,
        "trackinginfo" => tracking_info(out),
        "unblock" => unblock(cx, out)?,
        _ => subcommands::help(out, row.name),
    }
    Ok(false)
}

fn set_state(cx: Cx<'_>, out: &mut Reply<'_>, bit: u32) -> Result<(), CommandError> {
    cx.this.set_state(bit, cx.switch(2)?);
    out.ok();
    Ok(())
}

fn list(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let is = |word: &[u8]| cx.args.get(2).is_some_and(|it| it.eq_ignore_ascii_case(word));
    let shown = match cx.args.len() {
        2 => cx.clients.all(),
        4 if is(b"TYPE") => {
            let wanted = parse_type(cx.arg(3)?)?;
            cx.clients.all().into_iter().filter(|client| wanted.includes(client)).collect()
        }
        4.. if is(b"ID") => {
            let ids: Option<Vec<i64>> = cx.args.iter().skip(3).map(parse_i64).collect();
            let ids = ids.ok_or(CommandError::text("ERR Invalid client ID"))?;
            ids.into_iter().filter_map(|id| cx.clients.get(id)).collect()
        }
        _ => return Err(CommandError::Syntax),
    };
    out.verbatim(b"txt", &lines(&shown, cx.now_ms, out.room_bytes()));
    Ok(())
}

/// A line for each client, however often it is named; no more of them than it takes to exceed `bytes_max`.
fn lines(shown: &[Arc<Client>], now_ms: u64, bytes_max: usize) -> Vec<u8> {
    let (mut text, mut written) = (Vec::new(), HashMap::new());
    for client in shown {
        if text.len() > bytes_max {
            break;
        }
        let from = text.len();
        match written.get(&client.id) {
            Some(line) => text.extend_from_within(Range::clone(line)),
            None => {
                text.extend_from_slice(&client.line(now_ms));
                text.push(b'\n');
                written.insert(client.id, from..text.len());
            }
        }
    }
    text
}

fn parse_type(name: &[u8]) -> Result<ClientType, CommandError> {
    ClientType::parse(name).ok_or_else(|| CommandError::quoting("ERR Unknown client type '", name, "'"))
}

/// Whom CLIENT KILL means; what is not said holds for everybody.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    kind: Option<ClientType>,
    addr: Option<SocketAddr>,
    laddr: Option<SocketAddr>,
    /// An address that is none: nobody has it.
    nowhere: bool,
    keep_this: bool,
}

impl Filter {
    fn parse(cx: Cx<'_>) -> Result<Filter, CommandError> {
        let mut filter = Filter { keep_this: true, ..Filter::default() };
        for at in (2..cx.args.len()).step_by(2) {
            let (word, value) = (cx.arg(at)?.to_ascii_uppercase(), cx.arg(at + 1)?);
            match &word[..] {
                b"ID" => {
                    let id = parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                    filter.id = Some(id.ok_or(CommandError::text("ERR client-id should be greater than 0"))?);
                }
                b"TYPE" => filter.kind = Some(parse_type(value)?),
                b"ADDR" => filter.addr = filter.address(value),
                b"LADDR" => filter.laddr = filter.address(value),
                b"USER" if value == b"default" => {}
                b"USER" => return Err(CommandError::quoting("ERR No such user '", value, "'")),
                b"SKIPME" if value.eq_ignore_ascii_case(b"yes") => filter.keep_this = true,
                b"SKIPME" if value.eq_ignore_ascii_case(b"no") => filter.keep_this = false,
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(filter)
    }

    fn address(&mut self, text: &[u8]) -> Option<SocketAddr> {
        let address = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        self.nowhere |= address.is_none();
        address
    }

    fn matches(&self, client: &Client, this: &Client) -> bool {
        !self.nowhere
            && self.id.is_none_or(|id| client.id == id)
            && self.kind.is_none_or(|kind| kind.includes(client))
            && self.addr.is_none_or(|addr| client.addr == addr)
            && self.laddr.is_none_or(|laddr| client.laddr == laddr)
            && !(self.keep_this && client.id == this.id)
    }
}

fn kill(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<bool, CommandError> {
    let old_form = cx.args.len() == 3;
    let filter = if old_form {
        let mut filter = Filter::default();
        filter.addr = filter.address(cx.arg(2)?);
        filter
    } else {
        Filter::parse(cx)?
    };
    let all = cx.clients.all();
    let found: Vec<_> = all.iter().filter(|client| filter.matches(client, cx.this)).collect();
    let is_this = |client: &Client| client.id == cx.this.id;
    found.iter().filter(|client| !is_this(client)).for_each(|client| client.kill());
    match (old_form, found.len()) {
        (true, 0) => return Err(CommandError::text("ERR No such client")),
        (true, _) => out.ok(),
        (false, count) => out.int(count as i64),
    }
    Ok(found.iter().any(|client| is_this(client)))
}

/// Whether a client may call something of itself so; `what` is how the error is to call it. Names stand in lines of
/// CLIENT LIST, so they may hold nothing that ends a field there, and are kept as long as the connection.
fn check_text(what: &str, text: &[u8]) -> Result<(), CommandError> {
    if text.len() > NAME_BYTES_MAX {
        return Err(CommandError::said(format!("ERR {what} may take no more than 64 KB")));
    }
    match text.iter().all(u8::is_ascii_graphic) {
        true => Ok(()),
        false => Err(CommandError::said(format!("ERR {what} cannot contain spaces, newlines or special characters."))),
    }
}

fn set_name(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let name = cx.arg(2)?;
    check_name(name)?;
    cx.this.change_names(|names| names.name = name.to_vec());
    out.ok();
    Ok(())
}

/// Whether a name may be given to a connection; HELLO SETNAME asks as well.
pub fn check_name(name: &[u8]) -> Result<(), CommandError> {
    check_text("Client names", name)
}

fn set_info(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let (option, value) = (cx.arg(2)?, cx.arg(3)?);
    let is_name = option.eq_ignore_ascii_case(b"LIB-NAME");
    if !is_name && !option.eq_ignore_ascii_case(b"LIB-VER") {
        return Err(CommandError::quoting("ERR Unrecognized option '", option, "'"));
    }
    check_text(if is_name { "lib-name" } else { "lib-ver" }, value)?;
    cx.this.change_names(|names| {
        let place = if is_name { &mut names.lib_name } else { &mut names.lib_version };
        *place = value.to_vec();
    });
    out.ok();
    Ok(())
}

fn reply(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let word = cx.arg(2)?.to_ascii_uppercase();
    match &word[..] {
        b"ON" => {
            cx.this.set_reply_mode(ReplyMode::On);
            out.ok();
        }
        b"OFF" => cx.this.set_reply_mode(ReplyMode::Off),
        b"SKIP" if cx.this.reply_mode() == ReplyMode::Off => {}
        b"SKIP" => cx.this.set_reply_mode(ReplyMode::Skip),
        _ => return Err(CommandError::Syntax),
    }
    Ok(())
}

fn pause(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let all = match cx.args.get(3) {
        None => true,
        Some(word) if word.eq_ignore_ascii_case(b"ALL") => true,
        Some(word) if word.eq_ignore_ascii_case(b"WRITE") => false,
        Some(_) => return Err(CommandError::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let ms = parse_i64(cx.arg(2)?).ok_or(CommandError::text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| CommandError::text("ERR timeout is negative"))?;
    cx.clients.pause(cx.now_ms.saturating_add(ms), all, cx.now_ms);
    out.ok();
    Ok(())
}

fn tracking(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    if cx.switch(2)? {
        return Err(CommandError::text("ERR client-side caching is not supported by rondo"));
    }
    out.ok();
    Ok(())
}

fn tracking_info(out: &mut Reply<'_>) {
    out.map(3);
    out.bulk(b"flags");
    out.set(1);
    out.bulk(b"off");
    out.bulk(b"redirect");
    out.int(-1);
    out.bulk(b"prefixes");
    out.array(0);
}

fn unblock(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let known = |word: &[u8]| word.eq_ignore_ascii_case(b"TIMEOUT") || word.eq_ignore_ascii_case(b"ERROR");
    if cx.args.len() > 4 {
        return Err(CommandError::Arity("client|unblock".into()));
    }
    if cx.args.get(3).is_some_and(|word| !known(word)) {
        return Err(CommandError::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    let id = parse_i64(cx.arg(2)?).ok_or(CommandError::NotInteger)?;
    let how = match cx.args.get(3) {
        Some(word) if word.eq_ignore_ascii_case(b"ERROR") => Unblocked::WithError,
        _ => Unblocked::AsByTimeout,
    };
    out.int(i64::from(cx.clients.get(id).is_some_and(|client| client.unblock(how))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table;
    use crate::protocol::client::encode_command;
    use crate::protocol::{Limits, Proto, REPLY_BYTES_MAX, Scanner};
    use crate::server::state::clients::Registration;

    struct Two {
        clients: Arc<Clients>,
        one: Registration,
        two: Registration,
    }

    impl Two {
        fn new() -> Two {
            let clients = Arc::new(Clients::default());
            let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
            let [one, two] = [1, 2].map(|port| clients.register(address(port), address(6379), 0));
            Two { clients, one, two }
        }

        /// What the first client is answered.
        fn ask(&self, line: &str) -> String {
            self.ask_within(format!("{line}\r\n").as_bytes(), REPLY_BYTES_MAX)
        }

        /// What it is answered in so many bytes.
        fn ask_within(&self, request: &[u8], bytes_max: usize) -> String {
            let mut scanner = Scanner::new();
            scanner.scan(request, &Limits::default()).expect("a request");
            let (_, row) = table::find(b"client").expect("a row");
            let mut reply = Vec::new();
            let args = scanner.args(request);
            let cx = Cx { args, clients: &self.clients, this: &self.one.client, now_ms: 1_000 };
            let mut out = Reply::new(&mut reply, Proto::Resp2);
            out.limit(bytes_max);
            match run(row, cx, &mut out) {
                Ok(false) if out.is_cut() => reply.extend_from_slice(b"cut"),
                Ok(false) => {}
                Ok(true) => reply.extend_from_slice(b"and closes"),
                Err(error) => {
                    assert!(reply.is_empty(), "{}", request.escape_ascii());
                    Reply::new(&mut reply, Proto::Resp2).error(error.bytes());
                }
            }
            String::from_utf8(reply).expect("text")
        }
    }

    #[test]
    fn refusals_are_those_of_redis() {
        let two = Two::new();
        // Asked of redis-server 7.0.15, but for SETINFO, which it does not know.
        let cases = [
            ("CLIENT FOO", "unknown subcommand 'FOO'. Try CLIENT HELP."),
            ("CLIENT", "wrong number of arguments for 'client' command"),
            ("CLIENT KILL", "wrong number of arguments for 'client|kill' command"),
            ("CLIENT KILL x", "No such client"),
            ("CLIENT KILL 1.2.3.4:5", "No such client"),
            ("CLIENT KILL ID 0", "client-id should be greater than 0"),
            ("CLIENT KILL TYPE x", "Unknown client type 'x'"),
            ("CLIENT KILL USER nope", "No such user 'nope'"),
            ("CLIENT KILL SKIPME x", "syntax error"),
            ("CLIENT KILL ID 1 FOO", "syntax error"),
            ("CLIENT LIST x", "syntax error"),
            ("CLIENT LIST TYPE x", "Unknown client type 'x'"),
            ("CLIENT LIST ID x", "Invalid client ID"),
            ("CLIENT LIST ID", "syntax error"),
            ("CLIENT REPLY x", "syntax error"),
            ("CLIENT SETNAME \"a b\"", "Client names cannot contain spaces, newlines or special characters."),
            ("CLIENT SETINFO FOO x", "Unrecognized option 'FOO'"),
            ("CLIENT PAUSE x", "timeout is not an integer or out of range"),
            ("CLIENT PAUSE -1", "timeout is negative"),
            ("CLIENT PAUSE 1 FOO", "CLIENT PAUSE mode must be WRITE or ALL"),
            ("CLIENT NO-EVICT x", "syntax error"),
            ("CLIENT UNBLOCK 1 FOO", "CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
            ("CLIENT UNBLOCK x", "value is not an integer or out of range"),
        ];
        for (line, text) in cases {
            assert_eq!(two.ask(line), format!("-ERR {text}\r\n"), "{line}");
        }
        assert!(two.ask("CLIENT TRACKING ON").starts_with("-ERR client-side caching"));
        assert!(!two.two.client.is_killed());
    }

    #[test]
    fn a_client_names_itself_and_is_listed() {
        let two = Two::new();
        assert_eq!((two.ask("CLIENT ID"), two.ask("CLIENT GETNAME")), (":1\r\n".into(), "$-1\r\n".into()));
        for line in ["CLIENT SETNAME app", "CLIENT SETINFO lib-name redis-py", "CLIENT SETINFO LIB-VER 8.1"] {
            assert_eq!(two.ask(line), "+OK\r\n");
        }
        assert_eq!(two.ask("CLIENT GETNAME"), "$3\r\napp\r\n");
        assert!(two.ask("CLIENT INFO").contains(" name=app ") && two.ask("CLIENT INFO").contains("lib-name=redis-py"));
        assert_eq!(two.ask("CLIENT LIST").matches("id=").count(), 2);
        assert_eq!(two.ask("CLIENT LIST ID 2 99").matches("id=").count(), 1);
        assert_eq!(two.ask("CLIENT LIST TYPE pubsub"), "$0\r\n\r\n");
        assert_eq!(two.ask("CLIENT NO-TOUCH ON"), "+OK\r\n");
        assert!(two.one.client.is_in(state::NO_TOUCH));
    }

    #[test]
    fn names_are_bounded() {
        let two = Two::new();
        let asked = |words: &[&[u8]], len: usize| {
            let (name, mut request) = (vec![b'n'; len], Vec::new());
            encode_command(&mut request, &[words, &[&name]].concat());
            two.ask_within(&request, REPLY_BYTES_MAX)
        };
        let cases: [(&[&[u8]], &str); 3] = [
            (&[b"CLIENT", b"SETNAME"], "Client names"),
            (&[b"CLIENT", b"SETINFO", b"LIB-NAME"], "lib-name"),
            (&[b"CLIENT", b"SETINFO", b"LIB-VER"], "lib-ver"),
        ];
        for (words, what) in cases {
            assert_eq!(asked(words, 65_536), "+OK\r\n");
            assert_eq!(asked(words, 65_537), format!("-ERR {what} may take no more than 64 KB\r\n"));
        }
        assert_eq!(two.one.client.names().name.len(), 65_536, "what was refused has changed nothing");
    }

    #[test]
    fn clients_are_listed_as_their_ids_are_given() {
        let two = Two::new();
        let ids = |line| {
            let reply = two.ask(line);
            let words = reply.split_ascii_whitespace();
            words.filter_map(|word| word.strip_prefix("id=")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(ids("CLIENT LIST ID 2 99 1 -1 0 2"), ["2", "1", "2"]);
        assert_eq!(two.ask("CLIENT LIST ID 99"), "$0\r\n\r\n");
        assert_eq!(two.ask("CLIENT LIST ID 2 x"), "-ERR Invalid client ID\r\n");
    }

    /// Comparing each id with all clients would take minutes, and all their lines would take gigabytes.
    #[test]
    fn many_ids_are_found_among_many_clients_and_write_no_more_than_a_reply_may_hold() {
        const IDS: usize = 1_000_000;
        let two = Two::new();
        let addr = two.one.client.addr;
        let _others: Vec<Registration> = (0..10_000).map(|_| two.clients.register(addr, addr, 0)).collect();
        let ask = |id: &[u8]| {
            let mut words: Vec<&[u8]> = vec![b"CLIENT", b"LIST", b"ID"];
            words.resize(IDS, id);
            let mut request = Vec::new();
            encode_command(&mut request, &words);
            two.ask_within(&request, 1 << 20)
        };
        assert_eq!((ask(b"99999"), ask(b"2")), ("$0\r\n\r\n".into(), "cut".into()));
    }

    #[test]
    fn clients_are_killed_by_what_they_are() {
        let two = Two::new();
        assert_eq!(two.ask("CLIENT KILL TYPE normal ADDR 127.0.0.1:9"), ":0\r\n");
        assert_eq!(two.ask("CLIENT KILL TYPE normal"), ":1\r\n");
        assert!(two.two.client.is_killed() && !two.one.client.is_killed());
        assert_eq!(two.ask("CLIENT KILL ID 1 SKIPME no"), ":1\r\nand closes");
        assert!(!two.one.client.is_killed(), "it is to read the answer");
        two.one.client.dismiss();
        assert_eq!(two.ask("CLIENT ID"), ":1\r\n", "what is behind it is answered");
        let two = Two::new();
        assert_eq!(two.ask("CLIENT KILL 127.0.0.1:2"), "+OK\r\n");
        assert!(two.two.client.is_killed());
    }

    #[test]
    fn replies_are_switched_off_and_commands_held_back() {
        let two = Two::new();
        assert_eq!((two.ask("CLIENT REPLY SKIP"), two.one.client.reply_mode()), (String::new(), ReplyMode::Skip));
        assert_eq!((two.ask("CLIENT REPLY OFF"), two.one.client.reply_mode()), (String::new(), ReplyMode::Off));
        assert_eq!((two.ask("CLIENT REPLY SKIP"), two.one.client.reply_mode()), (String::new(), ReplyMode::Off));
        assert_eq!((two.ask("CLIENT REPLY ON"), two.one.client.reply_mode()), ("+OK\r\n".into(), ReplyMode::On));
        assert_eq!(two.ask("CLIENT PAUSE 100 WRITE"), "+OK\r\n");
        assert_eq!(two.clients.paused_until_ms(true, 1_050), Some(1_100));
        assert_eq!(two.ask("CLIENT UNPAUSE"), "+OK\r\n");
        assert_eq!(two.clients.paused_until_ms(true, 1_050), None);
    }
}
