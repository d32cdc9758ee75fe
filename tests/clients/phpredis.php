<?php
// phpredis, unchanged: plain commands, pipeline, MULTI, SCAN, RedisCluster, and its session handler with locking off.
//
// Environment: RONDO_HOST, RONDO_PORTS, RONDO_CLUSTER_PORTS. One line per case; exits with the number of failures.
$host = getenv("RONDO_HOST") ?: "127.0.0.1";
$port = (int) explode(",", getenv("RONDO_PORTS"))[0];
$seeds = array_map(fn($p) => "$host:$p", explode(",", getenv("RONDO_CLUSTER_PORTS")));
$failures = 0;
ob_start(); // the session handler may not be set up once something has been printed

function must($what, $because) {
    if (!$what) throw new Exception($because);
}

function run($name, $body) {
    global $failures;
    try {
        $body();
        echo "ok $name\n";
    } catch (Throwable $error) {
        $failures++;
        echo "not ok $name: " . $error->getMessage() . "\n";
    }
}

function plain() {
    global $host, $port;
    $client = new Redis();
    $client->connect($host, $port, 5);
    return $client;
}

run("plain", function () {
    $client = plain();
    must($client->set("php:a", "1", ["EX" => 100]), "SET EX");
    must($client->get("php:a") === "1", "GET");
    must($client->incrBy("php:a", 4) === 5, "INCRBY");
    must($client->ttl("php:a") > 90, "TTL");
    must($client->hMSet("php:h", ["a" => 1, "b" => "two"]), "HMSET");
    must($client->hGetAll("php:h") === ["a" => "1", "b" => "two"], "HGETALL");
    must($client->sAdd("php:s", "x", "y") === 2, "SADD");
    must($client->del("php:a", "php:h", "php:s") === 3, "DEL");
    must($client->get("php:a") === false, "GET of nothing");
});

run("pipeline and MULTI", function () {
    $client = plain();
    $pipe = $client->multi(Redis::PIPELINE);
    for ($i = 0; $i < 200; $i++) $pipe->set("php:p:$i", $i)->get("php:p:$i");
    must($pipe->exec()[399] === "199", "pipeline");
    must($client->multi()->set("{php}:m", 1)->incr("{php}:m")->exec() === [true, 2], "MULTI");
    $found = [];
    $cursor = null;
    while (($keys = $client->scan($cursor, "php:p:*", 50)) !== false) foreach ($keys as $key) $found[$key] = 1;
    must(count($found) === 200, "SCAN found " . count($found));
});

run("cluster", function () use ($seeds) {
    $client = new RedisCluster(null, $seeds, 5, 5);
    for ($i = 0; $i < 200; $i++) must($client->set("php:c:$i", $i), "SET $i");
    for ($i = 0; $i < 200; $i++) must($client->get("php:c:$i") === (string) $i, "GET $i");
});

run("session handler", function () use ($host, $port) {
    ini_set("session.save_handler", "redis");
    ini_set("session.save_path", "tcp://$host:$port");
    ini_set("session.use_cookies", "0");
    ini_set("session.cache_limiter", "");
    session_id("phpsession1");
    must(@session_start(), "start");
    $_SESSION["user"] = "ann";
    must(session_write_close(), "close");
    session_id("phpsession1");
    must(@session_start() && $_SESSION["user"] === "ann", "start again");
    must(session_destroy(), "destroy");
});

exit($failures);
