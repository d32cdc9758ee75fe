"""redis-py, unchanged: Redis, asyncio, RedisCluster, Sentinel, pipelines, transactions, in RESP2 and RESP3."""

import asyncio
import os
import sys
import traceback

import redis
import redis.asyncio
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

HOST = os.environ["RONDO_HOST"]
PORTS = [int(port) for port in os.environ["RONDO_PORTS"].split(",")]
CLUSTER_PORTS = [int(port) for port in os.environ["RONDO_CLUSTER_PORTS"].split(",")]
failures = 0


def case(name, run):
    global failures
    client(2).flushall()
    try:
        run()
        print("ok", name)
    except Exception:
        failures += 1
        print("FAILED", name)
        traceback.print_exc(file=sys.stdout)


def client(protocol, at=0, **options):
    return redis.Redis(host=HOST, port=PORTS[at], protocol=protocol, decode_responses=True, **options)


def strings(protocol):
    first, second = client(protocol), client(protocol, 1, client_name="second")
    assert first.ping()
    assert first.set("py:a", 1, ex=100) and second.get("py:a") == "1"
    assert 0 < second.ttl("py:a") <= 100
    assert second.incrby("py:a", 41) == 42 and first.incrbyfloat("py:f", 1.5) == 1.5
    assert first.set("py:a", 2, nx=True) is None and first.set("py:a", 2, get=True) == "42"
    assert second.client_getname() == "second"
    assert {"py:a", "py:f"} <= set(first.keys("py:*"))


def several_keys(protocol):
    first, second = client(protocol), client(protocol, 2)
    assert first.mset({f"py:m:{i}": i for i in range(50)})
    assert second.mget([f"py:m:{i}" for i in range(51)]) == [str(i) for i in range(50)] + [None]
    assert first.rename("py:m:0", "py:m:new") and second.get("py:m:new") == "0"
    assert second.renamenx("py:m:1", "py:m:2") is False
    assert first.copy("py:m:1", "py:m:copied") and second.get("py:m:copied") == "1"
    assert first.msetnx({"py:x": 1, "py:y": 2, "py:z": 3}) and not second.msetnx({"py:x": 1, "py:n": 2})
    assert first.bitop("OR", "py:bits", "py:x", "py:y") == 1 and second.get("py:bits") == "3"
    first.sadd("py:s1", "a", "b"), first.sadd("py:s2", "b", "c")
    assert second.sinter("py:s1", "py:s2") == {"b"} and second.sunion("py:s1", "py:s2") == {"a", "b", "c"}
    assert second.smove("py:s1", "py:s2", "a") and first.scard("py:s2") == 3
    assert second.sdiffstore("py:s3", "py:s2", "py:s1") == 2
    assert first.delete(*[f"py:m:{i}" for i in range(1, 50)]) == 49


def hashes(protocol):
    first, second = client(protocol), client(protocol, 1)
    assert first.hset("py:h", mapping={"f": "v", "n": 1}) == 2
    assert second.hgetall("py:h") == {"f": "v", "n": "1"} and second.hincrby("py:h", "n", 2) == 3
    assert dict(first.hscan_iter("py:h")) == {"f": "v", "n": "3"}


def pipelines(protocol):
    pipe = client(protocol).pipeline(transaction=False)
    for i in range(300):
        pipe.set(f"py:p:{i}", i).get(f"py:p:{i}")
    replies = pipe.execute()
    assert replies[1::2] == [str(i) for i in range(300)] and all(replies[0::2])


def transactions(protocol):
    first, second = client(protocol), client(protocol, 1)
    pipe = first.pipeline()
    replies = pipe.set("{py}:t", 1).incr("{py}:t").sadd("{py}:ts", "m").smembers("{py}:ts").execute()
    assert replies == [True, 2, 1, {"m"}], replies
    replies = first.pipeline().set("py:t1", 1).set("py:t2", 2).mget("py:t1", "py:t2").execute()
    assert replies == [True, True, ["1", "2"]], replies

    def add(pipe):
        value = int(pipe.get("{py}:t"))
        pipe.multi()
        pipe.set("{py}:t", value + 1)

    assert second.transaction(add, "{py}:t") == [True] and first.get("{py}:t") == "3"
    with first.pipeline() as pipe:
        pipe.watch("{py}:t")
        second.set("{py}:t", "other")
        pipe.multi()
        pipe.set("{py}:t", "mine")
        try:
            pipe.execute()
            raise AssertionError("a changed key went unnoticed")
        except redis.WatchError:
            pass


def scans(protocol):
    first = client(protocol)
    first.mset({f"py:scan:{i}": i for i in range(300)})
    for at in range(3):
        assert len(set(client(protocol, at).scan_iter("py:scan:*", count=20))) == 300
    assert first.sadd("py:many", *range(1000)) and len(set(first.sscan_iter("py:many"))) == 1000


def administration(protocol):
    one = client(protocol)
    one.set("py:a", 1)
    assert one.info()["redis_version"] and one.info("server")["tcp_port"] == PORTS[0]
    assert one.config_get("maxmemory")["maxmemory"] == "0" and one.dbsize() > 0
    assert any(entry["id"] == str(one.client_id()) for entry in one.client_list())
    assert one.command_count() > 100 and one.time()[0] > 1_600_000_000
    assert one.object("encoding", "py:a") == "int"
    try:
        one.execute_command("HGET", "py:a", "f")
        raise AssertionError("no error")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE")


def in_asyncio(protocol):
    async def talk():
        one = redis.asyncio.Redis(host=HOST, port=PORTS[1], protocol=protocol, decode_responses=True)
        await asyncio.gather(*[one.set(f"py:async:{i}", i) for i in range(50)])
        assert await one.mget([f"py:async:{i}" for i in range(50)]) == [str(i) for i in range(50)]
        async with one.pipeline() as pipe:
            assert await pipe.set("{py}:ax", 1).incr("{py}:ax").execute() == [True, 2]
        assert len([key async for key in one.scan_iter("py:async:*")]) == 50
        await one.aclose()
        smart = redis.asyncio.RedisCluster(host=HOST, port=CLUSTER_PORTS[2], protocol=protocol, decode_responses=True)
        # Before it knows the nodes, many calls at once trip over each other in the client.
        await smart.initialize()
        await asyncio.gather(*[smart.set(f"py:ac:{i}", i) for i in range(50)])
        assert await smart.get("py:ac:7") == "7"
        await smart.aclose()

    asyncio.run(talk())


def cluster(protocol):
    nodes = [ClusterNode(HOST, port) for port in CLUSTER_PORTS]
    smart = RedisCluster(startup_nodes=nodes, protocol=protocol, decode_responses=True)
    assert len(smart.get_primaries()) == 3 and {node.port for node in smart.get_nodes()} == set(CLUSTER_PORTS)
    for i in range(300):
        assert smart.set(f"py:c:{i}", i)
    assert [smart.get(f"py:c:{i}") for i in range(300)] == [str(i) for i in range(300)]
    found = list(smart.scan_iter("py:c:*", count=50))
    assert len(set(found)) == 300, f"scan_iter found {len(set(found))} of 300"
    assert len([key for key in smart.keys("py:c:*", target_nodes=RedisCluster.ALL_NODES)]) == 300
    assert smart.mget_nonatomic([f"py:c:{i}" for i in range(10)]) == [str(i) for i in range(10)]
    assert smart.mset_nonatomic({f"py:c:{i}": "x" for i in range(10)})
    pipe = smart.pipeline()
    for i in range(100):
        pipe.incr(f"py:cp:{i % 10}")
    assert pipe.execute()[-1] == 10
    assert smart.delete(*[f"py:c:{i}" for i in range(300)]) == 300
    assert smart.cluster_info(target_nodes=smart.get_random_node())["cluster_state"] == "ok"
    assert smart.cluster_keyslot("foo") == 12182
    assert smart.dbsize(target_nodes=RedisCluster.PRIMARIES) == client(protocol).dbsize()


def sentinel(protocol):
    one = Sentinel([(HOST, port) for port in PORTS], socket_timeout=5, protocol=protocol)
    host, port = one.discover_master("mymaster")
    assert port in PORTS, (host, port)
    master = one.master_for("mymaster", socket_timeout=5, protocol=protocol, decode_responses=True)
    assert master.set("py:sentinel", "v") and master.get("py:sentinel") == "v"
    replica = one.slave_for("mymaster", socket_timeout=5, protocol=protocol, decode_responses=True)
    assert replica.get("py:sentinel") == "v"


CASES = [
    strings, several_keys, hashes, pipelines, transactions, scans, administration, in_asyncio, cluster, sentinel,
]


for version in (2, 3):
    for run in CASES:
        case(f"{run.__name__} in RESP{version}", lambda run=run: run(version))
print("redis-py", redis.__version__)
sys.exit(failures)
