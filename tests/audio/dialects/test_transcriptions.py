"""The route of file transcription, with a model that hears exactly what was spoken: fields, refusals, leaving."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psutil
import pytest
import soundfile

from audio.model.desk import Desk
from audio.model.fake import FakeTranscriber, FakeVoice, spoken
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE
from audio.upload import Uploads
from gateway.access.auth import Grants, Principal
from gateway.errors import BadRequest, Forbidden
from routes import transcriptions
from routes.multipart import UploadForm
from routes.transcriptions import Asked, asked_in

DEADLINE_S = 10.0


def form(**fields: str | list[str]) -> UploadForm:
    made = UploadForm()
    made.file_name = "a.wav"
    made.fields = {
        name.replace("__", "[]"): value if isinstance(value, list) else [value] for name, value in fields.items()
    }
    return made


def asked(**fields: str | list[str]) -> Asked:
    return asked_in(form(**fields), lambda code: code in ("en", "fr"))


# What is asked


def test_without_fields_it_is_json_in_a_language_to_be_found() -> None:
    said = asked()
    assert (said.format, said.stream, said.language, said.prompt) == ("json", False, None, "")
    assert (said.listening().words, said.listening().interim_results) == (False, False)


def test_what_is_not_known_is_passed_over() -> None:
    assert asked(model="whisper-99", chunking_strategy="auto", x="1") == asked()


def test_an_empty_field_is_one_that_was_left_out() -> None:
    assert asked(language="", response_format="", stream="", temperature="", timestamp_granularities__="") == asked()


@pytest.mark.parametrize("brackets", ["timestamp_granularities", "timestamp_granularities__"])
def test_lists_come_with_brackets_and_without(brackets: str) -> None:
    said = asked(response_format="verbose_json", **{brackets: ["word", "segment"]})
    assert said.granularities == ["word", "segment"]
    assert said.listening().words


def test_of_a_long_prompt_the_end_is_kept() -> None:
    assert asked(prompt="x" * 5000 + "end").prompt == "x" * 997 + "end"


@pytest.mark.parametrize(("said", "code"), [("fr", "fr"), ("French", "fr"), ("EN", "en")])
def test_a_language_may_be_a_code_or_a_name(said: str, code: str) -> None:
    assert asked(language=said).language == code


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": "xml"}, "response_format", "'xml': want one of json, text, verbose_json, srt, vtt"),
    ({"stream": "maybe"}, "stream", "'maybe': want one of true, false"),
    ({"temperature": "2"}, "temperature", "'2': want a number from 0 to 1"),
    ({"temperature": "nan"}, "temperature", "'nan': want a number"),
    ({"temperature": "warm"}, "temperature", "'warm': want a number"),
    ({"language": "tlh"}, "language", "'tlh': the model does not know it"),
    ({"include__": "moods"}, "include[]", "'moods': want logprobs"),
    ({"response_format": "verbose_json", "timestamp_granularities__": ["word", "letter"]}, "timestamp", "want word or"),
    ({"timestamp_granularities__": "word"}, "timestamp_granularities", "response_format=verbose_json"),
    ({"response_format": "srt", "stream": "true"}, "stream", "json or text, not with srt"),
]


@pytest.mark.parametrize(("fields", "name", "said"), BAD, ids=lambda value: str(value)[:30])
def test_a_bad_value_is_refused_with_field_value_and_what_is_allowed(fields: Any, name: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        asked(**fields)
    assert said in refused.value.detail
    assert refused.value.detail.startswith(name)
    assert str(refused.value.extra["param"]).startswith(name)


def test_a_form_without_a_file_is_refused() -> None:
    with pytest.raises(BadRequest, match="no part `file`"):
        asked_in(UploadForm(), lambda _: True)


# What is answered


def wav(words: int, pause_s: float = 3.0) -> bytes:
    file = io.BytesIO()
    audio = spoken([(number + 1, 0.5, pause_s) for number in range(words)])
    soundfile.write(file, audio, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


class Server:
    """The handler's answer alone, as an ASGI application."""

    def __init__(self, model: FakeTranscriber, max_bytes: int = 10_000_000) -> None:
        self.model = model
        self.uploads = Uploads(1)
        models = Models(model, Desk(model), FakeVoice())
        self.app = transcriptions._Answer(models, self.uploads, max_bytes)  # pyright: ignore[reportPrivateUsage]

    def post(self, data: bytes, **fields: str) -> httpx2.Response:
        async def run() -> httpx2.Response:
            async with asyncio.timeout(DEADLINE_S), self.client() as client:
                return await client.post("/v1/audio/transcriptions", data=fields, files={"file": ("a.wav", data)})

        return asyncio.run(run())

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://test")


@contextmanager
def serving(test: Callable[[], FakeTranscriber] = FakeTranscriber, **how: Any) -> Iterator[Server]:
    """Fails when a descriptor is left open."""
    before = psutil.Process().num_fds()
    yield Server(test(), **how)
    assert psutil.Process().num_fds() == before


def test_a_stream_has_deltas_that_joined_are_the_text() -> None:
    with serving() as server:
        answer = server.post(wav(3), stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.splitlines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    deltas = [event["delta"] for event in events if event["type"] == "transcript.text.delta"]
    assert deltas == ["w1", " w2", " w3"]
    assert events[-1]["type"] == "transcript.text.done"
    assert events[-1]["text"] == "".join(deltas)
    assert events[-1]["usage"] == {"type": "duration", "seconds": 11}


def test_no_audio_is_a_400_even_of_a_stream() -> None:
    with serving() as server:
        answer = server.post(b"not audio at all", stream="true")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_audio")
    assert "b'not audio at all'" in answer.json()["message"]


def test_a_failure_within_a_stream_is_an_error_event() -> None:
    with serving() as server:
        server.model.failing = 2
        answer = server.post(wav(3), stream="true")
    assert answer.status_code == 200
    last = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))
    assert last["error"]["code"] == "transcription_failed"


def test_a_failure_of_a_whole_answer_is_a_500_that_may_be_tried_again() -> None:
    with serving() as server:
        server.model.failing = 2
        answer = server.post(wav(3))
    assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "true")


def test_a_file_of_silence_is_an_empty_text() -> None:
    file = io.BytesIO()
    soundfile.write(file, spoken([(1, 0.0, 5.0)]), SAMPLE_RATE, format="WAV")
    with serving() as server:
        assert server.post(file.getvalue()).json()["text"] == ""
        assert server.post(file.getvalue(), response_format="text").text == "\n"
        assert server.post(file.getvalue(), response_format="srt").text == ""
        assert server.post(file.getvalue(), response_format="vtt").text == "WEBVTT\n\n"
        assert server.post(file.getvalue(), response_format="verbose_json").json()["segments"] == []


def test_who_may_not_use_the_lane_is_told_before_anything_is_read() -> None:
    class Asking:
        user = Principal(sub="ann", grants=Grants(audio=False))

    with pytest.raises(Forbidden, match="does not allow the audio lane"):
        asyncio.run(transcriptions.transcriptions.fn(Asking(), None))  # type: ignore[arg-type]


def test_too_large_is_413_with_the_setting() -> None:
    with serving(max_bytes=1000) as server:
        answer = server.post(wav(1))
    assert answer.status_code == 413
    assert "TRILANE_LIMIT_UPLOAD_BYTES" in answer.json()["message"]


def test_a_client_that_leaves_frees_everything_at_once() -> None:
    """The model holds its answer back for ever: only the leaving can end the request."""

    async def run(server: Server) -> list[dict[str, Any]]:
        body = httpx2.Request("POST", "http://test", files={"file": ("a.wav", wav(3))})
        messages = [{"type": "http.request", "body": body.read(), "more_body": False}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            while not server.model.calls:  # noqa: ASYNC110 - the fake says nothing
                await asyncio.sleep(0.001)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(name.lower().encode(), value.encode()) for name, value in body.headers.items()]
        async with asyncio.timeout(DEADLINE_S):
            await server.app({"type": "http", "headers": headers}, receive, send)
        with server.uploads.admitted():
            return sent

    with serving(lambda: FakeTranscriber(holds=True)) as server:
        assert asyncio.run(run(server)) == []
