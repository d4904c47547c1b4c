"""The same run seen through five dialects says the same: text, reasoning, calls, usage and how it ended."""

import json
from itertools import groupby
from typing import Any, cast

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.chat.dialects.agui import AguiEvents
from gateway.chat.dialects.agui_request import RunAgentInput
from gateway.chat.ending import Aborted, Failed, Finished, RunEnding, RunOutcome
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.record import FinishReason
from gateway.core.usage import Usage
from gateway.errors import UpstreamCut
from tests.support.answers import call, recorded
from tests.support.dialect_views import RUN, VIEWS, AguiClient, RunView, lines_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
TEXT = st.tuples(st.sampled_from(["text", "reasoning"]), TEXTS)
ARGUMENTS = st.dictionaries(TEXTS, st.none() | st.integers() | TEXTS, max_size=3)
PIECE_OF_CALL = st.tuples(st.integers(0, 2), st.just(""))
Step = tuple[str | int, str]


@st.composite
def runs(draw: st.DrawFn) -> list[Step]:
    """Makes texts, and up to three calls whose pieces are mixed with them as servers do; all calls are whole."""
    steps: list[Step] = draw(st.lists(TEXT | PIECE_OF_CALL, max_size=10))
    rests = {at: json.dumps(draw(ARGUMENTS), ensure_ascii=False) for at, _ in steps if isinstance(at, int)}
    mixed: list[Step] = []
    for kind, piece in steps:
        if isinstance(kind, int):
            piece, rests[kind] = rests[kind][:3], rests[kind][3:]
        mixed.append((kind, piece))
    return [step for step in mixed if step[1]] + [(at, rest) for at, rest in rests.items() if rest]


COUNTS = st.tuples(*[st.integers(0, 2**40)] * 4)
FIELDS = {"text": "content", "reasoning": "reasoning_content"}


def deltas_of(steps: list[Step]) -> list[dict[str, Any]]:
    """Returns what an upstream sends: pieces of texts, and of calls, mixed as they come."""
    known: set[int] = set()
    deltas: list[dict[str, Any]] = []
    for kind, piece in steps:
        if isinstance(kind, int):
            first = {"id": f"c{kind}", "name": f"tool{kind}"} if kind not in known else {}
            known.add(kind)
            deltas.append(call(kind, piece, **first))
        else:
            deltas.append({FIELDS[kind]: piece})
    return deltas


def meant(steps: list[Step]) -> tuple[str, str, dict[str, tuple[str, str]]]:
    """Returns the text, the reasoning and the calls that those pieces make."""
    calls: dict[str, tuple[str, str]] = {}
    for kind, piece in steps:
        if isinstance(kind, int):
            name, arguments = calls.get(f"c{kind}", (f"tool{kind}", ""))
            calls[f"c{kind}"] = name, arguments + piece
    text, reasoning = ("".join(piece for kind, piece in steps if kind == one) for one in ("text", "reasoning"))
    return text, reasoning, calls


def records_of(steps: list[Step], outcome: RunOutcome, usage: Usage) -> list[bytes]:
    recorder, records = recorded(*deltas_of(steps), is_over=isinstance(outcome, Finished))
    info = RunInfo(run_id="r", sub="s", message_id="m", model="asked")
    ending = RunEnding(info, outcome, recorder, usage, model="gpt")
    return [*records, *cast("list[bytes]", ending.appends(1, None)[0].data)]


def usage_of(counts: tuple[int, ...]) -> Usage:
    tokens_in, tokens_out, cached, thought = counts
    return Usage(
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        total_tokens=tokens_in + tokens_out,
        cached_tokens=min(cached, tokens_in),
        reasoning_tokens=min(thought, tokens_out),
    )


def views(records: list[bytes]) -> dict[str, RunView]:
    return {name: view(records) for name, view in VIEWS.items()}


@settings(deadline=None, max_examples=25)
@given(runs(), COUNTS, st.sampled_from(["stop", "length", "content-filter"]))
@example([("text", "Hi"), (0, "{"), ("text", "."), (1, "{}"), (0, "}")], (5, 3, 4, 1), "stop")
def test_a_run_that_finishes_says_the_same_in_each(
    steps: list[Step], counts: tuple[int, ...], reason: FinishReason
) -> None:
    text, reasoning, calls = meant(steps)
    reason = "tool-calls" if calls else reason
    usage = usage_of(counts)
    seen = views(records_of(steps, Finished(reason), usage))
    figures = (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens)
    for name, view in seen.items():
        assert (view.text, view.reasoning, view.calls) == (text, reasoning, calls), name
        assert (view.usage, view.end) == (figures, ("finish", reason)), name
    assert len({view.order for view in seen.values()} - {None}) == 1


@settings(deadline=None, max_examples=25)
@given(runs(), st.booleans())
def test_a_run_that_does_not_finish_says_so_in_each(steps: list[Step], is_stopped: bool) -> None:
    outcome = Aborted("stopped") if is_stopped else Failed(UpstreamCut("it broke"))
    text, reasoning, _ = meant(steps)
    for name, view in views(records_of(steps, outcome, usage_of((9, 3, 0, 0)))).items():
        if name == "message":  # has one block open at a time: what stands behind a call that was cut is not told
            assert text.startswith(view.text)
            assert reasoning.startswith(view.reasoning)
        else:
            assert (view.text, view.reasoning) == (text, reasoning), name
        assert view.end == (("stopped", "") if is_stopped else ("error", "it broke")), name


@settings(deadline=None, max_examples=60)
@given(runs(), st.data())
def test_who_comes_back_to_ag_ui_with_any_id_has_all_of_it(steps: list[Step], data: st.DataObject) -> None:
    records = records_of(steps, Finished("tool-calls" if meant(steps)[2] else "stop"), usage_of((9, 3, 0, 0)))
    whole = AguiClient()
    whole.feed(AguiEvents("r", RUN).feed(lines_of(records)))
    told = [int(event_id.rpartition(".")[2]) for event_id, _ in groupby(whole.ids) if event_id]
    cut = data.draw(st.sampled_from(told[:-1]))
    first = AguiClient()
    frames = AguiEvents("r", RUN).feed(lines_of(records[:cut]))
    first.feed(frames)
    assert first.ids[-1] == f"r.e.{cut}"
    back = AguiClient(first.messages)
    back.feed(AguiEvents("r", RUN, cut).feed(lines_of(records)))
    assert (back.messages, back.end) == (whole.messages, whole.end)


@settings(deadline=None, max_examples=30)
@given(runs(), st.data())
def test_who_asks_ag_ui_for_the_same_run_again_has_it_once(steps: list[Step], data: st.DataObject) -> None:
    records = records_of(steps, Finished("tool-calls" if meant(steps)[2] else "stop"), usage_of((9, 3, 0, 0)))
    whole = AguiClient()
    whole.feed(AguiEvents("r", RUN).feed(lines_of(records)))
    first = AguiClient()
    cut = data.draw(st.integers(1, len(records) - 1))
    first.feed(AguiEvents("r", RUN).feed(lines_of(records[:cut])))
    shown = [{"id": "u1", "role": "user", "content": "hi"}, *first.messages]
    again = AguiClient(shown)
    raws = [Raw(msgspec.json.encode(message)) for message in shown]
    run = RunAgentInput(thread_id="t", run_id="client-run", messages=raws).run("r")
    again.feed(AguiEvents("r", run).feed(lines_of(records)))
    assert again.messages == [shown[0], *whole.messages]
