//! fred: centralized, clustered and Sentinel configurations.

use fred::prelude::*;
use fred::types::RespVersion;

use crate::{Nodes, Outcome, case, same};

pub async fn run(nodes: &Nodes) -> i32 {
    let mut failures = 0;
    for (name, version) in [("RESP2", RespVersion::RESP2), ("RESP3", RespVersion::RESP3)] {
        let url = format!("redis://{}:{}", nodes.host, nodes.ports[0]);
        failures += case(&format!("one node in {name}"), plain(url, version.clone())).await;
        let list: Vec<String> = nodes.cluster_ports.iter().map(|port| format!("node={}:{port}", nodes.host)).collect();
        let url = format!("redis-cluster://{}:{}?{}", nodes.host, nodes.cluster_ports[0], list.join("&"));
        failures += case(&format!("cluster in {name}"), cluster(url, version.clone())).await;
    }
    let url = format!("redis-sentinel://{}:{}?sentinelServiceName=mymaster", nodes.host, nodes.ports[1]);
    failures + case("sentinel", plain(url, RespVersion::RESP3)).await
}

async fn connect(url: &str, version: RespVersion) -> Result<Client, Error> {
    let mut config = Config::from_url(url)?;
    config.version = version;
    let client = Builder::from_config(config).build()?;
    client.init().await?;
    Ok(client)
}

async fn plain(url: String, version: RespVersion) -> Outcome {
    let client = connect(&url, version).await?;
    let () = client.flushall(false).await?;
    let () = client.set("fred:a", 1, Some(Expiration::EX(100)), None, false).await?;
    same(client.incr_by::<i64, _>("fred:a", 41).await?, 42)?;
    let () = client.mset(vec![("fred:b", 1), ("fred:c", 2)]).await?;
    same(client.mget::<Vec<i64>, _>(vec!["fred:c", "fred:b", "fred:a"]).await?, vec![2, 1, 42])?;
    let () = client.rename("fred:b", "fred:renamed").await?;
    same(client.get::<i64, _>("fred:renamed").await?, 1)?;
    let pipeline = client.pipeline();
    for i in 0..100 {
        let () = pipeline.incr(format!("fred:p:{}", i % 10)).await?;
    }
    same(pipeline.last::<i64>().await?, 10)?;
    let transaction = client.multi();
    let () = transaction.set("{fred}:t", 1, None, None, false).await?;
    let () = transaction.incr("{fred}:t").await?;
    same(transaction.exec::<(String, i64)>(true).await?, ("OK".to_owned(), 2))?;
    same(client.dbsize::<i64>().await?, 14)?;
    client.quit().await?;
    Ok(())
}

async fn cluster(url: String, version: RespVersion) -> Outcome {
    let client = connect(&url, version).await?;
    for i in 0..200 {
        let () = client.set(format!("fred:c:{i}"), i, None, None, false).await?;
    }
    for i in 0..200 {
        same(client.get::<i64, _>(format!("fred:c:{i}")).await?, i)?;
    }
    client.quit().await?;
    Ok(())
}
