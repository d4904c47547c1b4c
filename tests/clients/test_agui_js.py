"""AG-UI's own client, `HttpAgent`, works unmodified against `/agui`: tools, interrupts, and runs that are cut."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from loadtests.upstream.shapes import words
from tests.clients.node import install, tool
from tests.clients.test_ai_sdk_tools import SERVER, TOOLS, calling
from tests.clients.test_openai_sdk import THOUGHT
from tests.conftest import Gateway, UpstreamThread, eventually, serving

KEY = "agui-key-of-32-characters-or-more"
CUTS = {"ok": (1, 2, 3, 7, 12), "reasoning": (4,), "tools-2": (2, 3, 4)}
"""After how many events an answer of each model is cut."""


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("agui")
    file = folder / "upstreams.toml"
    file.write_text(TOOLS.format(upstream=upstream.url, python=sys.executable, server=SERVER))
    upstream.fake.script("asks", calling(("desk__echo", '{"text":"one"}')))
    server = serving(folder, upstream.url, TRILANE_UPSTREAMS=str(file), TRILANE_API_KEYS=f"alice:{KEY}")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def answers(gateway: Gateway) -> dict[str, Any]:
    """Returns the answer to each question of `js/agui.mjs`."""
    script = install() / "agui.mjs"
    process = subprocess.run([tool("node"), str(script), gateway.url, KEY], capture_output=True, timeout=120)
    assert process.returncode == 0, process.stderr.decode()
    return msgspec.json.decode(process.stdout)


def texts(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message.get("content") or "") for message in answer["messages"]]


def test_a_run_streams_a_text_and_its_figures(answers: dict[str, Any]) -> None:
    answer = answers["plain"]
    assert answer["failure"] is None
    assert texts(answer) == [("user", "T=20 I=0"), ("assistant", words(20))]
    assert answer["types"][0] == "RUN_STARTED"
    assert answer["last"]["outcome"] == {"type": "success"}
    assert [answer["last"]["usage"][0][name] for name in ("inputTokens", "outputTokens")] == [7, 20]


def test_reasoning_is_a_message_of_its_own(answers: dict[str, Any]) -> None:
    assert texts(answers["reasoning"])[1:] == [("reasoning", THOUGHT), ("assistant", words(20))]


def test_a_client_makes_its_own_calls_and_the_next_run_goes_on(answers: dict[str, Any]) -> None:
    answer = answers["tools"]
    assert answer["failure"] is None
    assert [call["id"] for call in answer["calls"]] == ["call_0", "call_1"]
    assert [role for role, _ in texts(answer)] == ["user", "assistant", "tool", "tool", "assistant"]
    assert texts(answer)[-1] == ("assistant", words(20))


def test_what_failed_is_told_as_the_protocol_has_it(answers: dict[str, Any]) -> None:
    [error] = answers["failed"]["errors"]
    assert error["code"].startswith("upstream_")
    assert texts(answers["failed"])[1] == ("assistant", words(10))
    assert answers["refused"]["failure"]["status"] == 429
    assert answers["stranger"]["failure"]["status"] == 401


def test_who_aborts_ends_the_upstreams_work(answers: dict[str, Any], upstream: UpstreamThread) -> None:
    assert answers["aborted"]["types"][0] == "RUN_STARTED"
    assert "RUN_FINISHED" not in answers["aborted"]["types"]
    eventually(lambda: not upstream.open_requests)


def test_an_ask_is_an_interrupt_that_the_client_answers(answers: dict[str, Any]) -> None:
    answer = answers["interrupt"]
    assert answer["failure"] is None
    assert (answer["outcome"]["type"], len(answer["asked"])) == ("interrupt", 1)
    assert [role for role, _ in texts(answer)] == ["user", "assistant", "tool", "assistant"]
    assert texts(answer)[-1] == ("assistant", words(20))


@pytest.mark.parametrize("how", ["resumed", "again"])
@pytest.mark.parametrize(("model", "events"), [(model, events) for model, cuts in CUTS.items() for events in cuts])
def test_a_run_that_was_cut_is_whole_when_it_is_asked_for_again(
    model: str, events: int, how: str, answers: dict[str, Any]
) -> None:
    answer = answers[f"{model} {events} {how}"]
    assert answer["cut"] is not None
    assert answer["failure"] is None
    said = {"ok": [("assistant", words(20))], "reasoning": [("reasoning", THOUGHT), ("assistant", words(20))]}
    assert texts(answer) == [("user", "T=20 I=20"), *said.get(model, [("assistant", "")])]
    assert calls(answer) == (calls(answers["uncut"]) if model == "tools-2" else [])


def calls(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the id and the arguments of each call."""
    made = [call for message in answer["messages"] for call in message.get("toolCalls", ())]
    return [(call["id"], call["function"]["arguments"]) for call in made]
