// ioredis, unchanged: plain, pipelines, MULTI, RESP3 where the version has it, Cluster, Sentinel.
//
// Environment: RONDO_HOST, RONDO_PORTS, RONDO_CLUSTER_PORTS. One line per case; exits with the number of failures.
"use strict";
const assert = require("assert");
const { run } = require("./cases.js");
const Redis = require("ioredis");

const host = process.env.RONDO_HOST || "127.0.0.1";
const ports = process.env.RONDO_PORTS.split(",").map(Number);
const clusterPorts = process.env.RONDO_CLUSTER_PORTS.split(",").map(Number);
const cases = [];
const plain = (options = {}) => new Redis({ host, port: ports[0], maxRetriesPerRequest: 1, ...options });

async function using(client, body) {
  client.on("error", () => {}); // a failed connection fails the command, which is what a case looks at
  try {
    return await body(client);
  } finally {
    client.disconnect();
  }
}

cases.push(["plain", () => using(plain(), async (client) => {
  assert.strictEqual(await client.set("io:a", "1", "EX", 100), "OK");
  assert.strictEqual(await client.get("io:a"), "1");
  assert.strictEqual(await client.incrby("io:a", 5), 6);
  const ttl = await client.ttl("io:a");
  assert.ok(ttl > 90 && ttl <= 100, `ttl ${ttl}`);
  await client.hset("io:h", { a: 1, b: "two" });
  assert.deepStrictEqual(await client.hgetall("io:h"), { a: "1", b: "two" });
  assert.strictEqual(await client.sadd("io:s", "x", "y"), 2);
  assert.deepStrictEqual((await client.smembers("io:s")).sort(), ["x", "y"]);
  assert.strictEqual(await client.del("io:a", "io:h", "io:s"), 3);
  assert.strictEqual(await client.get("io:a"), null);
})]);

cases.push(["ready check, name, database", () => using(plain({ connectionName: "io", db: 2 }), async (client) => {
  await client.flushdb();
  await client.set("io:db", "two");
  assert.strictEqual(await client.dbsize(), 1);
  assert.strictEqual(await client.client("GETNAME"), "io");
  await client.flushdb();
})]);

cases.push(["old and new protocol", async () => {
  for (const protocol of [2, 3]) {
    await using(plain({ protocol }), async (client) => {
      await client.hset("io:proto", "f", "v");
      assert.deepStrictEqual(await client.hgetall("io:proto"), { f: "v" });
      assert.strictEqual(await client.get("io:none"), null);
      await client.del("io:proto");
    });
  }
}]);

cases.push(["buffers", () => using(plain(), async (client) => {
  const bytes = Buffer.from([0, 255, 13, 10, 0]);
  await client.set(bytes, bytes);
  assert.ok((await client.getBuffer(bytes)).equals(bytes));
})]);

cases.push(["pipeline", () => using(plain(), async (client) => {
  const pipeline = client.pipeline();
  for (let i = 0; i < 500; i++) pipeline.set(`io:p:${i}`, i).get(`io:p:${i}`);
  const replies = await pipeline.exec();
  assert.strictEqual(replies.length, 1000);
  for (let i = 0; i < 500; i++) assert.deepStrictEqual(replies[2 * i + 1], [null, String(i)]);
})]);

cases.push(["auto pipelining", () => using(plain({ enableAutoPipelining: true }), async (client) => {
  const values = await Promise.all([...Array(300).keys()].map((i) => client.get(`io:p:${i}`)));
  assert.deepStrictEqual(values, [...Array(300).keys()].map(String));
})]);

cases.push(["multi", () => using(plain(), async (client) => {
  await client.del("{io}:m");
  const replies = await client.multi().set("{io}:m", 1).incr("{io}:m").get("{io}:m").exec();
  assert.deepStrictEqual(replies, [[null, "OK"], [null, 2], [null, "2"]]);
  await client.watch("{io}:m");
  await using(plain(), (other) => other.set("{io}:m", 7));
  assert.strictEqual(await client.multi().set("{io}:m", 8).exec(), null);
})]);

cases.push(["errors", () => using(plain(), async (client) => {
  await client.set("io:text", "abc");
  await assert.rejects(client.incr("io:text"), /ERR value is not an integer or out of range/);
  await assert.rejects(client.call("NOSUCH", "x"), /ERR unknown command/);
  await assert.rejects(client.hget("io:text", "f"), /WRONGTYPE/);
})]);

cases.push(["scan stream", () => using(plain(), async (client) => {
  const found = new Set();
  for await (const keys of client.scanStream({ match: "io:p:*", count: 50 })) keys.forEach((key) => found.add(key));
  assert.strictEqual(found.size, 500);
})]);

cases.push(["cluster", () => using(new Redis.Cluster(clusterPorts.map((port) => ({ host, port }))), async (client) => {
  for (let i = 0; i < 300; i++) await client.set(`io:c:${i}`, i, "EX", 100);
  const values = await Promise.all([...Array(300).keys()].map((i) => client.get(`io:c:${i}`)));
  assert.deepStrictEqual(values, [...Array(300).keys()].map(String));
  assert.strictEqual(client.nodes("master").length, clusterPorts.length);
  assert.deepStrictEqual(await client.multi().set("{io}:x", 1).incr("{io}:x").exec(), [[null, "OK"], [null, 2]]);
})]);

cases.push(["sentinel", async () => {
  if (process.env.RONDO_NO_SENTINEL) return;
  const sentinels = ports.map((port) => ({ host, port }));
  await using(new Redis({ sentinels, name: "mymaster", maxRetriesPerRequest: 2 }), async (client) => {
    assert.strictEqual(await client.set("io:sentinel", "1"), "OK");
    assert.strictEqual(await client.get("io:sentinel"), "1");
  });
}]);

run(cases);
