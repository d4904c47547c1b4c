"""The wire of a worker elsewhere: HTTP, each kind of request over a connection of its own that is kept open.

A request blocks a thread of its own, which the program does not wait for when it ends.
"""

import asyncio
import http.client
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from trilane_agent.worker import Command, Fenced, Job

TIMEOUT_S = 45.0
"""Seconds without a byte after which a request is given up; claims are answered within 30."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
GIVE_UP_S = 60.0
"""Seconds for which a post that gets no answer is repeated: its lease is over long before."""

T = TypeVar("T")
Answer = tuple[int, Any]


class HttpWire:
    """A Wire to the gateway at `url`, as the agent `name`."""

    def __init__(self, url: str, name: str, token: str) -> None:
        """Raises ValueError for what is no address."""
        self._address = urlsplit(url)
        if self._address.scheme not in ("http", "https") or not self._address.hostname:
            raise ValueError(f"{url!r} is no address: want http://host or https://host")
        self._name = name
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._claims = Line(self._connect)
        self._lines: dict[tuple[str, str], Line] = {}

    async def claim(self) -> Job | None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                status, answer = await _in_thread(
                    lambda: self._claims.ask("POST", f"/api/agents/{quote(self._name, '')}/claim", b"{}", self._headers)
                )
            except OSError as err:
                print(f"the gateway cannot be reached: {err}", file=sys.stderr)
            else:
                if status == 200:
                    return answer
                if status == 204:
                    return None
                print(f"a claim was answered with {status}: {answer}", file=sys.stderr)
                if status in (401, 403, 404):
                    raise SystemExit(f"the gateway does not let this worker claim {self._name!r}: {answer}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def post(self, job: Job, expect: int, chunks: Sequence[str]) -> None:
        await self._repeated(job, "post", "POST", f"/api/runs/{job['runId']}/chunks", _post(job, expect, chunks))

    async def commands(self, job: Job, after: int) -> Sequence[Command]:
        answer = await self._repeated(job, "commands", "GET", f"{job['commands']}&after={after}", None)
        return answer["commands"]

    def beat(self, job: Job) -> None:
        path = f"/api/runs/{job['runId']}/chunks"
        self._line(job, "beat").ask("POST", path, _post(job, 1, []), self._headers)

    async def _repeated(self, job: Job, kind: str, method: str, path: str, body: bytes | None) -> Any:
        """Asks until there is an answer. Raises Fenced when it is that, or no answer comes."""
        pause_s, began = FIRST_PAUSE_S, time.monotonic()
        while time.monotonic() - began < GIVE_UP_S:
            try:
                status, answer = await _in_thread(lambda: self._line(job, kind).ask(method, path, body, self._headers))
            except OSError:
                status, answer = 0, None
            if status == 200:
                return answer
            if 400 <= status < 500 and status != 429:
                self._forget(job)
                if status != 409:
                    print(f"run {job['runId']}: {status}: {answer}", file=sys.stderr)
                raise Fenced
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._forget(job)
        raise Fenced

    def _line(self, job: Job, kind: str) -> "Line":
        return self._lines.setdefault((str(job["lease"]), kind), Line(self._connect))

    def _forget(self, job: Job) -> None:
        for key in [key for key in list(self._lines) if key[0] == str(job["lease"])]:
            self._lines.pop(key, None)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._address.hostname or "", self._address.port
        if self._address.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)


class Line:
    """One connection that is used for one request at a time, and made anew after a failure."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection]) -> None:
        self._connect = connect
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Returns the status and the JSON of an answer. Raises OSError."""
        with self._lock:
            connection = self._connection or self._connect()
            self._connection = None
            try:
                connection.request(method, path, body, dict(headers))
                response = connection.getresponse()
                answer = response.read()
            except http.client.HTTPException as err:
                connection.close()
                raise OSError(f"{type(err).__name__}: {err}") from err
            except OSError:
                connection.close()
                raise
            if response.will_close:
                connection.close()
            else:
                self._connection = connection
        try:
            return response.status, json.loads(answer) if answer else None
        except ValueError:
            return response.status, answer[:200].decode("utf-8", "replace")


def _post(job: Job, expect: int, chunks: Sequence[str]) -> bytes:
    head = json.dumps({"lease": job["lease"], "expect": expect})
    return f'{head[:-1]},"chunks":[{",".join(chunks)}]}}'.encode()


async def _in_thread(work: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as err:
            told: BaseException = err
            loop.call_soon_threadsafe(lambda: done.set_exception(told) if not done.done() else None)
        else:
            loop.call_soon_threadsafe(lambda: done.set_result(result) if not done.done() else None)

    threading.Thread(target=run, daemon=True).start()
    return await done
