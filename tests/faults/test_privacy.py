"""What users write, say and are told stands in their own topics and nowhere else, whatever goes wrong.

One gateway of all lanes, encrypted, is given a mark in every place where content can be; an upstream repeats the prompt
in each kind of failure. Then every byte that the gateway left is searched: log lines, metrics, the data folder with the
files that uploads leave in TMPDIR, and what the log holds beside the users' own topics.
"""

import asyncio
import base64
import contextlib
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import psutil
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from events.log.port import read_to_head
from gateway.core.engines import opened_log
from gateway.settings import load
from tests.audio.speaker import JFK, SUBPROTOCOL, Speaker, speech
from tests.conftest import Gateway

MARK = "kvxqcanary"
"""The beginning of every mark; no file and no line of ours has it."""
SPOKEN = "fellow"
"""A word of the speech, as it is heard."""
KEY = "k1:" + base64.b64encode(bytes(range(32))).decode()
MARKED_FILE = base64.b64encode(f"{MARK}image {MARK}image".encode()).decode()
OWN = ("chat/", "run/", "event/user/", "event/audio/", "event/team/")
"""Prefixes of the topics that hold content."""
UPSTREAM_FAILURES = ["refuse-400", "refuse-401", "refuse-429", "refuse-500", "html", "in-band", "junk", "odd", "cut"]


class RepeatingUpstream(BaseHTTPRequestHandler):
    """An upstream that answers with marks, and repeats the prompt in whatever it says is wrong."""

    protocol_version = "HTTP/1.0"

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        model = json.loads(body)["model"]
        error = {"error": {"message": f"not this: {body}", "type": "invalid", "param": MARK, "code": f"bad_{MARK}"}}
        if model.startswith("refuse"):
            self._answer(int(model[-3:]), "application/json", json.dumps(error))
        elif model == "html":
            self._answer(200, "text/html", f"<p>{body}")
        else:
            self._answer(200, "text/event-stream", "".join(self._frames(model, body, error)))
            if model == "hang":
                self.rfile.read(1)

    def _answer(self, status: int, kind: str, text: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(text.encode())
            self.wfile.flush()

    def _frames(self, model: str, body: str, error: object) -> Iterator[str]:
        yield frame({"content": f"{MARK}said"})
        if model == "say":
            function = {"name": "look", "arguments": json.dumps({"for": f"{MARK}argument"})}
            yield frame({"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": function}]})
            yield frame({}, "tool_calls")
            yield "data: [DONE]\n\n"
        elif model == "in-band":
            yield f"data: {json.dumps(error)}\n\n"
        elif model == "junk":
            yield f"data: {{{body}\n\n"
        elif model == "odd":
            yield f"data: {json.dumps({'choices': body, MARK: [MARK]})}\n\n"


def frame(delta: dict[str, Any], finish: str | None = None) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]})}\n\n"


@pytest.fixture(scope="module")
def upstream_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), RepeatingUpstream) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture(scope="module")
def gateway(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Yields a gateway that has seen everything, also its own death in the middle of an answer."""
    folder = tmp_path_factory.mktemp("private")
    env = {"OPENAI_BASE_URL": upstream_url, "OPENAI_API_KEY": "sk-x", "TRILANE_MODEL": "say", "TMPDIR": str(folder)}
    gateway = Gateway(folder, env | {"TRILANE_ENCRYPTION_KEY": KEY}, unit="all")
    try:
        gateway.start()
        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(use, gateway) for use in (talk, fail, misuse, publish, speak, upload)]:
                done.result()
        hang(gateway)
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        gateway.start()
        yield gateway
    finally:
        gateway.stop()


# What users do


def chat(gateway: Gateway, chat_id: str, **more: Any) -> str:
    parts = [
        {"type": "text", "text": f"{MARK}typed"},
        {
            "type": "file",
            "mediaType": "image/png",
            "filename": f"{MARK}.png",
            "url": f"data:image/png;base64,{MARKED_FILE}",
        },
    ]
    tools = {f"{MARK}tool": {"description": f"{MARK}described", "parameters": {"type": "object"}}}
    body = {"id": chat_id, "message": {"id": f"m-{chat_id}", "role": "user", "parts": parts}, "tools": tools}
    return post(gateway, "/api/chat", body | {"system": f"{MARK}system", f"{MARK}extra": MARK} | more).text


def post(gateway: Gateway, path: str, body: Any, **how: Any) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return httpx2.post(f"{gateway.url}{path}", content=content, timeout=60, **how)


def talk(gateway: Gateway) -> None:
    answer = chat(gateway, "c1")
    assert f"{MARK}said" in answer
    assert f"{MARK}argument" in answer
    assert MARK in httpx2.get(f"{gateway.url}/api/chats").text
    httpx2.delete(f"{gateway.url}/api/chat/c1/messages/m-c1")


def fail(gateway: Gateway) -> None:
    for model in UPSTREAM_FAILURES:
        chat(gateway, f"c-{model}", model=model)
        for is_stream in (True, False):
            messages = [{"role": "user", "content": f"{MARK}typed"}]
            post(gateway, "/v1/chat/completions", {"model": model, "messages": messages, "stream": is_stream})


def misuse(gateway: Gateway) -> None:
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": MARK}]}
    bodies: list[Any] = [
        f'{{"id": "{MARK}'.encode(),
        f'"{MARK}"'.encode(),
        b'\xff{"id": "' + MARK.encode(),
        {"id": f"{MARK} with spaces", "message": message},
        {"id": "c2", "message": message | {"role": MARK}},
        {"id": "c2", "message": message | {"parts": [{"type": MARK, MARK: [MARK]}]}},
        {"id": "c2", "message": message, "temperature": MARK},
        {"id": "c2", "message": message, "toolChoice": {MARK: MARK}},
        {"id": "c2", "message": message, "model": "no-such-model"},
        {"id": "c2", "messages": {MARK: MARK}},
        {
            "id": "c2",
            "message": message | {"parts": [{"type": "file", "mediaType": "image/png", "url": f"ftp://{MARK}"}]},
        },
    ]
    for body in bodies:
        for path in ("/api/chat", "/v1/chat/completions", "/api/events", "/api/tickets", "/v1/realtime/client_secrets"):
            post(gateway, path, body)
    for first in (
        "{" + MARK,
        json.dumps({"type": MARK}),
        json.dumps({"type": "start", "language": MARK}),
        MARK.encode(),
    ):
        for path in ("/api/audio", "/v1/realtime?intent=transcription"):
            url = gateway.url.replace("http", "ws") + path
            with (
                contextlib.suppress(WebSocketException, TimeoutError),
                connect(url, subprotocols=[Subprotocol(SUBPROTOCOL)]) as socket,
            ):
                socket.send(first)
                for _ in range(2):
                    socket.recv(timeout=1)


def publish(gateway: Gateway) -> None:
    events = [{"topic": "team/a", "data": f"{MARK}published"}, {"topic": "team/a", "data": MARK * 10_000}]
    for event in [*events, {"topic": f"{MARK} !", "data": MARK}, {"topic": "team/a", "event": MARK + "\n", "data": 1}]:
        post(gateway, "/api/events", event)
    with httpx2.stream("GET", f"{gateway.url}/api/events?topic=team/a&topic=presence/team/a&from=earliest") as stream:
        assert any(MARK in line for line in stream.iter_lines())
    post(gateway, "/api/tickets", {"route": "/api/events"})


def speak(gateway: Gateway) -> None:
    speaker = Speaker([gateway.port], speech()[: 16_000 * 2 * 5], pace=4, prompt=f"{MARK}prompt", topic="team/a")
    asyncio.run(asyncio.wait_for(speaker.run(), 60))
    assert SPOKEN in speaker.text


def upload(gateway: Gateway) -> None:
    url, sound = f"{gateway.url}/v1/audio/transcriptions", JFK.read_bytes()
    fields = {"model": "whisper-1", "prompt": f"{MARK}prompt"}
    for content in (sound, sound[:20_000] + MARK.encode() * 100, MARK.encode() * 100, b""):
        answer = httpx2.post(url, data=fields, files={"file": (f"{MARK}.flac", content)}, timeout=60)
        assert answer.status_code == 400 or "so" in answer.text
    httpx2.post(url, data={"language": MARK}, files={"file": (f"{MARK}.flac", sound)}, timeout=60)


def hang(gateway: Gateway) -> None:
    """Leaves an answer that is being written."""
    body = {"id": "c-hang", "message": {"id": "m", "role": "user", "parts": [{"type": "text", "text": MARK}]}}
    request = json.dumps(body | {"model": "hang"})
    with httpx2.stream("POST", f"{gateway.url}/api/chat", content=request, timeout=60) as answer:
        assert any(f"{MARK}said" in line for line in answer.iter_lines())


# What of it is where


def places(text: str) -> list[str]:
    """Returns what stands around each mark of a text."""
    found: list[str] = []
    for mark in (MARK, SPOKEN, MARKED_FILE[:20]):
        at = text.find(mark)
        while at >= 0:
            found.append(text[max(0, at - 150) : at + 50])
            at = text.find(mark, at + 1)
    return found


def test_no_log_line_tells_what_was_written_or_said(gateway: Gateway) -> None:
    assert places(gateway.stderr()) == []


def test_no_metric_no_name_of_a_process_and_no_health_check_tells_it(gateway: Gateway) -> None:
    for path in ("/metrics", "/readyz", "/healthz", "/openapi.json"):
        assert places(httpx2.get(f"{gateway.url}{path}").text) == []
    process = psutil.Process(gateway.pid)
    assert places(" ".join([process.name(), *process.cmdline()])) == []


def test_no_file_of_the_data_folder_tells_it(gateway: Gateway) -> None:
    files = [path for path in gateway.folder.rglob("*") if path.is_file()]
    assert {"trilane.db", "trilane.db-wal"} <= {path.name for path in files}
    assert {path.name: places(path.read_bytes().decode("latin-1")) for path in files} == {
        path.name: [] for path in files
    }


def test_only_the_topics_of_users_hold_it(gateway: Gateway) -> None:
    topics = asyncio.run(contents(gateway.folder))
    marked = {name for name, text in topics.items() if places(text)}
    assert {name.partition("/")[0] for name in topics} >= {"chat", "run", "usage", "audio", "event", "ticket"}
    assert [name for name in marked if not name.startswith(OWN)] == []
    assert {name[: name.rindex("/") + 1] for name in marked} == set(OWN)


async def contents(folder: Path) -> dict[str, str]:
    """Returns everything that the log holds, by topic."""
    settings = load({"TRILANE_DATA_DIR": str(folder), "TRILANE_ENCRYPTION_KEY": KEY})
    async with opened_log(settings) as log:
        return {
            name: repr([block async for part in read_to_head(log, name) for block in part.blocks])
            for name in await log.names("", 10_000)
        }


def test_the_answer_that_died_with_its_process_is_ended_without_a_word(gateway: Gateway) -> None:
    chat(gateway, "c-hang", model="cut")
    assert "ended a run of another process" in gateway.stderr()
    assert places(gateway.stderr()) == []
