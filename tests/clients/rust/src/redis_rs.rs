//! redis-rs: multiplexed connections, pipelines, transactions, scans, and the cluster client.

use redis::cluster::ClusterClientBuilder;
use redis::{AsyncCommands, AsyncIter, Client, RedisResult};

use crate::{Nodes, Outcome, case, same};

pub async fn run(nodes: &Nodes) -> i32 {
    let mut failures = 0;
    for protocol in ["resp2", "resp3"] {
        failures += case(&format!("commands in {protocol}"), commands(nodes, protocol)).await;
        failures += case(&format!("pipelines in {protocol}"), pipelines(nodes, protocol)).await;
        failures += case(&format!("scans in {protocol}"), scans(nodes, protocol)).await;
    }
    failures + case("cluster", cluster(nodes)).await
}

async fn connect(nodes: &Nodes, at: usize, protocol: &str) -> RedisResult<redis::aio::MultiplexedConnection> {
    let url = format!("redis://{}:{}/0?protocol={protocol}", nodes.host, nodes.ports[at]);
    Client::open(url)?.get_multiplexed_async_connection().await
}

async fn commands(nodes: &Nodes, protocol: &str) -> Outcome {
    let mut first = connect(nodes, 0, protocol).await?;
    let mut second = connect(nodes, 1, protocol).await?;
    let () = redis::cmd("FLUSHALL").query_async(&mut first).await?;
    let () = first.set_ex("rs:a", 1, 100).await?;
    same(second.incr::<_, _, i64>("rs:a", 41).await?, 42)?;
    let () = first.mset(&[("rs:b", 1), ("rs:c", 2), ("rs:d", 3)]).await?;
    same(second.mget::<_, Vec<Option<i64>>>(&["rs:d", "rs:none", "rs:b"]).await?, vec![Some(3), None, Some(1)])?;
    let () = second.rename("rs:b", "rs:renamed").await?;
    same(first.get::<_, i64>("rs:renamed").await?, 1)?;
    same(first.mset_nx::<_, _, bool>(&[("rs:x", 1), ("rs:c", 1)]).await?, false)?;
    let () = first.hset_multiple("rs:h", &[("f", "1"), ("g", "2")]).await?;
    same(second.hget::<_, _, String>("rs:h", "g").await?, "2".to_owned())?;
    let () = first.sadd("rs:s", &["m", "n"]).await?;
    let () = first.sadd("rs:t", "n").await?;
    same(second.sinter::<_, Vec<String>>(&["rs:s", "rs:t"]).await?, vec!["n".to_owned()])?;
    same(first.del::<_, i64>(&["rs:a", "rs:c", "rs:d", "rs:none"]).await?, 3)?;
    let wrong: RedisResult<i64> = first.incr("rs:h", 1).await;
    same(wrong.err().and_then(|error| error.code().map(str::to_owned)), Some("WRONGTYPE".to_owned()))
}

async fn pipelines(nodes: &Nodes, protocol: &str) -> Outcome {
    let mut one = connect(nodes, 2, protocol).await?;
    let mut pipe = redis::pipe();
    for i in 0..200 {
        pipe.set(format!("rs:p:{i}"), i).ignore();
    }
    for i in 0..200 {
        pipe.get(format!("rs:p:{i}"));
    }
    same(pipe.query_async::<Vec<i64>>(&mut one).await?, (0..200).collect())?;
    let mut transaction = redis::pipe();
    transaction.atomic().set("{rs}:t", 1).ignore().incr("{rs}:t", 1).get("{rs}:t");
    same(transaction.query_async::<(i64, i64)>(&mut one).await?, (2, 2))
}

async fn scans(nodes: &Nodes, protocol: &str) -> Outcome {
    let mut one = connect(nodes, 0, protocol).await?;
    for i in 0..300 {
        let () = one.set(format!("rs:scan:{i}"), i).await?;
    }
    let mut found = std::collections::BTreeSet::new();
    let mut keys: AsyncIter<'_, String> = one.scan_match("rs:scan:*").await?;
    while let Some(key) = keys.next_item().await {
        found.insert(key?);
    }
    same(found.len(), 300)
}

async fn cluster(nodes: &Nodes) -> Outcome {
    let urls = nodes.cluster_ports.iter().map(|port| format!("redis://{}:{port}", nodes.host));
    let mut smart = ClusterClientBuilder::new(urls).build()?.get_async_connection().await?;
    for i in 0..200 {
        let () = smart.set(format!("rs:c:{i}"), i).await?;
    }
    for i in 0..200 {
        same(smart.get::<_, i64>(format!("rs:c:{i}")).await?, i)?;
    }
    let keys: Vec<String> = (0..50).map(|i| format!("rs:c:{i}")).collect();
    same(smart.mget::<_, Vec<i64>>(&keys).await?, (0..50).collect())?;
    same(smart.del::<_, i64>(&keys).await?, 50)
}
