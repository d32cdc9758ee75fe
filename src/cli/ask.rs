//! Asking a cluster for its status: the address that was given, and when that node is silent, the others it told of.

use std::time::Duration;

use crate::server::admin::fetch::{FetchError, fetch};
use crate::server::admin::status::ClusterStatus;
use clap::Arg;

/// The name of the argument.
pub const ADDRESS: &str = "address";
/// How long one node may take. It asks the others itself, for up to 700 ms.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
const DEFAULT_PORT: u16 = 9_379;

/// Where to ask.
pub fn argument() -> Arg {
    Arg::new(ADDRESS).value_name("HOST:ADMIN-PORT").default_value("127.0.0.1:9379").value_parser(Address::parse).help(
        "The admin-port of any node (port + 3000 unless it was given another); a number alone is one of this machine",
    )
}

/// An admin-port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// `host`, `host:port` or `[address]:port`; a number alone is a port of this machine.
    fn parse(text: &str) -> Result<Address, String> {
        let text = text.trim_start_matches("http://").trim_end_matches('/');
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.starts_with('[') => {
                let port = port.parse().map_err(|_| format!("'{port}' is no port"))?;
                (host, port)
            }
            _ => match text.parse() {
                Ok(port) => ("127.0.0.1", port),
                Err(_) => (text, DEFAULT_PORT),
            },
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("the host is missing".into());
        }
        Ok(Address { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Asks again and again, and whoever answers.
pub struct Asker {
    runtime: tokio::runtime::Runtime,
    /// The one that answered last comes first.
    addresses: Vec<Address>,
}

impl Asker {
    /// Fails when there is no event loop to be had.
    pub fn new(first: Address) -> std::io::Result<Asker> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Asker { runtime, addresses: vec![first] })
    }

    /// Who is asked first.
    pub fn address(&self) -> String {
        self.addresses.first().map(ToString::to_string).unwrap_or_default()
    }

    /// The status, from the first node that gives it; or why the first one asked did not.
    pub fn status(&mut self) -> Result<ClusterStatus, String> {
        let mut reason = None;
        for (at, address) in self.addresses.iter().enumerate() {
            match self.runtime.block_on(ask(address)) {
                Ok(status) => {
                    self.addresses.swap(0, at);
                    self.learn(&status);
                    return Ok(status);
                }
                Err(error) => {
                    reason.get_or_insert(error);
                }
            }
        }
        Err(reason.unwrap_or_default())
    }

    /// Remembers where the other members can be asked.
    fn learn(&mut self, status: &ClusterStatus) {
        self.addresses.truncate(1);
        for member in status.nodes.iter().filter(|member| member.admin_port != 0) {
            let address = Address { host: member.host.clone(), port: member.admin_port };
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
    }
}

async fn ask(address: &Address) -> Result<ClusterStatus, String> {
    let body = fetch(&address.host, address.port, "/status", ANSWER_DEADLINE).await.map_err(|error| match error {
        FetchError::NotHttp(_) => format!(
            "{address} is no admin-port: give the port of /metrics, which is port + 3000 unless it was given another"
        ),
        FetchError::Io(error) => format!("cannot ask {address}: {error}; is a node running, and its admin-port this?"),
        error => format!("cannot ask {address}: {error}"),
    })?;
    serde_json::from_slice(&body).map_err(|error| format!("{address} answered with something else: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let cases = [
            ("10.0.0.1:19", "10.0.0.1:19"),
            ("http://box:9379/", "box:9379"),
            ("box", "box:9379"),
            ("9380", "127.0.0.1:9380"),
            ("[::1]:7", "[::1]:7"),
            ("::1", "[::1]:9379"),
        ];
        for (given, expected) in cases {
            assert_eq!(Address::parse(given).unwrap().to_string(), expected, "{given}");
        }
        assert!(Address::parse("box:x").is_err() && Address::parse(":1").is_err());
    }
}
