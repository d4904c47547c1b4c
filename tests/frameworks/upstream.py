"""The model behind the frameworks: the fake upstream, with calls of the tools that their agents have.

`python -m tests.frameworks.upstream PORT`.
"""

import asyncio
import sys

from loadtests.upstream import FakeUpstream
from loadtests.upstream.answer import Answer
from loadtests.upstream.behaviours import Behaviour
from loadtests.upstream.shapes import chunk
from loadtests.upstream.stream import finish, ok, say, start

WORDS = 8


def calling(name: str) -> Behaviour:
    """Returns a behaviour that says a few words and calls a tool; once it has the result, it answers."""

    async def behave(answer: Answer) -> None:
        answer.pace(WORDS, 0.005)
        if answer.ask.after_tool:
            return await ok(answer)
        await start(answer)
        await say(answer, 0, 3)
        number = sum(message["role"] == "user" for message in answer.ask.body["messages"])
        call = {"index": 0, "id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": ""}}
        await answer.frame(chunk(answer.ask, {"tool_calls": [call]}))
        for piece in ('{"te', 'xt": "the ', 'thing"}'):
            await answer.frame(chunk(answer.ask, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
        return await finish(answer, "tool_calls")

    return behave


def model_of_agents(port: int = 0) -> FakeUpstream:
    """Returns a fake upstream whose models `agent-tools` and `agent-slow` call a tool first."""
    upstream = FakeUpstream(port=port)
    upstream.script("agent-tools", calling("lookup"))
    upstream.script("agent-slow", calling("slow"))
    return upstream


async def serve(port: int) -> None:
    async with model_of_agents(port) as upstream:
        await upstream.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
