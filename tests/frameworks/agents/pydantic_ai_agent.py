"""Pydantic AI: one agent behind both of its adapters. `python pydantic_ai_agent.py PORT UPSTREAM`."""

import asyncio
import sys

import uvicorn
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.ui.ag_ui import AGUIAdapter
from pydantic_ai.ui.vercel_ai import VercelAIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

port, upstream = int(sys.argv[1]), sys.argv[2]
ticks = 0


def agent_of(model: str, *, asks: bool) -> Agent:
    chat = OpenAIChatModel(model, provider=OpenAIProvider(base_url=upstream, api_key="fake"))
    agent = Agent(chat, output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=asks)
    async def lookup(text: str) -> str:
        """Looks something up."""
        return f"found {text}"

    @agent.tool_plain
    async def slow(text: str) -> str:
        """Takes ten seconds."""
        global ticks
        for _ in range(100):
            ticks += 1
            await asyncio.sleep(0.1)
        return text

    return agent


async def answer(request: Request) -> Response:
    agent = agent_of(request.path_params["model"], asks=request.query_params.get("asks") == "1")
    if request.path_params["protocol"] == "ag-ui":
        return await AGUIAdapter.dispatch_request(request, agent=agent)
    return await VercelAIAdapter.dispatch_request(request, agent=agent, sdk_version=6)


async def seen(request: Request) -> Response:
    return JSONResponse({"ticks": ticks})


routes = [Route("/ticks", seen), Route("/{protocol}/{model}", answer, methods=["POST"])]
uvicorn.run(Starlette(routes=routes), port=port, log_level="warning")
