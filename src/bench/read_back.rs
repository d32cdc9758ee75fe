//! After a load: reads every key once, and holds what is found against what was acknowledged.
//!
//! This is no load: one connection a server, one question at a time, and a question that fails is asked again, of
//! whoever owns the key by then, until [`PATIENCE`] is used up for all keys together. Only then is a key unreadable.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::keys::KeySpace;
use super::ledger::{Found, History, Ledger, Verdict, number_of};
use super::link::{LinkError, ask, connect};
use super::options::Options;
use super::topology::Directory;
use crate::protocol::client::Value;

/// How long keys may stay unreadable, together.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a question is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads all keys of the space.
pub async fn read_back(options: &Options, space: &KeySpace, ledgers: &[Ledger]) -> Verdict {
    let mut history = History::new(ledgers);
    let mut reader = Reader { options, directory: None, streams: HashMap::new(), failing: Duration::ZERO };
    for number in 0..space.count() {
        let key = [space.prefix(), &space.digits(number)].concat();
        let found = match reader.read(space, number, &String::from_utf8_lossy(&key)).await {
            Ok(Value::Bulk(value)) => number_of(&value).map_or(Found::Other, Found::Write),
            Ok(Value::Null) => Found::Nothing,
            Ok(_) => Found::Other,
            Err(_) => Found::Error,
        };
        history.judge(number, found);
    }
    history.verdict()
}

struct Reader<'a> {
    options: &'a Options,
    directory: Option<Directory>,
    streams: HashMap<String, TcpStream>,
    /// How long questions have been failing so far.
    failing: Duration,
}

impl Reader<'_> {
    async fn read(&mut self, space: &KeySpace, number: u64, key: &str) -> Result<Value, LinkError> {
        loop {
            let began = Instant::now();
            match self.ask_owner(space, number, key).await {
                Err(error) if self.failing >= PATIENCE => return Err(error),
                Err(_) => {
                    self.directory = None;
                    self.streams.clear();
                    tokio::time::sleep(PAUSE).await;
                    self.failing += began.elapsed();
                }
                answer => return answer,
            }
        }
    }

    async fn ask_owner(&mut self, space: &KeySpace, number: u64, key: &str) -> Result<Value, LinkError> {
        let Options { addresses, login, cluster, .. } = self.options;
        if *cluster && self.directory.is_none() {
            self.directory = Some(Directory::open(addresses, login).await?);
        }
        let map = self.directory.as_ref().map(Directory::map);
        let owner = map.as_ref().and_then(|map| map.addresses().get(usize::from(map.owner(space.slot(number))?)));
        let address = owner.or(addresses.first()).cloned().unwrap_or_default();
        let stream = match self.streams.remove(&address) {
            Some(stream) => stream,
            None => connect(&address, login).await?,
        };
        let stream = self.streams.entry(address.clone()).or_insert(stream);
        ask(stream, &address, login, &["GET", key]).await
    }
}
