"""A gateway deals chats out among its upstreams, leaves out who fails, and reads a new file of them without a cut."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from gateway.chat.topics import chat_topic
from gateway.chat.upstreams.circuit import MIN_FAILURES
from gateway.chat.upstreams.router import in_order
from gateway.settings import load
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import Frames, chat_body, iter_frames, send
from tests.support.workers import await_workers, workers_of

STATE = "trilane_chat_upstream_state"


def upstream_of(name: str, alias: str, behaviour: str | list[str], upstream: UpstreamThread, **fields: float) -> str:
    """Returns an `[[upstream]]` that is asked for `alias`; the fake knows it by its own name, and does `behaviour`."""
    upstream.fake.script(name, behaviour)
    lines = [f"name = '{name}'", f"base_url = '{upstream.url}'", f"models = ['{name}']"]
    lines += [f"aliases = {{ {alias} = '{name}' }}", *[f"{field} = {value}" for field, value in fields.items()]]
    return "\n".join(["[[upstream]]", *lines, ""])


def file_of(upstream: UpstreamThread) -> str:
    return "\n".join(
        [
            upstream_of("three-quarters", "dealt", "fast", upstream, weight=3),
            upstream_of("a-quarter", "dealt", "fast", upstream, weight=1),
            upstream_of("dying", "flaky", "e503", upstream),
            upstream_of("well", "flaky", "fast", upstream),
            upstream_of("busy", "limited", ["e429", "fast"], upstream),
            upstream_of("idle", "limited", "fast", upstream),
            upstream_of("silent", "stuck", "hang", upstream, first_token_s=0.2),
            upstream_of("lively", "stuck", "fast", upstream),
            upstream_of("alone", "repeated", ["e503", "cut-first", "fast"], upstream, retries=2),
            upstream_of("poor", "gone", "e503", upstream),
            upstream_of("poorer", "gone", "e401", upstream),
        ]
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("file") / "upstreams.toml"


@pytest.fixture(scope="module")
def routed(upstream: UpstreamThread, path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    path.write_text(file_of(upstream))
    gateway = serving(tmp_path_factory.mktemp("routed"), upstream.url, TRILANE_UPSTREAMS=str(path))
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def asked(upstream: UpstreamThread) -> Counter[str]:
    """Returns how many requests each upstream has had."""
    return Counter(record.ask.model for record in list(upstream.fake.requests) if record.ask is not None)


def answer(gateway: Gateway, model: str, chat: str, number: int = 0) -> Frames:
    return send(gateway.url, chat_body(chat, "T=2", model=model, message_id=f"{chat}-{number}"))[1]


def state(gateway: Gateway, upstream: str, state: str) -> float:
    return gateway.gauge(f'{STATE}{{state="{state}",upstream="{upstream}"}}')


def test_chats_are_dealt_out_by_weight_and_stay(routed: Gateway, upstream: UpstreamThread, path: Path) -> None:
    chats = [f"dealt-{number}" for number in range(12)]
    sharing = load({"TRILANE_UPSTREAMS": str(path)}).upstreams[:2]
    for number in range(2):
        for chat in chats:
            before = asked(upstream)
            assert answer(routed, "dealt", chat, number).done
            [first, _] = in_order([_Settled(one) for one in sharing], chat_topic("local", chat))
            assert asked(upstream) - before == {first.settings.name: 1}
    assert min(asked(upstream)[one.name] for one in sharing) > 0


class _Settled:
    """Who is asked, as the router sees it."""

    busy = False

    def __init__(self, settings: object) -> None:
        self.settings = settings


def test_one_that_dies_is_left_out_and_comes_back_by_a_probe(routed: Gateway, upstream: UpstreamThread) -> None:
    """However slow the machine: once it is out, each request that it gets is a probe, which fails and is an opening."""
    numbers = iter(range(10_000))

    def openings() -> float:
        return routed.gauge('trilane_chat_upstream_openings_total{upstream="dying"}')

    for _ in range(MIN_FAILURES + 3):
        assert answer(routed, "flaky", f"flaky-{next(numbers)}").done
    assert asked(upstream)["well"] == MIN_FAILURES + 3
    assert openings() >= 1
    assert asked(upstream)["dying"] == MIN_FAILURES - 1 + openings()
    assert state(routed, "dying", "open") + state(routed, "dying", "half_open") == 1
    assert (state(routed, "dying", "closed"), state(routed, "well", "closed")) == (0, 1)
    upstream.fake.script("dying", "fast")
    failed = asked(upstream)["dying"]

    def is_back() -> bool:
        assert answer(routed, "flaky", f"flaky-{next(numbers)}").done
        return asked(upstream)["dying"] > failed

    eventually(is_back, 60, "a probe goes to the one that died", every_s=0.3)
    assert state(routed, "dying", "closed") == 1
    told = [json.loads(line) for line in routed.stderr().splitlines() if line.startswith("{")]
    lines = [line for line in told if line.get("upstream") == "dying"]
    assert [line["event"] for line in lines] == ["an upstream is left out"] * int(openings()) + ["an upstream is back"]
    assert lines[0]["reason"] == "upstream_unavailable"


def test_one_that_wants_to_be_left_alone_is(routed: Gateway, upstream: UpstreamThread) -> None:
    began = time.monotonic()
    for number in range(4):
        assert answer(routed, "limited", f"limited-{number}").done
    paused = state(routed, "busy", "paused")
    if time.monotonic() - began < 7:  # what the fake's `retry-after` says: a machine may stand still
        assert (asked(upstream)["busy"], asked(upstream)["idle"], paused) == (1, 4, 1)


def test_one_that_accepts_and_never_answers_is_asked_no_more(routed: Gateway, upstream: UpstreamThread) -> None:
    for number in range(MIN_FAILURES + 2):
        assert answer(routed, "stuck", f"stuck-{number}").done
    assert asked(upstream)["lively"] == MIN_FAILURES + 2
    assert routed.gauge('trilane_chat_upstream_openings_total{upstream="silent"}') >= 1


def test_what_failed_in_passing_is_repeated_and_the_client_sees_one_answer(
    routed: Gateway, upstream: UpstreamThread
) -> None:
    frames = answer(routed, "repeated", "repeated")
    assert (frames.done, frames.types.count("start"), frames.types.count("text-delta")) == (True, 1, 2)
    assert asked(upstream)["alone"] == 3


def test_where_all_are_out_one_is_asked_and_its_error_told(routed: Gateway, upstream: UpstreamThread) -> None:
    def fails() -> Counter[str]:
        before = asked(upstream)
        body = {"model": "gone", "messages": [{"role": "user", "content": "hi"}]}
        reply = httpx2.post(f"{routed.url}/v1/chat/completions", json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) in [
            (502, "upstream_auth"),
            (502, "upstream_unavailable"),
        ]
        return asked(upstream) - before

    for _ in range(MIN_FAILURES):
        fails()
    assert fails().total() <= 2
    assert routed.gauge('trilane_chat_upstream_openings_total{upstream="poor"}') >= 1
    assert routed.gauge('trilane_chat_upstream_openings_total{upstream="poorer"}') >= 1


def test_aliases_are_listed_as_models(routed: Gateway) -> None:
    models = {model["id"] for model in httpx2.get(f"{routed.url}/v1/models").json()["data"]}
    assert {"dealt", "three-quarters", "flaky"} <= models


def test_a_new_file_holds_for_new_runs_and_cuts_none_and_a_bad_one_changes_nothing(
    routed: Gateway, upstream: UpstreamThread, path: Path
) -> None:
    text = path.read_text()
    path.write_text(text + upstream_of("old", "moved", "ok", upstream))
    hang_up(routed, "the upstreams are read anew")
    frames = Frames()
    body = chat_body("moving", "T=200 I=10000", model="moved")
    with httpx2.stream("POST", f"{routed.url}/api/chat", json=body, timeout=60) as reply:
        stream = iter_frames(reply.iter_lines(), frames)
        while "text-delta" not in frames.types:
            next(stream)
        path.write_text(text + upstream_of("new", "moved", "fast", upstream))
        hang_up(routed, "the upstreams are read anew")
        assert answer(routed, "moved", "moved-after").done
        for _ in stream:
            pass
    assert (frames.done, frames.types.count("text-delta"), frames.types[-1]) == (True, 200, "finish")
    assert (asked(upstream)["old"], asked(upstream)["new"]) == (1, 1)
    path.write_text("# a line more\n" + text + upstream_of("bad", "moved", "fast", upstream, weight=0))
    line = hang_up(routed, "the upstreams stay as they were: the file cannot be used")
    number = len(path.read_text().splitlines())
    assert f"line {number}: [[upstream]] 'bad'" in line
    assert answer(routed, "moved", "moved-again").done
    assert asked(upstream)["new"] == 2


def test_workers_roll_onto_a_new_file_and_stay_as_they_are_with_a_bad_one(
    upstream: UpstreamThread, tmp_path: Path
) -> None:
    path = tmp_path / "upstreams.toml"
    path.write_text(upstream_of("first-file", "rolled", "fast", upstream))
    env = {"TRILANE_UPSTREAMS": str(path), "TRILANE_WORKERS": "1"}
    gateway = serving(tmp_path / "rolled", upstream.url, **env)
    try:
        workers = await_workers(gateway.start(), 1)
        path.write_text(upstream_of("second-file", "rolled", "fast", upstream, weight=0))
        line = hang_up(gateway, "a worker cannot start: the old ones stay")
        assert "line 6: [[upstream]] 'second-file'" in line
        eventually(lambda: workers_of(gateway) == workers, 20, "the one that cannot start has ended")
        assert answer(gateway, "rolled", "rolled-1").done
        path.write_text(upstream_of("second-file", "rolled", "fast", upstream))
        hang_up(gateway, "all workers are new")
        assert answer(gateway, "rolled", "rolled-2").done
    finally:
        gateway.stop()
    assert (asked(upstream)["first-file"], asked(upstream)["second-file"]) == (1, 1)


def hang_up(gateway: Gateway, event: str) -> str:
    """Sends SIGHUP; returns the log line that says `event` once it is there."""
    before = gateway.stderr().count(event)
    gateway.signal(signal.SIGHUP)
    eventually(lambda: gateway.stderr().count(event) > before, 60, event)
    return next(line for line in reversed(gateway.stderr().splitlines()) if event in line)
