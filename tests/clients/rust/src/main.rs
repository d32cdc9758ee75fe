//! redis-rs and fred, unchanged: plain, pipelined, transactional, on the cluster face, in RESP2 and RESP3.
//!
//! The argument names the client. One line per case; the exit code is the number of cases that failed.

use std::future::Future;

mod fred_client;
mod redis_rs;

/// What a case ends with.
pub type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Where the nodes are: `RONDO_HOST`, and one of the lists of ports.
pub struct Nodes {
    pub host: String,
    pub ports: Vec<u16>,
    pub cluster_ports: Vec<u16>,
}

impl Nodes {
    fn from_env() -> Nodes {
        let text = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let ports = |name: &str| text(name).split(',').map(|port| port.parse().expect("a port")).collect();
        Nodes { host: text("RONDO_HOST"), ports: ports("RONDO_PORTS"), cluster_ports: ports("RONDO_CLUSTER_PORTS") }
    }
}

/// Runs one case and says how it went; 1 when it failed.
pub async fn case(name: &str, outcome: impl Future<Output = Outcome>) -> i32 {
    match tokio::time::timeout(std::time::Duration::from_secs(30), outcome).await {
        Ok(Ok(())) => {
            println!("ok {name}");
            0
        }
        Ok(Err(error)) => {
            println!("FAILED {name}: {error}");
            1
        }
        Err(_) => {
            println!("FAILED {name}: no answer in 30 s");
            1
        }
    }
}

/// An error unless the two are equal.
pub fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{found:?} in place of {expected:?}").into()) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let nodes = Nodes::from_env();
    let failures = match std::env::args().nth(1).as_deref() {
        Some("redis-rs") => redis_rs::run(&nodes).await,
        Some("fred") => fred_client::run(&nodes).await,
        other => panic!("redis-rs or fred, not {other:?}"),
    };
    std::process::exit(failures);
}
