"""Starts redis-server, Redis Cluster and rondo on free ports for the other scripts, and measures their processes.

Whoever starts servers stops them: `Servers.stop` ends each process by its id, and waits for it.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Failure(Exception):
    """Something could not be measured; the text says what."""


def free_port():
    """A port that nobody listens on, by TCP or UDP, and whose uses by its neighbours' offsets do not matter to us."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in free_port.given:
                free_port.given.add(port)
                return port


free_port.given = set()


def ask(port, *args):
    """One command; the reply's bytes as they came, whole for status, error, integer and bulk replies."""
    request = f"*{len(args)}\r\n" + "".join(f"${len(arg)}\r\n{arg}\r\n" for arg in args)
    with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as connection:
        connection.sendall(request.encode())
        reply = b""
        while True:
            part = connection.recv(65536)
            if not part:
                raise Failure(f"127.0.0.1:{port} closed the connection on {args[0]}")
            reply += part
            line, ended, rest = reply.partition(b"\r\n")
            if ended and (line[:1] != b"$" or len(rest) >= int(line[1:]) + 2):
                return reply.decode(errors="replace")


def wait_until(what, condition):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, Failure, urllib.error.URLError):
            pass
        time.sleep(0.05)
    raise Failure(f"{what} is not ready after {START_SECONDS} s")


class Servers:
    """Some server processes that are driven and measured as one."""

    def __init__(self, name, directory):
        self.name = name
        self.directory = directory
        self.processes = []
        self.commands = []  # how each is started again
        self.port = None
        self.cluster_port = None
        self.cluster_addresses = []
        self.admin_ports = []

    def spawn(self, command):
        log = self.directory / f"{self.name}-{len(self.processes)}.log"
        self.commands.append(command)
        self.processes.append((self._start(command, log), log))

    def _start(self, command, log):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RONDO_")}
        with open(log, "ab") as output:
            return subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, cwd=self.directory, env=environment)

    def kill(self, number):
        """SIGKILL to one process."""
        process, _ = self.processes[number]
        process.kill()
        process.wait()

    def restart(self, number):
        """Starts one that was killed again, and does not wait for it."""
        _, log = self.processes[number]
        self.processes[number] = (self._start(self.commands[number], log), log)

    def wait_until(self, what, condition):
        def check():
            for process, log in self.processes:
                if process.poll() is not None:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise Failure(f"{self.name} ended at its start:\n{tail}")
            return condition()

        wait_until(f"{self.name}: {what}", check)

    def cpu_seconds(self):
        ticks = 0
        for process, _ in self.processes:
            # The fields after the name, which may hold blanks and parentheses: utime and stime are the 12th and 13th.
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND

    def resident_bytes(self):
        pages = (Path(f"/proc/{process.pid}/statm").read_text().split()[1] for process, _ in self.processes)
        return sum(int(count) for count in pages) * PAGE_BYTES

    def stop(self):
        for process, _ in self.processes:
            if process.poll() is None:
                process.terminate()
        for process, _ in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start_redis(servers, replicas=0):
    """One redis-server, and asynchronous replicas of it."""
    for number in range(1 + replicas):
        port = free_port()
        command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
        if number == 0:
            servers.port = port
        else:
            command += ["--replicaof", "127.0.0.1", str(servers.port)]
        servers.spawn(command)
        servers.wait_until("answering", lambda: ask(port, "PING") == "+PONG\r\n")
    servers.wait_until(
        "replicating",
        lambda: ask(servers.port, "INFO", "replication").count("state=online") == replicas,
    )


def start_rondo(servers, binary, nodes, workers):
    """Nodes of rondo with the default N, R and W, each with `workers` threads."""
    join = []
    admin_ports, cluster_ports, peers = [], [], []
    for number in range(nodes):
        port, cluster_port, peer_port, admin_port = (free_port() for _ in range(4))
        command = [binary, "server", "--port", port, "--cluster-port", cluster_port, "--peer-port", peer_port]
        command += ["--admin-port", admin_port, "--workers", workers, *join]
        servers.spawn([str(word) for word in command])
        admin_ports.append(admin_port)
        cluster_ports.append(cluster_port)
        peers.append(f"127.0.0.1:{peer_port}")
        if number == 0:
            servers.port, servers.cluster_port = port, cluster_port
            join = ["--join", f"127.0.0.1:{peer_port}"]
        servers.wait_until("answering", lambda: ask(port, "PING") == "+PONG\r\n")
        servers.wait_until("/readyz", lambda: is_ready(admin_port))
    for number, command in enumerate(servers.commands):
        others = ",".join(peer for peer in peers if peer != peers[number])
        servers.commands[number] = command + (["--join", others] if number == 0 and others else [])
    servers.admin_ports = admin_ports
    servers.cluster_addresses = [f"127.0.0.1:{port}" for port in cluster_ports]
    servers.wait_until("one cluster", lambda: all(is_whole_rondo(port, nodes) for port in admin_ports))


def start_redis_cluster(servers, node_timeout_ms):
    """Three masters of Redis Cluster, the first processes, and a replica of each; its other options are the defaults."""
    ports = [free_port() for _ in range(6)]
    for port in ports:
        command = ["redis-server", "--port", str(port), "--cluster-port", str(free_port()), "--save", ""]
        command += ["--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{port}.conf"]
        servers.spawn(command + ["--cluster-node-timeout", str(node_timeout_ms), "--repl-diskless-sync-delay", "0"])
    for port in ports:
        servers.wait_until("answering", lambda: ask(port, "PING") == "+PONG\r\n")
    servers.cluster_addresses = [f"127.0.0.1:{port}" for port in ports]
    create = ["redis-cli", "--cluster", "create", *servers.cluster_addresses, "--cluster-replicas", "1", "--cluster-yes"]
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL)

    def is_whole(port):
        link = ask(port, "INFO", "replication")
        synced = "role:master" in link or "master_link_status:up" in link
        return synced and "cluster_state:ok" in ask(port, "CLUSTER", "INFO")

    servers.wait_until("one cluster", lambda: all(is_whole(port) for port in ports))


def is_whole_rondo(admin_port, nodes):
    """Whether this node is ready, counts all as up, and agrees with them on the ring."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/status", timeout=5) as answer:
        ring = json.load(answer)["ring"]
    return is_ready(admin_port) and ring["agreed"] and ring["up"] == ring["members"] == nodes


def is_ready(admin_port):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/readyz", timeout=5) as answer:
        return answer.status == 200


def stop_on_signals():
    """Lets Python clean up when it is told to end."""

    def stop(number, _frame):
        # Once more would interrupt the cleaning up.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)


def built(binary):
    """The given binary of rondo, or one that is built now."""
    if binary:
        return binary.resolve()
    subprocess.run(["cargo", "build", "--release", "--bin", "rondo"], cwd=ROOT, check=True)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "rondo"


def machine():
    """The processor and how many cores of it."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(": ")[2] if models else platform.machine()
    return f"{os.cpu_count()} cores of {model}"
