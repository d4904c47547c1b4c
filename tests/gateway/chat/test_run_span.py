"""A run has one span and each call of its model a child, however many steps it takes and whoever ends it."""

from collections.abc import Iterator

import pytest

from gateway.chat.abandoned import end_run
from gateway.chat.ending import Failed
from gateway.chat.run_span import end_run_span, run_span
from gateway.chat.tools.fake import FakeToolbox, fake_tool
from gateway.core.tracing import Tracer
from gateway.errors import LogUnavailable, TrilaneError
from gateway.settings import Tracing
from tests.support.collector import Collector, collecting
from tests.support.completions import END, HELLO
from tests.support.run_stage import Stage
from tests.support.tool_stage import calls, says, staged
from tests.support.virtual_time import simulated


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as made:
        for name, value in made.env.items():
            monkeypatch.setenv(name, value)
        yield made


def test_every_call_of_the_model_is_a_child_of_the_one_run(collector: Collector) -> None:
    @simulated
    async def play() -> None:
        async def look(call: object) -> object:
            return {"secret": "result-5e"}

        toolbox = FakeToolbox((fake_tool("crm__look", approve="auto", effect="read"), look))
        call = ("k1", "crm__look", {"order": "argument-5e"})
        tracing = Tracing(otel_exporter_otlp_endpoint=collector.url)
        async with staged(toolbox, calls(call), says("answer-5e"), tracing=tracing) as stage:
            await stage.say("prompt-5e")

    play()
    spans = collector.await_spans(3)
    [run] = [span for span in spans if span.kind == "SERVER"]
    tries = [span for span in spans if span.kind == "CLIENT"]
    assert {span.parent_id for span in tries} == {run.span_id}
    reasons = [span.attributes["gen_ai.response.finish_reasons"] for span in tries]
    assert sorted(reasons) == [["stop"], ["tool_calls"]]
    assert run.attributes["trilane.outcome"] == "finish"
    sent = b"".join(collector.bodies)
    assert b"-5e" not in sent
    assert b"crm__look" not in sent


async def _ended_elsewhere(stage: Stage) -> None:
    await stage.start()
    await end_run(stage.log, "r", Failed(TrilaneError("gone", code="interrupted")))
    stage.body.send(END)
    stage.body.end()


async def _never_opened(stage: Stage) -> None:
    stage.log.append_failure = LogUnavailable("the disk is full")
    await stage.start()


ENDS = {
    "ended by another process": (_ended_elsewhere, ("interrupted", "interrupted")),
    "never opened": (_never_opened, ("error", "log_failed")),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_does_not_write_its_own_end_has_an_error(end: str, collector: Collector) -> None:
    how, told = ENDS[end]

    @simulated
    async def play() -> None:
        tracer = Tracer()
        stage = Stage(HELLO)
        span = run_span(tracer, stage.run.info)
        await how(stage)
        await stage.run.over()
        end_run_span(span, stage.run)
        await tracer.close()

    play()
    [run] = collector.await_spans(1)
    assert (run.attributes["trilane.outcome"], run.attributes["error.type"], run.status) == (*told, "ERROR")
