//! Commands about the connection itself: HELLO, AUTH, SELECT, PING, ECHO, QUIT, RESET, and those that answer alike
//! whoever asks: TIME, ROLE.
//!
//! There is one user, `default`, as in a Redis without ACL rules.

use subtle::ConstantTimeEq as _;

use super::client::check_name;
use super::info::REDIS_VERSION;
use crate::base::metrics::{Count, Registry};
use crate::commands::CommandError;
use crate::commands::spec::{Command, NodeCommand};
use crate::protocol::{Args, Proto, Reply, parse_i64};
use crate::server::session::Session;
use crate::server::state::client::{Client, state};

/// What the commands of this file work with.
pub struct Cx<'a> {
    /// The request.
    pub args: Args<'a>,
    /// The connection's state.
    pub session: &'a mut Session,
    /// The connection's record.
    pub client: &'a Client,
    /// `requirepass`, or empty.
    pub password: &'a str,
    /// Where wrong passwords are counted.
    pub metrics: &'a Registry,
    /// `databases`.
    pub databases: usize,
    /// The time, in microseconds since 1970.
    pub now_us: u64,
}

/// Runs one of the commands of this file, replying in the protocol that the session speaks *afterwards*; false when
/// `row` is another command.
pub fn run(
    row: &'static Command,
    command: NodeCommand,
    cx: &mut Cx<'_>,
    out: &mut Reply<'_>,
) -> Result<bool, CommandError> {
    match command {
        NodeCommand::Hello => hello(cx, out)?,
        NodeCommand::Auth => auth(cx, out)?,
        NodeCommand::Select => select(cx, out)?,
        NodeCommand::Ping => ping(row, cx, out)?,
        NodeCommand::Echo => out.bulk(cx.args.get(1).unwrap_or_default()),
        NodeCommand::Quit => {
            cx.session.closing = true;
            out.ok();
        }
        NodeCommand::Reset => reset(cx, out),
        NodeCommand::Time => {
            out.array(2);
            out.bulk((cx.now_us / 1_000_000).to_string().as_bytes());
            out.bulk((cx.now_us % 1_000_000).to_string().as_bytes());
        }
        NodeCommand::Role => {
            out.array(3);
            out.bulk(b"master");
            out.int(0);
            out.array(0);
        }
        NodeCommand::ClusterHint if cx.session.cluster_face => {
            if matches!(row.name, "readonly" | "readwrite") {
                cx.client.set_state(state::READONLY, row.name == "readonly");
            }
            out.ok();
        }
        NodeCommand::ClusterHint => {
            return Err(CommandError::text("ERR This instance has cluster support disabled"));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Checks a name and a password. `given` and the password are compared in a time that does not depend on where they
/// differ.
fn check_password(user: &[u8], given: &[u8], cx: &Cx<'_>) -> Result<(), CommandError> {
    let right = cx.password.is_empty() || bool::from(given.ct_eq(cx.password.as_bytes()));
    if user == b"default" && right {
        return Ok(());
    }
    cx.metrics.count(Count::AuthFailures, 1);
    Err(CommandError::text("WRONGPASS invalid username-password pair or user is disabled."))
}

fn auth(cx: &mut Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let (user, given) = match (cx.args.len(), cx.args.get(1), cx.args.get(2)) {
        (2, Some(_), _) if cx.password.is_empty() => {
            return Err(CommandError::text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        (2, Some(given), _) => (&b"default"[..], given),
        (3, Some(user), Some(given)) => (user, given),
        _ => return Err(CommandError::Syntax),
    };
    check_password(user, given, cx)?;
    cx.session.authenticated = true;
    out.ok();
    Ok(())
}

/// HELLO [protover [AUTH username password] [SETNAME clientname]]: nothing changes unless all of it is right, but for
/// a password that was: that one stays given.
fn hello(cx: &mut Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let mut proto = cx.session.proto;
    if let Some(version) = cx.args.get(1) {
        let invalid = CommandError::text("ERR Protocol version is not an integer or out of range");
        proto = match parse_i64(version).ok_or(invalid)? {
            2 => Proto::Resp2,
            3 => Proto::Resp3,
            _ => return Err(CommandError::text("NOPROTO unsupported protocol version")),
        };
    }
    let (mut name, mut at) = (None, 2);
    while let Some(word) = cx.args.get(at) {
        match (word.to_ascii_uppercase().as_slice(), cx.args.get(at + 1), cx.args.get(at + 2)) {
            (b"AUTH", Some(user), Some(given)) => {
                check_password(user, given, cx)?;
                cx.session.authenticated = true;
                at += 3;
            }
            (b"SETNAME", Some(text), _) => {
                check_name(text)?;
                name = Some(text);
                at += 2;
            }
            _ => return Err(CommandError::quoting("ERR Syntax error in HELLO option '", word, "'")),
        }
    }
    if !cx.session.authenticated {
        return Err(CommandError::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        cx.client.change_names(|names| names.name = name.to_vec());
    }
    cx.session.proto = proto;
    out.proto = proto;
    write_greeting(cx, out);
    Ok(())
}

fn write_greeting(cx: &Cx<'_>, out: &mut Reply<'_>) {
    out.map(7);
    out.bulk(b"server");
    out.bulk(b"redis");
    out.bulk(b"version");
    out.bulk(REDIS_VERSION.as_bytes());
    out.bulk(b"proto");
    out.int(out.proto.version().into());
    out.bulk(b"id");
    out.int(cx.client.id as i64);
    out.bulk(b"mode");
    out.bulk(if cx.session.cluster_face { b"cluster" } else { b"standalone" });
    out.bulk(b"role");
    out.bulk(b"master");
    out.bulk(b"modules");
    out.array(0);
}

fn select(cx: &mut Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let number = parse_i64(cx.args.get(1).unwrap_or_default()).ok_or(CommandError::NotInteger)?;
    if i32::try_from(number).is_err() {
        let text = "ERR value is out of range, value must between -2147483648 and 2147483647";
        return Err(CommandError::text(text));
    }
    if cx.session.cluster_face && number != 0 {
        return Err(CommandError::text("ERR SELECT is not allowed in cluster mode"));
    }
    let db = usize::try_from(number).ok().filter(|db| *db < cx.databases).and_then(|db| u8::try_from(db).ok());
    cx.session.db = db.ok_or(CommandError::text("ERR DB index is out of range"))?;
    out.ok();
    Ok(())
}

/// PING: also the one question that a subscribed RESP2 connection may ask, answered there in the form of a message.
fn ping(row: &'static Command, cx: &Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let message = cx.args.get(1);
    if cx.args.len() > 2 {
        return Err(CommandError::Arity(row.name.into()));
    }
    let subscribed = cx.client.is_in(state::SUBSCRIBED);
    match message {
        _ if subscribed && cx.session.proto == Proto::Resp2 => {
            out.array(2);
            out.bulk(b"pong");
            out.bulk(message.unwrap_or_default());
        }
        Some(message) => out.bulk(message),
        None => out.simple("PONG"),
    }
    Ok(())
}

fn reset(cx: &mut Cx<'_>, out: &mut Reply<'_>) {
    *cx.session = Session::new(cx.session.cluster_face, cx.password);
    cx.client.reset();
    out.proto = Proto::Resp2;
    out.simple("RESET");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::spec::Handler;
    use crate::commands::table;
    use crate::protocol::{Limits, Scanner};
    use crate::server::state::clients::{Clients, Registration};
    use std::sync::Arc;

    struct Connection {
        session: Session,
        registration: Registration,
        password: &'static str,
        metrics: Registry,
    }

    impl Connection {
        fn new(cluster_face: bool, password: &'static str) -> Connection {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
            let registration = Arc::new(Clients::default()).register(address, address, 0);
            let session = Session::new(cluster_face, password);
            Connection { session, registration, password, metrics: Registry::new(Vec::new()) }
        }

        fn ask(&mut self, line: &str) -> String {
            let buf = format!("{line}\r\n");
            let mut scanner = Scanner::new();
            scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
            let args = scanner.args(buf.as_bytes());
            let (_, row) = table::find(args.name()).expect("a row");
            let Handler::Node(command) = row.handler else { panic!("{line} works on keys") };
            let (mut reply, proto) = (Vec::new(), self.session.proto);
            let session = &mut self.session;
            let result = session.admits(row).and_then(|()| {
                let client = &self.registration.client;
                let (password, now_us) = (self.password, 7_000_123);
                let mut cx = Cx { args, session, client, password, metrics: &self.metrics, databases: 16, now_us };
                run(row, command, &mut cx, &mut Reply::new(&mut reply, proto))
            });
            match result {
                Ok(done) => assert!(done, "{line}"),
                Err(error) => Reply::new(&mut reply, proto).error(error.bytes()),
            }
            String::from_utf8(reply).expect("text")
        }
    }

    #[test]
    fn answers_are_those_of_redis() {
        let mut open = Connection::new(false, "");
        let cases = [
            ("HELLO x", "-ERR Protocol version is not an integer or out of range"),
            ("HELLO 4", "-NOPROTO unsupported protocol version"),
            ("HELLO 2 AUTH", "-ERR Syntax error in HELLO option 'AUTH'"),
            ("HELLO 2 AUTH bob x", "-WRONGPASS invalid username-password pair or user is disabled."),
            ("HELLO 2 FOO", "-ERR Syntax error in HELLO option 'FOO'"),
            ("AUTH default x", "+OK"),
            ("AUTH bob x", "-WRONGPASS invalid username-password pair or user is disabled."),
            ("AUTH a b c", "-ERR syntax error"),
            ("SELECT x", "-ERR value is not an integer or out of range"),
            ("SELECT 99", "-ERR DB index is out of range"),
            ("SELECT -1", "-ERR DB index is out of range"),
            ("SELECT 99999999999", "-ERR value is out of range, value must between -2147483648 and 2147483647"),
            ("SELECT 3", "+OK"),
            ("PING", "+PONG"),
            ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
            ("READONLY", "-ERR This instance has cluster support disabled"),
        ];
        for (line, text) in cases {
            assert_eq!(open.ask(line), format!("{text}\r\n"), "{line}");
        }
        assert_eq!(open.session.db, 3);
        assert!(open.ask("AUTH x").starts_with("-ERR AUTH <password> called without any password configured"));
        assert_eq!((open.ask("PING a"), open.ask("ECHO b")), ("$1\r\na\r\n".into(), "$1\r\nb\r\n".into()));
        assert_eq!(open.ask("TIME"), "*2\r\n$1\r\n7\r\n$3\r\n123\r\n");
        assert_eq!(open.ask("ROLE"), "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
        assert_eq!((open.ask("QUIT"), open.session.closing), ("+OK\r\n".into(), true));
    }

    #[test]
    fn hello_changes_the_protocol_from_its_own_reply_on() {
        let mut open = Connection::new(false, "");
        let greeting = open.ask("HELLO 3 SETNAME app");
        assert!(greeting.starts_with(
            "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n"
        ));
        assert_eq!(open.registration.client.names().name, b"app");
        assert!(open.ask("HELLO 2").starts_with("*14\r\n"));
        assert!(Connection::new(true, "").ask("HELLO").contains("$7\r\ncluster\r\n"));
        open.ask("HELLO 3");
        open.ask("SELECT 2");
        assert_eq!(open.ask("RESET"), "+RESET\r\n");
        assert_eq!(open.session, Session::new(false, ""));
    }

    #[test]
    fn nothing_but_greetings_before_the_password() {
        let mut locked = Connection::new(false, "pw");
        for line in ["PING", "CLIENT ID", "SELECT 1"] {
            assert_eq!(locked.ask(line), "-NOAUTH Authentication required.\r\n");
        }
        assert!(locked.ask("HELLO 3").starts_with("-NOAUTH HELLO must be called"));
        for line in ["AUTH bad", "AUTH bob pw", "HELLO 3 AUTH default bad", "AUTH pw2", "AUTH p"] {
            assert!(locked.ask(line).starts_with("-WRONGPASS "), "{line}");
        }
        assert!(locked.ask("HELLO 3 AUTH default pw").starts_with("%7"));
        assert_eq!(locked.ask("PING"), "+PONG\r\n");
        locked.ask("RESET");
        assert_eq!(locked.ask("PING"), "-NOAUTH Authentication required.\r\n");
        assert_eq!(locked.ask("AUTH pw"), "+OK\r\n");
    }

    #[test]
    fn the_cluster_face_has_one_database_and_subscribers_are_ponged_in_messages() {
        let mut cluster = Connection::new(true, "");
        assert_eq!(cluster.ask("SELECT 1"), "-ERR SELECT is not allowed in cluster mode\r\n");
        assert_eq!((cluster.ask("SELECT 0"), cluster.ask("READONLY")), ("+OK\r\n".into(), "+OK\r\n".into()));
        let is_shown = |cluster: &Connection| cluster.registration.client.is_in(state::READONLY);
        assert!(is_shown(&cluster));
        assert_eq!(cluster.ask("READWRITE"), "+OK\r\n");
        assert!(!is_shown(&cluster));
        cluster.registration.client.set_state(state::SUBSCRIBED, true);
        assert_eq!(cluster.ask("PING"), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        assert_eq!(cluster.ask("PING x"), "*2\r\n$4\r\npong\r\n$1\r\nx\r\n");
        cluster.ask("HELLO 3");
        assert_eq!(cluster.ask("PING"), "+PONG\r\n");
    }
}
