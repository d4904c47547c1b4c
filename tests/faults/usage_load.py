"""People whose answers, audio sessions and files end in every way there is, at two processes that are killed meanwhile.

Everybody notes what they were told; nobody judges. A process is ended by SIGTERM or by `kill -9`, and started again at
its own port.
"""

import asyncio
import contextlib
import io
import itertools
import json
import random
import signal
import wave
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import websockets
from websockets.asyncio.client import connect

from tests.conftest import Gateway, eventually
from tests.deploy.wire import LOST, Answer, Road, asked
from tests.support.sse_client import TERMINAL, chat_body
from tests.support.sse_decoder import SseDecoder

RATE = 16_000
FRAME_S = 0.25
SUBPROTOCOL = websockets.Subprotocol("trilane.audio.v1")
MODEL = "ok+"
"""The beginning of the model's name that a completion asks for; its own tag follows."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)
PAUSE_S = 0.2
EARLY_S = 0.4
"""Seconds after which a client that acts early does so, whatever it was sent by then."""
GIVE_UP_S = 60.0


@dataclass(frozen=True)
class AnswerCase:
    """What one answer is to come to, unless its process ends first."""

    name: str
    behaviour: str = "ok"
    tokens: int = 12
    interval_ms: int = 5
    act: str = "read"
    """What its client does: `read` to the end, `leave` or `stop` after a few deltas, or either one `early`."""
    on_disconnect: str = "continue"
    route: str = "chat"
    """`chat`, or `stream` or `whole` for a completion of `/v1`."""


UPSTREAM_FAILURES = (
    *("e500", "e429", "html", "cut-first", "cut", "cut-hard", "cut-eof", "cut-midline", "badjson", "error-openai"),
    *("error-openai-first", "error-event", "hang", "stall-first", "stall-mid"),
)
ANSWERS = [
    *[AnswerCase("finish", behaviour) for behaviour in ("ok", "fast", "no-usage", "reasoning", "tools", "usage-every")],
    *[AnswerCase("long", tokens=300, interval_ms=10)] * 6,
    *[AnswerCase("stop", tokens=2000, interval_ms=10, act="stop")] * 3,
    *[AnswerCase("stop before a token", "stall-first", act="stop early")] * 2,
    *[AnswerCase("leave", tokens=2000, interval_ms=10, act="leave", on_disconnect="cancel")] * 3,
    *[AnswerCase("leave, and it goes on", tokens=60, interval_ms=10, act="leave")] * 2,
    *[AnswerCase("upstream fails", behaviour) for behaviour in UPSTREAM_FAILURES],
    AnswerCase("completion", route="stream"),
    AnswerCase("whole completion", route="whole"),
    AnswerCase("completion without usage", "no-usage", route="whole"),
    AnswerCase("leave a completion", tokens=2000, interval_ms=10, act="leave", route="stream"),
    AnswerCase("leave a whole completion", tokens=400, interval_ms=5, act="leave early", route="whole"),
    AnswerCase("completion fails", "cut", route="stream"),
]
SESSIONS = ("stop", "leave", "cut", "cut and return", "stay")
"""What a speaker does: `stay` goes on until its process ends, for some seconds at most, and leaves then."""


@dataclass
class AskedRun:
    """An answer as its client saw it."""

    tag: str
    case: AnswerCase
    run_id: str = ""
    is_admitted: bool = False
    """Whether its answer began, or was refused by the model's server."""
    end: str = ""
    """The type of the chunk that ended it, where one was seen."""
    usage: dict[str, Any] = field(default_factory=dict[str, Any])
    deltas: int = 0
    port: int = 0
    """The process that writes it, while its client reads."""


@dataclass
class HeldSession:
    """An audio session, or a file, as its client saw it."""

    act: str
    session: str = ""
    sent_ms: int = 0
    """Milliseconds of audio that were handed to the connection."""
    acked_ms: int = 0
    done_ms: int | None = None


class UsageLoad:
    """Everybody's acts at two processes."""

    def __init__(self, gateways: list[Gateway], seed: int) -> None:
        self.gateways = gateways
        self.runs: list[AskedRun] = []
        self.sessions: list[HeldSession] = []
        self.refused: list[str] = []
        """Answers that neither began work nor said that the model's server refused it."""
        self.ended: list[str] = []
        """How processes were ended."""
        self._random = random.Random(seed)
        self._is_over = asyncio.Event()

    async def run(self, runs: int, sessions: int, at_once: int, lives_s: tuple[float, float]) -> None:
        """Asks for so many answers and sessions, `at_once` at a time; a process lives `lives_s`, from to."""
        cases = [case for case, _ in zip(itertools.cycle(ANSWERS), range(runs), strict=False)]
        acts = [act for act, _ in zip(itertools.cycle((*SESSIONS, "file")), range(sessions), strict=False)]
        self._random.shuffle(cases)
        room = asyncio.Semaphore(at_once)
        voices = asyncio.Semaphore(max(2, at_once // 3))
        ending = asyncio.ensure_future(self._end_processes(lives_s))
        try:
            async with asyncio.TaskGroup() as group:
                for number, case in enumerate(cases):
                    group.create_task(self._within(room, partial(self._ask, f"tag-{number}-", case)))
                for act in acts:
                    acting = self._file if act == "file" else partial(self._speak, act)
                    group.create_task(self._within(voices, acting))
        finally:
            self._is_over.set()
            await ending

    async def _within(self, room: asyncio.Semaphore, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Does one act when there is room for it, for so long; who gives up then has left in yet another way."""
        async with room:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GIVE_UP_S):
                    await act()

    # The processes

    async def _end_processes(self, lives_s: tuple[float, float]) -> None:
        """Ends them in turn, by each signal in turn, until all is over; all of them run when this returns."""
        for gateway, number in zip(itertools.cycle(self.gateways), itertools.cycle(SIGNALS), strict=False):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), self._random.uniform(*lives_s))
                return
            await self._someone_reads(gateway.port)
            gateway.signal(number)
            await asyncio.to_thread(gateway.wait, 60)
            self.ended.append(signal.Signals(number).name)
            await asyncio.to_thread(gateway.start)

    async def _someone_reads(self, port: int) -> None:
        """Waits until a process writes an answer of which something was seen, or all is over."""

        def is_read() -> bool:
            return any(run.port == port and run.deltas and not run.end for run in list(self.runs))

        await asyncio.to_thread(eventually, lambda: self._is_over.is_set() or is_read(), GIVE_UP_S, "an answer begins")

    def _road(self) -> Road:
        return Road(self._random.choice(self.gateways).port)

    async def _reachable(self) -> Road:
        """Returns the way to a process that takes connections."""
        while True:
            road = self._road()
            with contextlib.suppress(*LOST):
                _, writer = await road.connect()
                writer.transport.abort()
                return road
            await asyncio.sleep(PAUSE_S)

    # Answers

    async def _ask(self, tag: str, case: AnswerCase) -> None:
        run = AskedRun(tag, case)
        self.runs.append(run)
        text = f"{tag} T={case.tokens} I={case.interval_ms * 1000} B={case.behaviour}"
        if case.route == "chat":
            path, body = "/api/chat", chat_body(tag, text, onDisconnect=case.on_disconnect)
        else:
            messages = [{"role": "user", "content": text}]
            body = {"model": f"{MODEL}{tag}", "messages": messages, "stream": case.route == "stream"}
            path = "/v1/chat/completions"
        road = await self._reachable()
        early = asyncio.ensure_future(self._stop(run, EARLY_S)) if case.act == "stop early" else None
        run.port = road.port
        with contextlib.suppress(*LOST):
            async with asyncio.timeout(EARLY_S if case.act == "leave early" else None):
                async with asked(road, "POST", path, body) as answer:
                    await self._read(run, answer)
        run.port = 0
        if early is not None:
            await early

    async def _read(self, run: AskedRun, answer: Answer) -> None:
        acts_after = self._random.randrange(1, 20)
        if answer.status != 200:
            problem = json.loads(await answer.body())
            is_upstreams = problem["code"].startswith("upstream") or answer.status in (429, 504)
            run.is_admitted = is_upstreams
            if not is_upstreams:
                self.refused.append(f"{run.tag} {answer.status} {problem['code']}")
            return
        run.is_admitted = True
        if run.case.route == "whole":
            completion = json.loads(await answer.body())
            run.run_id, run.end, run.usage = completion["id"], "finish", completion["usage"]
            return
        decoder = SseDecoder()
        async for piece in answer.pieces():
            for event in decoder.feed(piece):
                if event.data != "[DONE]":
                    self._take(run, json.loads(event.data))
            if run.deltas < acts_after:
                continue
            if run.case.act == "leave":
                return
            if run.case.act == "stop":
                acts_after = run.case.tokens
                await self._stop(run)

    def _take(self, run: AskedRun, chunk: dict[str, Any]) -> None:
        if run.case.route == "stream":
            run.run_id = chunk.get("id", run.run_id)
            run.deltas += any(choice["delta"].get("content") for choice in chunk.get("choices", ()))
            return
        run.deltas += chunk["type"].endswith("-delta")
        if chunk["type"] in TERMINAL:
            run.end = chunk["type"]
        run.usage = (chunk.get("messageMetadata") or {}).get("usage", run.usage)

    async def _stop(self, run: AskedRun, after_s: float = 0.0) -> None:
        """Stops an answer, at whichever process."""
        await asyncio.sleep(after_s)
        with contextlib.suppress(*LOST):
            async with asked(self._road(), "POST", f"/api/chat/{run.tag}/stop", {}) as answer:
                await answer.body()

    # Audio

    async def _speak(self, act: str) -> None:
        held = HeldSession(act)
        self.sessions.append(held)
        while True:
            try:
                is_over = await self._connect(held, may_return=act == "cut and return")
            except (*LOST, websockets.WebSocketException):
                is_over = bool(held.session) and act != "cut and return"
            if is_over:
                return
            await asyncio.sleep(PAUSE_S)

    async def _connect(self, held: HeldSession, *, may_return: bool) -> bool:
        """Speaks on one connection; returns whether its client is done with the session."""
        is_return = bool(held.session)
        url = f"ws://127.0.0.1:{(await self._reachable()).port}/api/audio"
        async with connect(url, subprotocols=[SUBPROTOCOL], compression=None, proxy=None) as socket:
            start: dict[str, Any] = {"type": "start", "sampleRate": RATE}
            await socket.send(json.dumps(start | ({"session": held.session} if is_return else {})))
            ready = json.loads(await socket.recv())
            if ready["type"] != "ready":
                return is_return  # it waited too long, and is over
            held.session, held.sent_ms = ready["session"], ready["resumeFrom"] * 1000 // RATE
            hearing = asyncio.ensure_future(self._hear(held, socket))
            try:
                frames = 16 if held.act == "stay" else self._random.randrange(1, 30)
                await self._frames(held, socket, frames, quickly=held.act != "stay")
                if held.act == "stop" or is_return:
                    await socket.send('{"type":"stop"}')
                    await hearing
                elif held.act != "leave":
                    socket.transport.abort()
            finally:
                hearing.cancel()
        return is_return or not may_return

    async def _frames(self, held: HeldSession, socket: Any, count: int, *, quickly: bool) -> None:
        for _ in range(count):
            await socket.send(bytes(int(2 * RATE * FRAME_S)))
            held.sent_ms += int(FRAME_S * 1000)
            await asyncio.sleep(0.02 if quickly else FRAME_S)

    async def _hear(self, held: HeldSession, socket: Any) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "ack":
                    held.acked_ms = message["samples"] * 1000 // RATE
                elif message["type"] == "done":
                    held.done_ms = round(message["duration"] * 1000)

    async def _file(self) -> None:
        held = HeldSession("file", sent_ms=self._random.randrange(500, 4000))
        self.sessions.append(held)
        body, kind = _form(held.sent_ms)
        with contextlib.suppress(*LOST):
            reader, writer = await (await self._reachable()).connect()
            try:
                head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}"
                writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                answer = Answer(reader, await reader.readuntil(b"\r\n\r\n"))
                if answer.status == 200 and await answer.body():
                    held.done_ms = held.sent_ms
            finally:
                writer.transport.abort()


def _form(duration_ms: int) -> tuple[bytes, str]:
    """Returns a form with a file of silence, and the header that names its type."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(bytes(2 * RATE * duration_ms // 1000))
    name = 'Content-Disposition: form-data; name="file"; filename="silence.wav"'
    form = f"--part\r\n{name}\r\n\r\n".encode() + file.getvalue() + b"\r\n--part--\r\n"
    return form, "Content-Type: multipart/form-data; boundary=part"
