"""AG2, whose AG-UI is built in. `python ag2_agent.py PORT UPSTREAM`."""

import asyncio
import sys

import uvicorn
from ag2 import Agent
from ag2.ag_ui import AGUIStream
from ag2.config import OpenAIConfig
from ag2.middleware import approval_required
from ag2.tools import tool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

port, upstream = int(sys.argv[1]), sys.argv[2]
ticks = 0


@tool
async def lookup(text: str) -> str:
    """Looks something up."""
    return f"found {text}"


@tool(name="lookup", middleware=[approval_required()])
async def asking_lookup(text: str) -> str:
    """Looks something up, if somebody allows it."""
    return f"found {text}"


@tool
async def slow(text: str) -> str:
    """Takes ten seconds."""
    global ticks
    for _ in range(100):
        ticks += 1
        await asyncio.sleep(0.1)
    return text


def stream(model: str, *tools) -> AGUIStream:
    config = OpenAIConfig(model=model, base_url=upstream, api_key="fake", streaming=True)
    return AGUIStream(Agent("agent", config=config, tools=list(tools)))


async def seen(request: Request) -> JSONResponse:
    return JSONResponse({"ticks": ticks})


routes = [
    Route("/ticks", seen),
    Route("/tools", stream("agent-tools", lookup, slow).build_asgi()),
    Route("/slow", stream("agent-slow", lookup, slow).build_asgi()),
    Route("/asks", stream("agent-tools", asking_lookup).build_asgi()),
    Route("/error", stream("error-openai", lookup).build_asgi()),
]
uvicorn.run(Starlette(routes=routes), port=port, log_level="warning")
