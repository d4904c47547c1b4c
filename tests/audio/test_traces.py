"""Sessions and files leave spans that tell how much was heard, and how that ended, and no word of it."""

from collections.abc import Iterator

import pytest

from audio.model.fake import speech_of
from gateway.core.tracing import Tracer
from gateway.errors import LogUnavailable, TrilaneError
from tests.audio.lanes import MoodyLog, place
from tests.audio.test_ledger import KEYED, WORDS, transcribe, wav
from tests.support.collector import Collector, collecting
from tests.support.virtual_time import simulated


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as made:
        for name, value in made.env.items():
            monkeypatch.setenv(name, value)
        yield made


def test_a_session_is_a_span_in_each_process_that_heard_it(collector: Collector) -> None:
    @simulated
    async def listen() -> None:
        log = MoodyLog()
        async with place(log) as first, place(log) as second:
            first.core.tracer, second.core.tracer = Tracer(), Tracer()
            client = await first.connect(KEYED)
            await client.speak(speech_of(WORDS))
            await client.send_silence(2.0)
            session, cursor = client.ready["session"], client.of("final")[-1]["cursor"]
            client.cut()
            elsewhere = await second.connect(KEYED, session=session, cursor=cursor)
            await elsewhere.speak(speech_of(WORDS))
            elsewhere.live.stop()
            await elsewhere.wait_closed()
            assert client.text

    listen()
    spans = collector.await_spans(2)
    assert {(span.name, span.kind) for span in spans} == {("transcribe", "SERVER")}
    assert sorted(span.status for span in spans) == ["ERROR", "UNSET"], "the first process ends with its session open"
    assert {span.attributes["trilane.audio.kind"] for span in spans} == {"session"}
    heard_s = sorted(span.attributes["trilane.audio.seconds"] for span in spans)
    assert heard_s == [pytest.approx(1.92, abs=0.1), pytest.approx(3.92, abs=0.1)]
    sent = b"".join(collector.bodies)
    assert b"w1 w" not in sent
    assert b"telephone-key" not in sent


def test_a_session_that_cannot_be_recorded_has_an_error(collector: Collector) -> None:
    @simulated
    async def listen() -> None:
        log = MoodyLog()
        async with place(log) as at:
            at.core.tracer = Tracer()
            client = await at.connect(KEYED)
            log.append_failure = LogUnavailable("the disk is full, said me")
            await client.speak(speech_of(WORDS))
            await client.send_silence(2.0)
            await client.wait_closed()
            log.append_failure = None

    listen()
    [span] = collector.await_spans(1)
    assert (span.status, span.attributes["error.type"]) == ("ERROR", "log_unavailable")
    assert b"the disk" not in b"".join(collector.bodies)


@pytest.mark.parametrize(
    ("audio", "status", "outcome"),
    [(wav(2.0), "UNSET", "finish"), (b"no audio at all", "ERROR", "error")],
    ids=["heard", "no audio"],
)
def test_a_file_is_a_span(audio: bytes, status: str, outcome: str, collector: Collector) -> None:
    @simulated
    async def listen() -> None:
        async with place() as at:
            at.core.tracer = Tracer()
            try:
                await transcribe(at, audio)
            except TrilaneError:
                assert outcome == "error"

    listen()
    [span] = collector.await_spans(1)
    assert (span.name, span.status, span.attributes["trilane.outcome"]) == ("transcribe tiny", status, outcome)
    assert span.attributes["trilane.audio.seconds"] == (2.0 if outcome == "finish" else 0.0)
    assert bool(span.attributes.get("error.type")) == (outcome == "error")
