"""The process of a tool's server that speaks stdio: its lines, what it is told, its end.

It runs under a keeper (`keeper.py`), so that neither it nor what it starts outlives the gateway, however that ends. Of
what it writes to stderr a bounded part goes to the log.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import structlog

from gateway.chat.tools.lines import BoundedLines, Overlong

KEEPER = Path(__file__).with_name("keeper.py")
READ_BYTES = 65_536
WRITE_S = 10.0
"""Seconds in which a server reads what it is told; one that does not is ended."""
STOP_S = 6.0
"""Seconds that the keeper has to end everything; it needs half of them."""
WORDS_BYTES = 500
"""Bytes of a line on stderr that are logged."""
WORDS_LINES = 20
"""Lines on stderr that are logged in WORDS_S; the others are counted."""
WORDS_S = 10.0

log = structlog.get_logger("tools")


class KeptProcess:
    """One process. `start` it, read its lines to the end, and `stop` it in every case."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, lifeline: int) -> None:
        self._name = name
        self._process = process
        self._lifeline: int | None = lifeline
        self._last_words = b""
        self._listener = asyncio.get_running_loop().create_task(self._listen(), name=f"stderr of {name}")

    @classmethod
    async def start(cls, name: str, command: Sequence[str], environ: dict[str, str]) -> "KeptProcess":
        """Starts a command with this environment and no other. Raises OSError when there can be no process at all."""
        theirs, ours = os.pipe()
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(KEEPER), str(theirs), *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environ,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        )
        try:
            return cls(name, await asyncio.shield(spawning), ours)
        except asyncio.CancelledError:  # a process whose start is cancelled would be nobody's
            await asyncio.wait((spawning,))
            if spawning.exception() is None:
                await cls(name, spawning.result(), ours).stop()
            raise
        finally:
            os.close(theirs)
            if spawning.done() and spawning.exception() is not None:
                os.close(ours)

    @property
    def pid(self) -> int:
        """Returns the process id of its keeper."""
        return self._process.pid

    @property
    def is_open(self) -> bool:
        """Returns whether it can still be told something."""
        assert self._process.stdin
        return not self._process.stdin.is_closing() and self._process.returncode is None

    async def lines(self, max_bytes: int, head_bytes: int) -> AsyncGenerator[bytes | Overlong]:
        """Yields what it writes to stdout, line by line, until it has ended or closed it."""
        assert self._process.stdout
        lines = BoundedLines(max_bytes, head_bytes)
        while data := await self._process.stdout.read(READ_BYTES):
            for line in lines.feed(data):
                yield line

    async def write(self, line: bytes) -> None:
        """Writes one line to its stdin. Raises BrokenPipeError when it has left, or does not read."""
        assert self._process.stdin
        if not self.is_open:
            raise BrokenPipeError
        self._process.stdin.write(line + b"\n")
        try:
            async with asyncio.timeout(WRITE_S):
                await self._process.stdin.drain()
        except (TimeoutError, OSError) as err:
            self._process.stdin.close()
            raise BrokenPipeError from err

    async def end(self) -> str:
        """Waits until it has ended; returns how, with the last that it wrote to stderr."""
        status = await self._process.wait()
        await self._listener
        words = self._last_words.decode("utf-8", "replace").strip()
        return f"it ended with status {status}" + (f": {words}" if words else "")

    async def stop(self) -> None:
        """Ends it and all that it has started, with force after some seconds, and waits until that is done."""
        assert self._process.stdin
        self._process.stdin.close()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            log.error("tool_server_stays", server=self._name, pid=self.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._listener.cancel()
            await asyncio.wait((self._listener,))

    async def _listen(self) -> None:
        """Logs what it writes to stderr, at most WORDS_LINES lines in WORDS_S."""
        assert self._process.stderr
        loop = asyncio.get_running_loop()
        lines, since, logged, dropped = BoundedLines(WORDS_BYTES, WORDS_BYTES), loop.time(), 0, 0
        while data := await self._process.stderr.read(READ_BYTES):
            for line in lines.feed(data):
                self._last_words = line.head if isinstance(line, Overlong) else line
                if loop.time() - since > WORDS_S:
                    if dropped:
                        log.warning("tool_server_said_more", server=self._name, lines=dropped)
                    since, logged, dropped = loop.time(), 0, 0
                if logged < WORDS_LINES:
                    log.info("tool_server_said", server=self._name, text=self._last_words.decode("utf-8", "replace"))
                    logged += 1
                else:
                    dropped += 1
