// node-redis, unchanged: plain with RESP2 and RESP3, MULTI, scan, Cluster, Sentinel.
//
// Environment: RONDO_HOST, RONDO_PORTS, RONDO_CLUSTER_PORTS. One line per case; exits with the number of failures.
"use strict";
const assert = require("assert");
const { run } = require("./cases.js");
const { createClient, createCluster, createSentinel } = require("redis");

const host = process.env.RONDO_HOST || "127.0.0.1";
const ports = process.env.RONDO_PORTS.split(",").map(Number);
const clusterPorts = process.env.RONDO_CLUSTER_PORTS.split(",").map(Number);
const cases = [];

async function using(client, body) {
  client.on("error", () => {}); // a failed connection fails the command, which is what a case looks at
  await client.connect();
  try {
    return await body(client);
  } finally {
    client.destroy();
  }
}

const plain = (options = {}) => createClient({ socket: { host, port: ports[0], reconnectStrategy: false }, ...options });

async function use(client) {
  assert.strictEqual(await client.set("nr:a", "1", { EX: 100 }), "OK");
  assert.strictEqual(await client.get("nr:a"), "1");
  assert.strictEqual(await client.incrBy("nr:a", 5), 6);
  await client.hSet("nr:h", { a: 1, b: "two" });
  assert.deepStrictEqual({ ...(await client.hGetAll("nr:h")) }, { a: "1", b: "two" });
  await client.sAdd("nr:s", ["x", "y"]);
  assert.deepStrictEqual([...(await client.sMembers("nr:s"))].sort(), ["x", "y"]);
  assert.strictEqual(await client.sIsMember("nr:s", "x") ? 1 : 0, 1);
  assert.strictEqual(await client.del(["nr:a", "nr:h", "nr:s"]), 3);
  assert.strictEqual(await client.get("nr:a"), null);
}

cases.push(["RESP2", () => using(plain({ RESP: 2 }), use)]);
cases.push(["RESP3", () => using(plain({ RESP: 3 }), use)]);

cases.push(["name and database", () => using(plain({ name: "nr", database: 2 }), async (client) => {
  await client.flushDb();
  await client.set("nr:db", "two");
  assert.strictEqual(await client.dbSize(), 1);
  assert.strictEqual(await client.clientGetName(), "nr");
  await client.flushDb();
})]);

cases.push(["many at once", () => using(plain(), async (client) => {
  const numbers = [...Array(500).keys()];
  await Promise.all(numbers.map((i) => client.set(`nr:p:${i}`, String(i))));
  assert.deepStrictEqual(await client.mGet(numbers.map((i) => `nr:p:${i}`)), numbers.map(String));
  const found = new Set();
  for await (const keys of client.scanIterator({ MATCH: "nr:p:*", COUNT: 50 })) [].concat(keys).forEach((k) => found.add(k));
  assert.strictEqual(found.size, 500);
})]);

cases.push(["multi", () => using(plain(), async (client) => {
  assert.deepStrictEqual(await client.multi().set("{nr}:m", "1").incr("{nr}:m").get("{nr}:m").exec(), ["OK", 2, "2"]);
  await client.watch("{nr}:m");
  await using(plain(), (other) => other.set("{nr}:m", "7"));
  await assert.rejects(client.multi().set("{nr}:m", "8").exec());
})]);

cases.push(["errors", () => using(plain(), async (client) => {
  await client.set("nr:text", "abc");
  await assert.rejects(client.incr("nr:text"), /ERR value is not an integer or out of range/);
  await assert.rejects(client.sendCommand(["NOSUCH"]), /ERR unknown command/);
})]);

cases.push(["cluster", async () => {
  const rootNodes = clusterPorts.map((port) => ({ url: `redis://${host}:${port}` }));
  await using(createCluster({ rootNodes }), async (client) => {
    for (let i = 0; i < 300; i++) await client.set(`nr:c:${i}`, String(i), { EX: 100 });
    for (let i = 0; i < 300; i++) assert.strictEqual(await client.get(`nr:c:${i}`), String(i));
    assert.deepStrictEqual(await client.multi().set("{nr}:x", "1").incr("{nr}:x").exec(), ["OK", 2]);
    assert.strictEqual(client.masters.length, clusterPorts.length);
  });
}]);

cases.push(["sentinel", async () => {
  if (process.env.RONDO_NO_SENTINEL) return;
  const sentinelRootNodes = ports.map((port) => ({ host, port }));
  await using(createSentinel({ name: "mymaster", sentinelRootNodes }), async (client) => {
    assert.strictEqual(await client.set("nr:sentinel", "1"), "OK");
    assert.strictEqual(await client.get("nr:sentinel"), "1");
  });
}]);

run(cases);
