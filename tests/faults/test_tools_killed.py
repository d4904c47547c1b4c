"""A process that is killed while it calls tools: another goes on, and calls again only what may be called again.

The other one takes half a second of silence for a sign that the first is gone, and with LONG_TESTS=1 the 15 s that it
does in truth. `test_kills_by_point` has each point that a process can be killed at.
"""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer
from loadtests.upstream.behaviours import TABLE
from loadtests.upstream.stream import finish, start
from tests.conftest import UpstreamThread, eventually, serving
from tests.support.sse_client import chat_body, send

SERVER = Path(__file__).parents[1] / "gateway" / "chat" / "tools" / "raw_server.py"
TOOLS = """
[[upstream]]
name = "default"
base_url = "{upstream}"
model = "ok"
"""
TOOL = """
[[mcp]]
name = "{tool}"
command = ["{python}", "{server}"]
env = ["NOTES"]
[mcp.tools.{tool}]
approve = "auto"
effect = "{effect}"
"""
LONG = bool(os.environ.get("LONG_TESTS"))
SOON = """
from gateway.chat import silence, sweeper
from gateway.cli import main
silence.SILENCE_S = 0.5
sweeper.SWEEP_S = sweeper.WRITERS_TURN_S = 0.2
main()
"""
EFFECTS = {"hang": "once", "second_time": "idempotent"}
TAKEN_OVER_S = 60.0


async def call_the_tool(answer: Answer) -> None:
    """Calls the tool that the question names, and says something once it has the result."""
    if answer.ask.after_tool:
        return await TABLE["ok"].behave(answer)
    assert answer.record.body is not None
    question = answer.record.body["messages"][-1]["content"]
    name = question.split()[0]
    await start(answer)
    await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [shapes.tool_call(0, f"{name}__{name}", "{}")]}))
    return await finish(answer, "tool_calls")


def test_of_a_killed_process_only_what_may_be_is_called_again(upstream: UpstreamThread, tmp_path: Path) -> None:
    upstream.fake.script("calls-named", call_the_tool)
    file, notes = tmp_path / "upstreams.toml", tmp_path / "notes"
    notes.touch()
    tools = [
        TOOL.format(tool=tool, effect=effect, python=sys.executable, server=SERVER) for tool, effect in EFFECTS.items()
    ]
    file.write_text(TOOLS.format(upstream=upstream.url) + "".join(tools))
    env = {"TRILANE_UPSTREAMS": str(file), "NOTES": str(notes)}
    first, second = serving(tmp_path, upstream.url, **env), serving(tmp_path, upstream.url, **env)
    second.program = second.program if LONG else ("-c", SOON)
    try:
        first.start()
        if LONG:
            second.start()
        with ThreadPoolExecutor() as pool:
            for tool in EFFECTS:
                body = chat_body(tool, f"{tool} T=3") | {"model": "calls-named"}
                pool.submit(send, first.url, body)
            eventually(lambda: all(f"call {tool}" in notes.read_text() for tool in EFFECTS), 30, "both are called")
            first.signal(signal.SIGKILL)
            if not LONG:  # it would take a call that takes its time for the end of its process
                second.start()

            def chats() -> dict[str, object]:
                return {tool: httpx2.get(f"{second.url}/api/chat/{tool}").json() for tool in EFFECTS}

            def over() -> bool:
                return all(chat["activeRun"] is None for chat in chats().values())  # type: ignore[index]

            eventually(over, TAKEN_OVER_S, f"both are over: {second.stderr()}")
        calls = notes.read_text()
        assert (calls.count("call hang"), calls.count("call second_time")) == (1, 2)
        unknown, again = chats().values()
        [ask] = unknown["pending"]  # type: ignore[index]
        assert ask["kind"] == "doubt"
        parts = again["messages"][-1]["parts"]  # type: ignore[index]
        [call] = [part for part in parts if part["type"] == "dynamic-tool"]
        run_id = again["messages"][-1]["id"].removeprefix("msg-")  # type: ignore[index]
        assert call["output"] == f"{run_id}:{call['toolCallId']}", "the key is that of the run"
        assert again["messages"][-1]["metadata"]["outcome"] == "finish"  # type: ignore[index]
    finally:
        first.stop()
        second.stop()
