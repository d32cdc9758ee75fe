//! What the tests of this part share: options made of names and values.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::config::{Config, Settings, Sources, load};
use crate::base::ids::NodeId;
use crate::ring::{Row, RowState};

/// The options with these ones set.
pub fn config(options: &[(&str, &str)]) -> Arc<Config> {
    let flags = options.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
    let loaded = load(&Sources { flags, ..Sources::default() }, &|_| Ok(String::new())).expect("good options");
    Arc::new(Config::new(loaded).expect("options that fit together"))
}

/// As [`config`], as plain fields.
pub fn settings(options: &[(&str, &str)]) -> Settings {
    Settings::clone(&config(options).settings())
}

/// A warm row of this number and state.
pub fn row(number: u8, state: RowState) -> Row {
    Row {
        id: NodeId::from_bytes([number; 20]),
        state,
        peer_addr: SocketAddr::from(([127, 0, 0, 1], 16_000 + u16::from(number))),
        name: format!("n{number}"),
        host: "127.0.0.1".to_owned(),
        port: 6_000 + u16::from(number),
        cluster_port: 7_000 + u16::from(number),
        admin_port: 9_000 + u16::from(number),
        zone: String::new(),
        weight: 1.0,
        warm: true,
        generation: 1,
        version: 1,
    }
}
