"""The OpenAI Agents SDK as a function of `trilane_agent`: its tools are steps, its approvals questions to a person.

Its model is at MODEL_URL. What it says outside of logged calls is said again when it is entered again.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from trilane_agent import Context

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=os.environ["MODEL_URL"], api_key="fake", max_retries=0)
TICKS = Path(os.environ["TICKS"])


async def answer(ctx: Context, model: str, *, asks: bool = False) -> AsyncIterator[str]:
    @function_tool
    async def lookup(text: str) -> str:
        """Looks something up."""
        if asks and not await ctx.approve("allow", {"text": text}):
            return "not allowed"
        return await ctx.step("lookup", lambda key: f"found {text}", effect="read", input={"text": text})

    @function_tool
    async def slow(text: str) -> str:
        """Takes ten seconds."""
        return await ctx.step("slow", lambda key: tick(text), effect="read", input={"text": text})

    agent = Agent("a", model=OpenAIChatCompletionsModel(model, client), tools=[lookup, slow])
    result = Runner.run_streamed(agent, ctx.text)
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            yield event.data.delta


async def tick(text: str) -> str:
    for _ in range(100):
        await asyncio.to_thread(one_tick)
        await asyncio.sleep(0.1)
    return text


def one_tick() -> None:
    with TICKS.open("a") as ticks:
        ticks.write(".")


def tools(ctx: Context) -> AsyncIterator[str]:
    return answer(ctx, "agent-tools")


def asking(ctx: Context) -> AsyncIterator[str]:
    return answer(ctx, "agent-tools", asks=True)


def slow(ctx: Context) -> AsyncIterator[str]:
    return answer(ctx, "agent-slow")


def failing(ctx: Context) -> AsyncIterator[str]:
    return answer(ctx, "error-openai")
