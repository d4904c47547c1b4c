"""Google's ADK behind `ag-ui-adk`, with LiteLLM for a model. `python google_adk_agent.py PORT UPSTREAM`."""

import asyncio
import sys

import uvicorn
from ag_ui_adk import ADKAgent, add_adk_fastapi_endpoint
from fastapi import FastAPI
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.lite_llm import LiteLlm

port, upstream = int(sys.argv[1]), sys.argv[2]
app = FastAPI()
ticks = 0


async def lookup(text: str) -> str:
    """Looks something up."""
    return f"found {text}"


async def slow(text: str) -> str:
    """Takes ten seconds."""
    global ticks
    for _ in range(100):
        ticks += 1
        await asyncio.sleep(0.1)
    return text


def serve(path: str, model: str) -> None:
    chat = LiteLlm(model=f"openai/{model}", api_base=upstream, api_key="fake", stream=True)
    inner = LlmAgent(name="agent", model=chat, instruction="Answer.", tools=[lookup, slow])
    agent = ADKAgent(
        adk_agent=inner,
        app_name=path,
        user_id="u",
        run_config_factory=lambda told: RunConfig(streaming_mode=StreamingMode.SSE),
    )
    add_adk_fastapi_endpoint(app, agent, path=f"/{path}")


serve("tools", "agent-tools")
serve("slow", "agent-slow")
serve("error", "error-openai")


@app.get("/ticks")
def seen() -> dict[str, int]:
    return {"ticks": ticks}


uvicorn.run(app, port=port, log_level="warning")
