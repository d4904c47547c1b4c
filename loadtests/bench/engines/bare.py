"""Sends the servers what our engines send them, without our engines: what a server does at most.

Redis gets the same EVALSHA from `native/ask.c`, with as many appends in each as there are producers, one request at a
time, as from the engine. That is what `redis-benchmark -c 1` does, which no package brings; side by side both had the
same rate. PostgreSQL gets the same statement from `pgbench` (one client, prepared), with the same number of appends in
it. Neither decides, packs or announces anything: each request is made before the clock starts, but for its number.
"""

import json
import re
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from psycopg import sql

from events.log.port import Append, Retention
from events.log.postgres.group import APPEND as STATEMENT
from events.log.postgres.group import Group, GroupCall, bucket_of
from events.log.redis.address import parse_address
from events.log.redis.scripts import APPEND as SCRIPT
from loadtests.bench.engines.producers import EVENT, NAME, groups
from loadtests.bench.engines.stores import PROGRAMS
from loadtests.bench.harness.processes import SERVER_CORE, ClientFailed, on_core
from loadtests.bench.harness.records import Figures
from loadtests.bench.native.build import tool

Bare = Callable[[int, float], Figures]
"""A function of the appends in each request, and of seconds."""


def bare_server(url: str, retention: Retention) -> Bare | None:
    """Returns what measures the server of a log that way; None where there is no server."""
    if url.startswith("redis:"):
        return lambda size, seconds: _redis(url, retention, size, seconds)
    if url.startswith("postgres:"):
        return lambda size, seconds: _postgres(url, retention, size, seconds)
    return None


# Redis


def _redis(url: str, retention: Retention, size: int, seconds: float) -> Figures:
    address = parse_address(url)
    host, port = address.hosts[0]
    with socket.create_connection((host, port), timeout=10) as link:
        link.sendall(b"*3\r\n" + _words(b"SCRIPT", b"LOAD", SCRIPT.text.encode()))
        link.recv(100)
    writer = secrets.token_hex(8).encode()
    head = _words(b"EVALSHA", SCRIPT.digest.encode(), b"1", address.prefix.encode(), writer)
    start = b"*%d\r\n" % (9 + size) + head
    with tempfile.NamedTemporaryFile(prefix="trilane-bench-") as file:
        for topics in groups(size):
            tail = redis_tail(topics, retention)
            file.write(b"%d %d\n" % (len(start), len(tail)) + start + tail)
        file.flush()
        answer = json.loads(_output([str(tool("ask")), str(port), f"{seconds:g}", file.name], seconds))
    rate = answer["requests"] * size / answer["seconds"]
    return {"per_s": rate, "p50_ms": answer["ms"]["p50"], "p99_ms": answer["ms"]["p99"]}


def redis_tail(topics: Sequence[str], retention: Retention) -> bytes:
    """Returns the arguments of the script behind the number of a group: time, seed, the calls, their events."""
    limits = [False if limit is None else limit for limit in (retention.events, retention.max_bytes)]
    calls = [[[topic, NAME, "", False, False, False, 1, *limits]] for topic in topics]
    return _words(b"0", b"7", msgspec.msgpack.encode(calls), *([EVENT] * len(topics)))


def _words(*words: bytes) -> bytes:
    return b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _output(command: list[str], seconds: float) -> str:
    """Returns what a client prints that runs so many seconds on the server's core. Raises ClientFailed."""
    run = on_core(SERVER_CORE, command)
    result = subprocess.run(run, capture_output=True, text=True, check=False, timeout=seconds + 30)
    if result.returncode:
        raise ClientFailed(f"{Path(command[0]).name} ended with {result.returncode}: {result.stderr[-400:]}")
    return result.stdout


# PostgreSQL


def _postgres(url: str, retention: Retention, size: int, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder:
        files: list[str] = []
        for number, topics in enumerate(groups(size)[:100]):  # pgbench takes 128 files at most
            path = Path(folder) / f"{number}.sql"
            path.write_text(pgbench_script(topics, retention))
            files += ["-f", str(path)]
        start = ["-D", "number=0", "-D", f"process={secrets.randbits(62) + 1}"]
        words = ["-n", "-M", "prepared", "-c", "1", "-T", str(max(1, round(seconds))), *start, *files]
        output = _output([str(PROGRAMS / "pgbench"), *words, url], seconds)
    rate = re.search(r"tps = ([\d.]+)", output)
    if rate is None or "failed transactions: 0 " not in output:
        raise ClientFailed(f"pgbench: {output[-400:]}")
    return {"per_s": float(rate[1]) * size}


def pgbench_script(topics: Sequence[str], retention: Retention) -> str:
    """Returns the engine's statement with a group of appends written out, and its number counted by pgbench."""
    now_ms = int(time.time() * 1000)
    future: Any = None  # nobody waits
    appends = [Append(topic=topic, data=[EVENT], name=NAME) for topic in topics]
    group = Group([GroupCall(future, (append,), len(EVENT), 0.0) for append in appends], 0, now_ms)
    buckets = [bucket_of(retention, now_ms)] * len(appends)
    _process, _number, *values = group.values(0, buckets, False)
    texts = iter([":process", ":number", *(sql.Literal(value).as_string() for value in values)])
    statement = re.sub(r"%[sb]", lambda _: next(texts), STATEMENT).strip()
    return f"\\set number :number + 1\n{' '.join(statement.split())};\n"
