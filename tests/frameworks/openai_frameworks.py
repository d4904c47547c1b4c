"""openai-agents and Pydantic AI call `/v1/responses` first, unmodified: part of `make test-frameworks`."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.upstream.answer import Answer
from loadtests.upstream.shapes import chunk, words
from loadtests.upstream.stream import finish, start
from tests.conftest import Gateway, UpstreamThread, serving
from tests.frameworks.framework import INSTALL_S, Framework

pytestmark = pytest.mark.timeout(INSTALL_S + 120)
PROGRAM = Path(__file__).resolve().parent / "agents" / "responses_wire.py"
OPENAI_WIRE = Framework(
    name="responses-wire",
    packages=("openai-agents", "pydantic-ai-slim[openai]"),
    kind="python",
    paths={},
)
WEATHER = {"city": "Zürich", "day": 1}


async def an_object(answer: Answer) -> None:
    await start(answer)
    await answer.frame(chunk(answer.ask, {"content": json.dumps(WEATHER)}))
    await finish(answer)


async def a_handoff(answer: Answer) -> None:
    await start(answer)
    function = {"name": "transfer_to_ok", "arguments": "{}"}
    await answer.frame(chunk(answer.ask, {"tool_calls": [{"index": 0, "id": "call_1", "function": function}]}))
    await finish(answer, "tool_calls")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with UpstreamThread() as model:
        model.fake.script("json-object", an_object)
        model.fake.script("handoff", a_handoff)
        made = serving(tmp_path_factory.mktemp("wire"), model.url)
        try:
            yield made.start()
        finally:
            made.stop()


@pytest.fixture(scope="module")
def answers(gateway: Gateway) -> dict[str, Any]:
    """Returns the answer to each question of the program."""
    try:
        OPENAI_WIRE.install()
    except subprocess.CalledProcessError as err:
        pytest.skip(f"openai-agents and Pydantic AI cannot be installed here: {err}")
    command = [OPENAI_WIRE.folder / "bin" / "python", PROGRAM, gateway.url]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout)


def test_openai_agents_run_tools_handoffs_and_guardrails(answers: dict[str, Any]) -> None:
    assert answers["agents_tool"] == [words(5), ["ToolCallItem", "ToolCallOutputItem", "MessageOutputItem"]]
    assert answers["agents_stream"] == words(5)
    assert answers["agents_handoff"] == ["ok", words(4)]
    assert answers["agents_guardrail"] == "tripped"


def test_openai_agents_make_objects_and_go_on(answers: dict[str, Any]) -> None:
    assert answers["agents_object"] == WEATHER
    assert answers["agents_goes_on"] == [words(4), words(3), words(2)]


def test_pydantic_ai_runs_tools_makes_objects_and_goes_on(answers: dict[str, Any]) -> None:
    assert answers["pydantic_tool"] == [words(5), words(5)]
    assert answers["pydantic_object"] == WEATHER
    parts = ["UserPromptPart", "ThinkingPart", "TextPart"]
    assert answers["pydantic_goes_on"] == [parts, words(3)]


def test_each_raises_what_is_not_whole(answers: dict[str, Any]) -> None:
    refused = {"e400": "BadRequestError", "e429": "RateLimitError"}
    assert answers["agents_errors"] == {**refused, "cut": "InternalServerError"}
    assert answers["agents_stream_errors"] == {**refused, "cut": "ModelBehaviorError"}
    assert answers["pydantic_errors"].keys() == {"e400", "e429", "cut"}
