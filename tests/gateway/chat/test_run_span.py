"""A run has one span and each call of its model a child, however many steps it takes and whoever ends it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from msgspec import Raw
from trilane_agent import Context

from gateway.chat.abandoned import end_run
from gateway.chat.ending import Failed
from gateway.chat.run_span import end_run_span, run_span
from gateway.chat.tools.fake import FakeToolbox, fake_tool
from gateway.chat.tools.toolbox import ToolResult
from gateway.chat.tools.traced import TracedToolbox
from gateway.core.tracing import Tracer
from gateway.errors import LogUnavailable, ToolError, TrilaneError
from gateway.settings import Tracing
from tests.support.collector import Collector, collecting
from tests.support.completions import END, HELLO
from tests.support.run_stage import Stage
from tests.support.tool_stage import calls, says, staged
from tests.support.virtual_time import simulated
from tests.support.work_stage import work_staged


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
    spans = collector.await_spans(4)
    [run] = [span for span in spans if span.kind == "SERVER"]
    tries = [span for span in spans if span.kind == "CLIENT"]
    [tool] = [span for span in spans if span.kind == "INTERNAL"]
    assert {span.parent_id for span in (*tries, tool)} == {run.span_id}
    assert (tool.name, tool.status) == ("execute_tool crm__look", "UNSET")
    assert tool.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "crm__look",
        "gen_ai.tool.type": "extension",
    }
    reasons = [span.attributes["gen_ai.response.finish_reasons"] for span in tries]
    assert sorted(reasons) == [["stop"], ["tool_calls"]]
    assert run.attributes["trilane.outcome"] == "finish"
    assert b"-5e" not in b"".join(collector.bodies)


@pytest.mark.parametrize(
    ("failure", "told"),
    [(ToolError("secret-5e"), "tool_failed"), ("secret-5e", "tool_error"), (ValueError("secret-5e"), "ValueError")],
)
def test_a_call_that_fails_says_of_what_kind(failure: Exception | str, told: str, collector: Collector) -> None:
    tracer = Tracer()

    @simulated
    async def play() -> None:
        async def look(call: object) -> object:
            if isinstance(failure, str):
                return ToolResult(output=Raw(b"null"), error_text=failure)
            raise failure

        tool = fake_tool("crm__look", approve="auto", effect="read")
        run = tracer.start("run", {})
        box = TracedToolbox(FakeToolbox((tool, look)), run)
        assert [one.name for one in box.offered("alice")] == ["crm__look"]
        with contextlib.suppress(ToolError, ValueError):
            await box.call(tool, Raw(b"{}"), key="k", sub="alice", on_progress=lambda progress: None)
        run.end({})
        await tracer.close()

    play()
    spans = collector.await_spans(2)
    [tool] = [span for span in spans if span.kind == "INTERNAL"]
    assert (tool.status, tool.attributes["error.type"]) == ("ERROR", told)
    assert b"-5e" not in b"".join(collector.bodies)


def test_each_entry_of_a_worker_is_a_child_of_the_run_as_are_the_tools_and_models_that_it_asks_for(
    collector: Collector,
) -> None:
    @simulated
    async def play() -> None:
        entries: list[int] = []
        hangs = asyncio.Event()

        async def look(call: object) -> object:
            return "result-5e"

        async def helper(ctx: Context) -> AsyncIterator[str]:
            entries.append(1)
            await ctx.tool("crm__look", {"order": "argument-5e"})
            if len(entries) == 1:
                hangs.set()
                await asyncio.get_running_loop().create_future()
            async for piece in ctx.model(ctx.messages):
                yield piece

        toolbox = FakeToolbox((fake_tool("crm__look", approve="auto", effect="read"), look))
        tracing = Tracing(otel_exporter_otlp_endpoint=collector.url)
        async with work_staged(says("answer-5e"), toolbox=toolbox, tracing=tracing) as stage:
            stage.work(helper)
            stage.work(helper)
            saying = asyncio.ensure_future(stage.say("prompt-5e"))
            await hangs.wait()
            stage.kill()
            await saying

    play()
    spans = collector.await_spans(5)
    [run] = [span for span in spans if span.kind == "SERVER"]
    children = [span for span in spans if span is not run]
    assert {span.parent_id for span in children} == {run.span_id}
    names = ["chat", "execute_tool crm__look", "invoke_agent helper", "invoke_agent helper"]
    assert sorted(span.name.removesuffix(" m") for span in children) == names
    entries = [span for span in children if span.name == "invoke_agent helper"]
    assert [span.attributes.get("error.type") for span in entries] == ["agent_lost", None]
    assert {span.attributes["gen_ai.agent.name"] for span in entries} == {"helper"}
    assert b"-5e" not in b"".join(collector.bodies)


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
