"""The audio user finds each fault in what a session was told, with a server that misbehaves, and none with ours.

Locust runs in a process of its own, because it patches the standard library of the one that imports it.
"""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from loadtests.bench.audio.client import PROTOCOL
from loadtests.users.audio_session import AudioSession, Message
from loadtests.users.fault import Fault
from loadtests.users.speech import AT_LEAST_S, SAMPLE_TEXT, NoSpeech, speeches
from tests.conftest import Gateway

READY = {"type": "ready", "session": "s1", "resumeFrom": 0, "cursor": "c0"}
WORDS = [
    {"text": "Ask", "start": 1.0, "end": 1.2, "probability": 0.9},
    {"text": "not.", "start": 1.3, "end": 1.6, "probability": 0.9},
]


def partial(segment: int, text: str, stable: str = "") -> Message:
    return {"type": "partial", "segment": segment, "text": text, "stable": stable, "start": 0.5, "end": 2.0}


def final(segment: int, text: str = "Ask not.", **more: Any) -> Message:
    message = {"type": "final", "segment": segment, "text": text, "start": 0.5, "end": 2.0, "confidence": 0.9}
    return {**message, "language": "en", "cursor": f"c{segment + 1}", "words": WORDS, **more}


def done(segments: int) -> Message:
    return {"type": "done", "duration": 3.0, "segments": segments}


def with_numbers(messages: list[Message]) -> list[Message]:
    """Returns the messages with `seq` where they had none."""
    return [{"seq": seq, **message} for seq, message in enumerate(messages, 1)]


def hear(*messages: Message) -> AudioSession:
    """Returns a session that heard these messages, a second apart."""
    session = AudioSession()
    for at_s, message in enumerate(with_numbers(list(messages))):
        session.hear(message, float(at_s))
    return session


def faults_of(session: AudioSession) -> list[Fault]:
    return [finding.fault for finding in session.findings]


def test_a_session_as_it_should_be_has_no_faults_and_its_delays() -> None:
    speech_start, speech_stop = {"type": "speech_started", "at": 0.6}, {"type": "speech_stopped", "at": 1.9}
    session = hear(READY, speech_start, partial(0, "Ask"), partial(0, "Ask not", "Ask"), speech_stop, final(0), done(1))
    assert not session.findings
    assert session.is_done
    assert session.text == "Ask not."
    measures = [(name, round(ms)) for name, ms in session.measures]
    assert measures == [("first partial", 1400), ("final", 3100), ("stable word", 1800), ("stable word", 3400)]


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([READY, {**partial(0, "Ask"), "seq": 3}], Fault.LOST),
        ([READY, {**partial(0, "Ask"), "seq": 1}], Fault.DOUBLED),
        ([READY, final(0), final(0)], Fault.DOUBLED),
        ([READY, final(1)], Fault.LOST),
        ([READY, final(0), partial(0, "Ask")], Fault.OUT_OF_ORDER),
        ([READY, partial(0, "Ask not", "Ask not"), partial(0, "As", "As")], Fault.DIFFERENT),
        ([READY, {"type": "gap", "start": 1.0, "end": 2.5, "reason": "overload"}], Fault.LOST),
        ([READY, final(0), done(2)], Fault.LOST),
        ([READY, {"type": "ack", "samples": 900}, {"type": "ack", "samples": 800}], Fault.OUT_OF_ORDER),
        ([{"type": "error", "code": "overloaded", "message": "full", "retryable": True}], Fault.REFUSED),
        ([{"type": "error", "code": "forbidden", "message": "no audio", "retryable": False}], Fault.UNAUTHORIZED),
        ([{"type": "error", "code": "bad_start", "message": "what?", "retryable": False}], Fault.ERROR),
    ],
)
def test_each_breach_of_the_contract_is_one_fault(messages: list[Message], fault: Fault) -> None:
    assert faults_of(hear(*messages)) == [fault]


def test_a_final_that_comes_after_its_successor_is_out_of_order() -> None:
    assert faults_of(hear(READY, final(1), final(0))) == [Fault.LOST, Fault.OUT_OF_ORDER]


def come_back(ready: Message, *messages: Message) -> AudioSession:
    """Returns a session with one final, 800 samples settled and one open segment, that was cut and resumed."""
    session = hear(READY, final(0), {"type": "ack", "samples": 800}, partial(1, "And so", "And so"))
    session.lose_connection()
    for seq, message in enumerate([ready, *messages], ready.get("seq", 4)):
        session.hear({**message, "seq": seq}, 9.0)
    return session


def test_a_resumed_session_may_say_numbers_again_and_hear_the_open_segment_anew() -> None:
    ready = {**READY, "resumeFrom": 800, "seq": 3}
    before = len(hear(READY, final(0)).measures)
    session = come_back(ready, partial(1, "And now", "And"), final(1, "And now."), done(2))
    assert not session.findings
    assert len(session.measures) == before, "what a cut fell into is not timed"


@pytest.mark.parametrize(
    ("ready", "fault"),
    [
        ({**READY, "session": "s2"}, Fault.NO_RESUME),
        ({**READY, "resumeFrom": 0}, Fault.NO_RESUME),
        ({**READY, "resumeFrom": 800, "seq": 7}, Fault.LOST),
        ({"type": "error", "code": "session_unknown", "message": "no", "retryable": False}, Fault.NO_RESUME),
    ],
)
def test_a_session_that_does_not_go_on_where_it_was_is_told_from_one_that_does(ready: Message, fault: Fault) -> None:
    assert faults_of(come_back(ready)) == [fault]


def test_wrong_words_are_a_fault_past_the_bound() -> None:
    session = hear(READY, final(0, "Ask what."), done(1))
    session.judge("Ask not.", 60.0)
    assert not session.findings
    session.judge("Ask not.", 40.0)
    assert faults_of(session) == [Fault.WORDS]
    assert session.measures[-1] == ("words wrong %", 50.0)


def test_without_a_folder_the_sample_of_the_repository_is_spoken() -> None:
    (speech,) = speeches("")
    assert speech.text == SAMPLE_TEXT
    assert AT_LEAST_S < speech.seconds < 15


def test_a_folder_without_recordings_says_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(NoSpeech, match=r"transcripts\.tsv"):
        speeches(str(tmp_path))


# On the wire


class MisbehavingServer:
    """An audio server whose Nth new session does the Nth misdeed of a list; later ones are refused with 403."""

    def __init__(self, misdeeds: list[str]) -> None:
        self.things = misdeeds
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._has_started = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)

    def __enter__(self) -> "MisbehavingServer":
        self._thread.start()
        assert self._has_started.wait(5)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)
        self._loop.close()

    async def _serve(self) -> None:
        accepted = {"process_request": self._admit, "subprotocols": [PROTOCOL]}
        async with serve(self._talk, "127.0.0.1", 0, **accepted) as server:
            self.port = _port_of(server)
            self._has_started.set()
            await self._stop.wait()

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Statuses are for the handshake; everything else for after it."""
        if "session=" in request.path:
            return None
        thing = self.things.pop(0) if self.things else "403"
        if thing.isdigit():
            return socket.respond(HTTPStatus(int(thing)), "no")
        socket.thing = thing  # type: ignore[attr-defined] - for `_talk`, which gets nothing else of the request
        return None

    async def _talk(self, socket: ServerConnection) -> None:
        await socket.recv()
        match getattr(socket, "thing", "another session"):
            case "full":
                refusal = {"type": "error", "code": "overloaded", "message": "6 people speak", "retryable": True}
                await self._say(socket, refusal)
                await socket.close(1013, "full")
            case "loses a final":
                await self._say(socket, READY, final(1), done(2))
            case "ends":
                await self._say(socket, READY)
                await socket.close(1001, "bye")
            case _:
                await self._say(socket, {**READY, "session": "s2"})

    async def _say(self, socket: ServerConnection, *messages: Message) -> None:
        for message in with_numbers(list(messages)):
            await socket.send(json.dumps(message))


def _port_of(server: Server) -> int:
    return next(iter(server.sockets)).getsockname()[1]


def locust(url: str, seconds: int, *options: str, users: int, folder: Path) -> dict[str, Any]:
    """Returns the verdict of a run of the audio users."""
    verdict = folder / "verdict.json"
    command = [sys.executable, "-m", "locust", "-f", "loadtests/audio.py", "--host", url, "--headless"]
    load = ["-u", str(users), "-r", str(users), "-t", f"{seconds}s", "-s", "40", "--verdict", str(verdict)]
    process = subprocess.run([*command, *load, *options], capture_output=True, text=True, timeout=90, check=False)
    assert verdict.exists(), process.stderr
    result: dict[str, Any] = json.loads(verdict.read_text())
    assert process.returncode == (0 if result["ok"] else 1), process.stderr
    return result


def faults(verdict: dict[str, Any]) -> dict[str, str]:
    """Returns the first detail of each fault."""
    return {one["fault"]: one["first"] for one in verdict["faults"]}


def test_a_server_that_misbehaves_is_found_out(tmp_path: Path) -> None:
    things = ["full", "503", "401", "loses a final", "ends", "500"]
    with MisbehavingServer(list(things)) as server:
        verdict = locust(f"http://127.0.0.1:{server.port}", 3, "--cut", "0", users=len(things), folder=tmp_path)
    details = faults(verdict)
    assert details.keys() >= {"REFUSED", "UNAUTHORIZED", "LOST", "NO_END", "NO_RESUME", "ERROR"}
    assert "s2" in details["NO_RESUME"]
    assert "1001" in details["NO_END"]


def test_nobody_at_the_address_is_a_fault_that_says_so(tmp_path: Path) -> None:
    assert "UNREACHABLE" in faults(locust("http://127.0.0.1:1", 5, "-s", "0", users=1, folder=tmp_path))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = Gateway(tmp_path_factory.mktemp("gateway"), {"TRILANE_LIMIT_VOICES": "2"}, unit="audio")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.mark.paced
def test_speech_is_transcribed_through_cuts_and_one_too_many_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    verdict = locust(gateway.url, 4, "--cut", "1", "--words-wrong", "0", users=3, folder=tmp_path)
    measures = {one["name"]: one for one in verdict["measures"]}
    assert measures.keys() >= {"ready", "resume gap", "words wrong %"}, verdict  # a cut may leave nothing to be timed
    misheard = {"WORDS"} if measures["words wrong %"]["max"] else set[str]()  # as the model hears on this processor
    assert faults(verdict).keys() == {"REFUSED"} | misheard, verdict["faults"]
    assert measures["words wrong %"]["max"] < 25
