# redis-rb, unchanged: plain, pipelined, MULTI, WATCH, SCAN, and its old cluster client.
#
# Environment: RONDO_HOST, RONDO_PORTS, RONDO_CLUSTER_PORTS. One line per case; exits with the number of failures.
require "redis"

HOST = ENV["RONDO_HOST"] || "127.0.0.1"
PORTS = ENV["RONDO_PORTS"].split(",").map(&:to_i)
CLUSTER_PORTS = ENV["RONDO_CLUSTER_PORTS"].split(",").map(&:to_i)
$failures = 0

def must(what, because)
  raise because unless what
end

def run(name)
  yield
  puts "ok #{name}"
rescue StandardError => error
  $failures += 1
  puts "not ok #{name}: #{error.class}: #{error.message}"
end

def plain
  Redis.new(host: HOST, port: PORTS[0])
end

run("plain") do
  client = plain
  must client.set("rb:a", "1", ex: 100) == "OK", "SET EX"
  must client.get("rb:a") == "1", "GET"
  must client.incrby("rb:a", 4) == 5, "INCRBY"
  client.mapped_hmset("rb:h", { "a" => 1, "b" => "two" })
  must client.hgetall("rb:h") == { "a" => "1", "b" => "two" }, "HGETALL"
  must client.sadd("rb:s", %w[x y]) == 2, "SADD"
  must client.del("rb:a", "rb:h", "rb:s") == 3, "DEL"
end

run("pipelined, MULTI and WATCH") do
  client = plain
  replies = client.pipelined { |pipe| 200.times { |i| pipe.set("rb:p:#{i}", i); pipe.get("rb:p:#{i}") } }
  must replies.last == "199", "pipelined"
  must client.multi { |t| t.set("{rb}:m", 1); t.incr("{rb}:m") } == ["OK", 2], "MULTI"
  aborted = client.watch("{rb}:m") do
    plain.set("{rb}:m", 9)
    client.multi { |t| t.set("{rb}:m", 3) }
  end
  must aborted.nil?, "WATCH"
  must client.scan_each(match: "rb:p:*").to_a.uniq.size == 200, "SCAN"
end

run("cluster") do
  client = Redis.new(cluster: CLUSTER_PORTS.map { |port| "redis://#{HOST}:#{port}" })
  200.times { |i| client.set("rb:c:#{i}", i) }
  200.times { |i| must client.get("rb:c:#{i}") == i.to_s, "GET #{i}" }
end

exit $failures
