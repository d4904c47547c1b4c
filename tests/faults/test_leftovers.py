"""Whatever ends is free at once: a server looks at all of its objects as good as never, so a circle is a leak."""

import contextlib
import io
import itertools
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Gateway, UpstreamThread
from tests.support.raw_client import request
from tests.support.raw_sockets import BINARY, CLOSE, TEXT, dial, frame
from tests.support.sse_client import Frames, chat_body, follow, iter_frames, send
from tests.support.uncollected_gateway import UncollectedGateway

TIMES = 4
"""Lives of each kind: what each leaves is found so many times."""
RATE = 16_000


@pytest.fixture
def served(upstream: UpstreamThread, tmp_path: Path) -> Iterator[UncollectedGateway]:
    more = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-test", "TRILANE_MODEL": "fast"}
    made = UncollectedGateway(tmp_path, {**more, "TRILANE_SESSION_KEPT_S": "1"})
    try:
        yield made.start()
    finally:
        made.stop()


# Lives


class Lives:
    """One method for each kind of life that ends."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._ids = itertools.count()

    @property
    def url(self) -> str:
        return self.gateway.url

    def new_id(self) -> str:
        return f"c{next(self._ids)}"

    def post(self, path: str, **how: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}{path}", timeout=20, **how)

    def chat(self, text: str, chat_id: str = "") -> Frames:
        return send(self.url, chat_body(chat_id or self.new_id(), text))[1]

    def dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.gateway.port), timeout=10)

    # HTTP

    def a_request(self) -> None:
        assert httpx2.get(f"{self.url}/healthz").status_code == 200

    def a_request_cut_in_its_head(self) -> None:
        with self.dial() as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHo")

    def a_request_cut_in_its_body(self) -> None:
        with self.dial() as client:
            client.sendall(request("POST", "/api/chat", b"{" * 1000)[:-500])
            time.sleep(0.05)

    def a_connection_of_no_http(self) -> None:
        with self.dial() as client:
            client.sendall(b"garbage\r\n\r\n")
            client.recv(1000)

    def a_head_too_large(self) -> None:
        with self.dial() as client, contextlib.suppress(ConnectionError):
            client.sendall(b"GET /healthz HTTP/1.1\r\n")
            client.sendall((b"x: " + b"x" * 1000 + b"\r\n") * 400)
            client.recv(1000)

    def a_pipeline(self) -> None:
        with self.dial() as client:
            client.sendall(request("GET", "/healthz") * 3)
            client.recv(100)

    def a_refused_request(self) -> None:
        assert self.post("/api/chat", json={"no": 1}).status_code == 400
        assert httpx2.get(f"{self.url}/nowhere").status_code == 404
        assert httpx2.get(f"{self.url}/api/chat/none").status_code == 404

    def a_ticket(self) -> None:
        ticket = self.post("/api/tickets", json={"route": "/api/events"}).json()["ticket"]
        with httpx2.stream("GET", f"{self.url}/api/events?topic=a&ticket={ticket}") as answer:
            next(answer.iter_lines())

    # Chat

    def a_run(self) -> None:
        assert self.chat("hi").types[-1] == "finish"

    def a_run_stopped(self) -> None:
        chat_id, frames = self.new_id(), Frames()
        body = chat_body(chat_id, "B=ok T=1000 I=20000")
        with httpx2.stream("POST", f"{self.url}/api/chat", json=body, timeout=20) as answer:
            for _, data in iter_frames(answer.iter_lines(), frames):
                if data["type"] == "text-delta":
                    self.post(f"/api/chat/{chat_id}/stop", json={})
        assert frames.types[-1] == "abort"

    def a_run_cut(self) -> None:
        assert self.chat("B=cut-hard").types[-1] == "error"
        assert self.chat("B=cut").types[-1] == "error"

    def a_run_failed(self) -> None:
        for how in ("e400", "e401", "html", "cut-first", "error-openai"):
            self.chat(f"B={how}")

    def a_run_left(self) -> None:
        chat_id = self.new_id()
        body = chat_body(chat_id, "B=ok T=30")
        with httpx2.stream("POST", f"{self.url}/api/chat", json=body, timeout=20) as answer:
            next(answer.iter_lines())
        follow(self.url, chat_id)

    def a_run_that_parks(self) -> None:
        chat_id = self.new_id()
        frames = self.chat("B=tools", chat_id)
        [asked] = [data for data in frames.chunks if data["type"] == "tool-approval-request"]
        done = self.post(f"/api/chat/{chat_id}/approvals/{asked['approvalId']}", json={"approved": True})
        assert done.status_code == 200, done.text
        follow(self.url, chat_id)

    def a_run_denied(self) -> None:
        chat_id = self.new_id()
        frames = self.chat("B=tools", chat_id)
        [asked] = [data for data in frames.chunks if data["type"] == "tool-approval-request"]
        done = self.post(f"/api/chat/{chat_id}/approvals/{asked['approvalId']}", json={"approved": False})
        assert done.status_code == 200, done.text
        again = self.post(f"/api/chat/{chat_id}/approvals/{asked['approvalId']}", json={"approved": True})
        assert again.status_code == 409, again.text

    def a_chat_removed(self) -> None:
        chat_id = self.new_id()
        self.chat("hi", chat_id)
        httpx2.get(f"{self.url}/api/chat/{chat_id}")
        httpx2.get(f"{self.url}/api/chats")
        httpx2.delete(f"{self.url}/api/chat/{chat_id}")

    def a_completion(self) -> None:
        for text, more in (("hi", {}), ("hi", {"stream": True}), ("B=e400", {}), ("B=cut", {"stream": True})):
            body = {"model": "fast", "messages": [{"role": "user", "content": text}], **more}
            self.post("/v1/chat/completions", json=body)

    def a_message(self) -> None:
        for text, more in (
            ("hi", {}),
            ("hi", {"stream": True}),
            ("B=e400", {}),
            ("B=cut", {}),
            ("B=cut", {"stream": True}),
        ):
            body = {"model": "fast", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **more}
            self.post("/v1/messages", json=body)

    def a_run_of_ag_ui(self) -> None:
        for text in ("hi", "B=e400", "B=cut"):
            thread, message = self.new_id(), {"id": "m1", "role": "user", "content": text}
            body = {"threadId": thread, "runId": "r1", "messages": [message]}
            told = self.post("/agui", json=body).text
            self.post("/agui", json=body)
            cursor = next((line.removeprefix("id: ") for line in told.splitlines() if line.startswith("id: ")), "none")
            self.post("/agui", json=body, headers={"last-event-id": cursor})

    def a_response(self) -> None:
        for text, more in (("hi", {}), ("hi", {"stream": True}), ("B=e400", {}), ("B=cut", {"stream": True})):
            self.post("/v1/responses", json={"model": "fast", "input": text, **more})
        text = "B=ok T=1000 I=20000"
        stored = self.post("/v1/responses", json={"model": "fast", "input": text, "background": True})
        assert stored.status_code == 200, stored.text
        self.post(f"/v1/responses/{stored.json()['id']}/cancel")

    def a_request_passed_on(self) -> None:
        self.post("/v1/embeddings", json={"model": "fast", "input": "hi"})  # which the upstream refuses

    def a_completion_left(self) -> None:
        body = {"model": "fast", "messages": [{"role": "user", "content": "B=ok T=1000 I=20000"}], "stream": True}
        with httpx2.stream("POST", f"{self.url}/v1/chat/completions", json=body, timeout=20) as answer:
            next(answer.iter_lines())
        body |= {"stream": False}
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{self.url}/v1/chat/completions", json=body, timeout=0.3)

    # Events

    def an_event_stream(self) -> None:
        topic = self.new_id()
        with httpx2.stream("GET", f"{self.url}/api/events?topic={topic}&topic={topic}/*&from=earliest") as answer:
            lines = answer.iter_lines()
            next(lines)
            self.post("/api/events", json={"topic": topic, "data": 1})
            self.post("/api/events", json={"topic": f"{topic}/x", "data": 1})
            while '"topic"' in next(lines):
                pass

    def an_event_stream_that_is_over(self) -> None:
        topic = self.new_id()
        with httpx2.stream("GET", f"{self.url}/api/events?topic={topic}&token=none") as answer:
            next(answer.iter_lines())

    # Audio

    def speech(self) -> bytes:
        return np.concatenate([np.full(8000, 9000, "<i2"), np.zeros(16000, "<i2")]).tobytes()

    def begin(self, socket: ClientConnection, **more: Any) -> dict[str, Any]:
        socket.send(json.dumps({"type": "start", "sampleRate": RATE, **more}))
        return json.loads(socket.recv())

    def open(self) -> ClientConnection:
        url = f"ws://127.0.0.1:{self.gateway.port}/api/audio"
        return connect(url, subprotocols=["trilane.audio.v1"], compression=None)  # pyright: ignore

    def an_audio_session(self) -> None:
        with self.open() as socket:
            self.begin(socket)
            socket.send(self.speech())
            socket.send('{"type":"stop"}')
            assert json.loads(list(socket)[-1])["type"] == "done"

    def a_conversation(self) -> None:
        with self.open() as socket:
            self.begin(socket, linkChat=self.new_id())
            socket.send(self.speech())
            told = (json.loads(message) for message in socket if isinstance(message, str))
            replies = (message for message in told if message["type"] == "reply")
            run = next(reply["run"] for reply in replies if reply["state"] == "speaking")
            socket.send(json.dumps({"type": "interrupt", "run": run}))
            assert next(replies)["state"] == "interrupted"
            socket.send('{"type":"stop"}')
            assert list(told)[-1]["type"] == "done"

    def an_audio_session_resumed(self) -> None:
        with self.open() as socket:
            ready = self.begin(socket)
            socket.send(self.speech())
            socket.socket.shutdown(2)
        with self.open() as socket:
            self.begin(socket, session=ready["session"], cursor=ready["cursor"])
            socket.send('{"type":"stop"}')
            list(socket)

    def an_audio_session_cut(self) -> None:
        with self.open() as socket:
            self.begin(socket)
            socket.send(self.speech())
            socket.socket.shutdown(2)

    def a_realtime_session(self) -> None:
        url = f"ws://127.0.0.1:{self.gateway.port}/v1/realtime?intent=transcription"
        with connect(url, compression=None) as socket:
            socket.recv()

    def a_socket_refused(self) -> None:
        with self.open() as socket:
            socket.send("what")
            with contextlib.suppress(ConnectionClosedError):
                list(socket)

    def a_socket_that_breaks_the_rules(self) -> None:
        for data in (frame(TEXT, b"\xff\xfe"), b"\xff" * 100, frame(CLOSE, b"\x03\xe8"), frame(BINARY, b"x")):
            client = dial(self.gateway)
            client.sendall(data)
            client.settimeout(3)
            client.recv(1000)
            client.close()

    def file(self, samples: "np.ndarray") -> dict[str, tuple[str, bytes]]:
        file = io.BytesIO()
        soundfile.write(file, samples, RATE, format="FLAC")
        return {"file": ("a.flac", file.getvalue())}

    def an_upload(self) -> None:
        for fields in ({}, {"stream": "true"}):
            files = self.file(np.frombuffer(self.speech(), "<i2"))
            answer = self.post("/v1/audio/transcriptions", data=fields, files=files)
            assert answer.status_code == 200, answer.text
        assert self.post("/v1/audio/transcriptions", files={"file": ("a.flac", b"no")}).status_code == 400

    def an_upload_left(self) -> None:
        files = self.file(np.full(300 * RATE, 9000, "<i2"))
        for fields in ({}, {"stream": "true"}):
            with contextlib.suppress(httpx2.ReadTimeout):
                url = f"{self.url}/v1/audio/transcriptions"
                with httpx2.stream("POST", url, data=fields, files=files, timeout=0.3) as answer:
                    next(answer.iter_lines())


KINDS = [name for name in vars(Lives) if name.startswith(("a_", "an_"))]


def test_nothing_that_has_ended_waits_for_the_garbage_collector(served: UncollectedGateway) -> None:
    lives = Lives(served)

    def live(times: int) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda kind: getattr(lives, kind)(), KINDS * times))

    tasks = served.ask("tasks")
    live(1)  # what is made once, with the first of a kind, is not what is looked for
    served.rest(tasks)
    httpx2.post(f"{served.url}/begin")
    live(TIMES)
    served.rest(tasks)
    left = served.ask("leftovers")
    left.pop("builtins.traceback", 0)  # of one error there are many; its frames are named
    found = {name: count for name, count in left.items() if count >= TIMES}
    assert not found, json.dumps(left, indent=1)
