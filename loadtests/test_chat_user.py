"""The chat user reads streams, finds their faults, and judges real gateways behind good and bad proxies."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.bench.harness.processes import search_path
from loadtests.users.answer import StreamedAnswer, Token, compare
from loadtests.users.bursts import Buffering, held_back
from loadtests.users.fault import Fault
from loadtests.users.origin import Origin, Unanswered, Unreachable
from loadtests.users.question import Plan, Question
from loadtests.users.sse import MAX_LINE_BYTES, Comment, Event, SseParser
from loadtests.users.swarm import behind, over_tls, swarm
from tests.conftest import Gateway, UpstreamThread, serving

CHATS = "loadtests/chat.py"
KEY = "k" * 40
ALL_MEASURES = {"first token", "between tokens", "whole answer", "resume gap", "stop", "second reader"}

# ------------------------------------------------------------------ bytes

STREAM = (
    b": ok\nid: a.1\ndata: {}\n\n: ping\nevent: hello\nretry: 1000\ndata: one\ndata: two\n\ndata:bare\n\nid: a.2\n\n"
)
SAID = [
    Comment("ok"),
    Event("message", "a.1", "{}"),
    Comment("ping"),
    Event("hello", "", "one\ntwo"),
    Event("message", "", "bare"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(STREAM)])
def test_a_stream_reads_the_same_in_pieces_of_any_size(size: int) -> None:
    parser = SseParser()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [item for piece in pieces for item in parser.feed(piece)] == SAID


@pytest.mark.parametrize("cut", range(1, 12))
def test_half_an_event_is_no_event(cut: int) -> None:
    whole = b"id: a.7\ndata: x\n\n"
    assert SseParser().feed(whole[:-cut]) == []


def test_a_ping_is_read_when_it_comes_and_not_with_the_next_event() -> None:
    assert SseParser().feed(b": ping\n") == [Comment("ping")]


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_LINE_BYTES} bytes"):
        SseParser().feed(b"data: " + b"x" * MAX_LINE_BYTES)


# ------------------------------------------------------------------ answers


def chunk(offset: int, kind: str, **more: object) -> Event:
    return Event("message", f"run.epoch.{offset}", json.dumps({"type": kind, **more}))


def token(offset: int, number: int) -> Event:
    return chunk(offset, "text-delta", id="t0", delta=f"~s{number}~t{number * 10_000_000}~ ")


START, FINISH, ABORT = chunk(2, "start"), chunk(6, "finish"), chunk(6, "abort")
ERROR = chunk(6, "error", errorText="the upstream went away")
TOKENS = [token(3, 0), token(4, 1), token(5, 2)]
DONE = Event("message", "", "[DONE]")
DRAIN = Event("message", "", '{"type":"data-drain","data":{"retry":1000},"transient":true}')
WHOLE = [START, *TOKENS, FINISH, DONE]


def faults_of(events: list[Event], answer: StreamedAnswer | None = None) -> list[Fault]:
    answer = answer or StreamedAnswer(expected_tokens=3)
    return [finding.fault for event in events for finding in answer.take(event, 0.0)]


@pytest.mark.parametrize(
    ("events", "faults"),
    [
        (WHOLE, []),
        ([START, *TOKENS, ABORT, DONE], []),
        ([START, DRAIN, *TOKENS, FINISH, DONE], []),
        ([START, *TOKENS, ERROR, DONE], [Fault.ERROR]),
        ([START, *TOKENS, DONE], [Fault.NO_END]),
        ([*WHOLE, DONE], [Fault.DOUBLED]),
        ([START, *TOKENS, FINISH, chunk(7, "abort"), DONE], [Fault.DOUBLED]),
        ([START, TOKENS[0], TOKENS[1], TOKENS[1], TOKENS[2], FINISH], [Fault.DOUBLED]),
        ([START, TOKENS[0], TOKENS[2], FINISH], [Fault.LOST, Fault.LOST]),
        ([START, token(3, 0), token(4, 2), chunk(5, "finish")], [Fault.LOST]),
        ([START, token(3, 0), token(4, 0), token(5, 1), token(6, 2), chunk(7, "finish")], [Fault.DOUBLED]),
        ([START, token(3, 0), token(4, 1), chunk(5, "finish")], [Fault.LOST]),
        ([START, chunk(4, "text-start"), chunk(3, "text-delta", delta="x")], [Fault.LOST, Fault.DOUBLED]),
        ([START, chunk(3, "start-step"), chunk(5, "text-start"), chunk(6, "finish")], []),
        ([START, chunk(3, "start-step"), chunk(6, "text-start"), chunk(7, "finish")], [Fault.LOST]),
        ([START, Event("message", "", '{"type":"text-start"}')], [Fault.ERROR]),
        ([START, Event("message", "other.epoch.3", '{"type":"text-start"}')], [Fault.OUT_OF_ORDER]),
        ([START, chunk(3, "text-delta", delta="any"), chunk(4, "text-delta", delta=" model"), chunk(5, "finish")], []),
    ],
)
def test_each_wrong_stream_has_its_faults(events: list[Event], faults: list[Fault]) -> None:
    assert faults_of(events) == faults


def test_a_reader_that_comes_back_gets_the_rest() -> None:
    answer = StreamedAnswer(expected_tokens=3)
    assert not faults_of([START, TOKENS[0]], answer)
    assert answer.cursor == "run.epoch.3"
    answer.come_back()
    assert not faults_of([TOKENS[1], TOKENS[2], FINISH, DONE], answer)
    assert answer.is_done
    assert [event_id for event_id, _ in answer.events] == [f"run.epoch.{offset}" for offset in range(2, 7)]


def test_a_replay_from_the_start_is_said_once_and_its_events_are_not_kept_twice() -> None:
    answer = StreamedAnswer(expected_tokens=3)
    assert not faults_of([START, TOKENS[0], TOKENS[1]], answer)
    answer.come_back()
    assert faults_of(WHOLE, answer) == [Fault.NO_RESUME]
    assert len(answer.events) == 5


def test_a_gateway_that_leaves_says_so_for_one_connection() -> None:
    answer = StreamedAnswer()
    faults_of([START, DRAIN], answer)
    assert answer.leaving
    answer.come_back()
    assert not answer.leaving


def test_two_readers_are_compared_event_by_event() -> None:
    one = [("a.1", "x"), ("a.2", "y")]
    assert compare(one, list(one)) == []
    for other in ([("a.1", "x"), ("a.2", "z")], one[:1], [*one, ("a.3", "")]):
        assert [finding.fault for finding in compare(one, other)] == [Fault.DIFFERENT]


# ------------------------------------------------------------------ bursts

PACED = [number * 0.02 for number in range(60)]


def tokens_at(times_s: list[float], made_s: list[float] | None = None) -> list[Token]:
    return [Token(at, made_s[number] if made_s else None) for number, at in enumerate(times_s)]


def in_blocks(size: int) -> list[float]:
    """Returns when tokens arrive that a proxy holds until there are `size` of them, or the end."""
    return [PACED[min(len(PACED), (number // size + 1) * size) - 1] for number in range(len(PACED))]


@pytest.mark.parametrize(
    ("tokens", "waited_s", "is_held"),
    [
        (tokens_at(PACED, PACED), 0.01, False),
        (tokens_at([at + 3 for at in PACED], PACED), 3.0, False),
        (tokens_at([PACED[-1]] * 60, PACED), 1.2, True),
        (tokens_at(in_blocks(30), PACED), 0.6, True),
        (tokens_at(in_blocks(5), PACED), 0.1, False),
        (tokens_at([max(at, 0.8) for at in PACED], PACED), 0.1, False),  # one stall at the beginning
        (tokens_at([0.0] * 60, [0.0] * 60), 0.01, None),  # a model that is fast
        (tokens_at([9.0] * 9, PACED[:9]), 9.0, None),
        (tokens_at(PACED), 5.0, False),
        (tokens_at([0.5] * 60), 0.5, None),
        (tokens_at([5.0] * 60), 5.0, True),
        (tokens_at([5.0] * 20), 5.0, None),
    ],
)
def test_an_answer_was_held_back_when_what_took_long_to_make_came_at_once(
    tokens: list[Token], waited_s: float, is_held: bool | None
) -> None:
    assert held_back(tokens, waited_s) is is_held


@pytest.mark.parametrize(
    ("answers", "certain"),
    [
        ([True] * 4, False),
        ([True] * 5, True),
        ([True, None, None, None, True, True, True, True], True),
        ([True, False, True] * 5, False),
        ([False, *[True] * 4], True),
    ],
)
def test_buffering_is_certain_when_most_answers_show_it(answers: list[bool | None], certain: bool) -> None:
    buffering = Buffering()
    assert any([buffering.judge(is_held) for is_held in answers]) is certain


# ------------------------------------------------------------------ questions, and where they go


def test_a_question_sent_again_is_the_same_request() -> None:
    question = Question("c1", "m1", "T=5 hello")
    assert question.body() == question.body()
    assert "model" not in question.body()
    assert question._replace(model="ok").body()["model"] == "ok"


def test_a_plan_cuts_its_share_within_its_bytes() -> None:
    assert Plan(cut_share=0).cut_after() is None
    cuts = [Plan(cut_share=1, cut_within_bytes=50).cut_after() for _ in range(500)]
    assert set(cuts) == set(range(50))


@pytest.mark.parametrize("url", ["", "gateway.example", "ftp://gateway.example", "http://"])
def test_a_host_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Unreachable, match="say https://"):
        Origin(url).open("GET", "/")


def test_no_answer_is_told_from_no_connection() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match="refused"):
            Origin(host).open("GET", "/")
        silent.listen()
        with pytest.raises(Unanswered, match=r"GET /x: no answer within 0\.1 s"):
            Origin(host).open("GET", "/x", head_s=0.1)


# ------------------------------------------------------------------ real gateways


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamThread]:
    with UpstreamThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Runs a gateway whose upstream puts marks into its tokens."""
    server = serving(tmp_path_factory.mktemp("gateway"), upstream.url, TRILANE_MODEL="ok+marks")
    try:
        yield server.start()
    finally:
        server.stop()


def test_a_good_deployment_has_no_faults_over_several_processes(gateway: Gateway, tmp_path: Path) -> None:
    often = ("-u", "12", "--processes", "2", "--cut", "0.5", "--stop", "0.3")
    result = swarm(CHATS, gateway.url, tmp_path, *often, seconds=10)
    assert (result.faults, result.exit_code) == (set(), 0), result.output[-3000:]
    assert {f"chat/{name}" for name in ALL_MEASURES} - {"chat/second reader"} <= set(result.counts)


def test_a_proxy_that_buffers_is_found_and_nothing_else_is(gateway: Gateway, tmp_path: Path) -> None:
    with behind(gateway.port, tmp_path, "--buffer") as url:
        result = swarm(CHATS, url, tmp_path, "-u", "8", "--cut", "0", "--stop", "0", seconds=8)
    assert (result.faults, result.exit_code) == ({"BUFFERED"}, 1), result.output[-3000:]


def test_a_proxy_that_forgets_cursors_is_found_and_nothing_else_is(gateway: Gateway, tmp_path: Path) -> None:
    with behind(gateway.port, tmp_path, "--no-resume") as url:
        result = swarm(CHATS, url, tmp_path, "-u", "6", "--cut", "1", "--stop", "0", seconds=6)
    assert (result.faults, result.exit_code) == ({"NO_RESUME"}, 1), result.output[-3000:]


def test_an_answer_that_fails_is_a_fault(gateway: Gateway, tmp_path: Path) -> None:
    result = swarm(CHATS, gateway.url, tmp_path, "-u", "2", "--model", "cut", "--cut", "0", "--stop", "0", seconds=4)
    assert (result.faults, result.exit_code) == ({"ERROR"}, 1)
    assert "an answer ended in an error" in result.output


def test_a_token_is_asked_for_and_sent_also_over_tls(upstream: UpstreamThread, tmp_path: Path) -> None:
    if shutil.which("nginx", path=search_path()) is None or shutil.which("openssl") is None:
        pytest.skip("needs nginx and openssl")
    gateway = serving(tmp_path, upstream.url, TRILANE_MODEL="ok+marks", TRILANE_API_KEYS=f"alice:{KEY}").start()
    two = ("-u", "2", "--stop", "0")
    try:
        assert swarm(CHATS, gateway.url, tmp_path, *two, seconds=5).faults == {"UNAUTHORIZED"}
        with over_tls(gateway.port, tmp_path) as url:
            unsigned = swarm(CHATS, url, tmp_path, *two, "--token", KEY, seconds=5)
            assert unsigned.faults == {"UNREACHABLE"}
            assert "CERTIFICATE_VERIFY_FAILED" in unsigned.output
            result = swarm(CHATS, url, tmp_path, *two, "--token", KEY, "--insecure", "--cut", "0.5", seconds=6)
    finally:
        gateway.stop()
    assert (result.faults, result.exit_code) == (set(), 0), result.output[-3000:]
    assert result.counts["chat/between tokens"] > 20
