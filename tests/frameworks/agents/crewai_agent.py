"""A CrewAI flow behind `ag-ui-crewai`. `python crewai_agent.py PORT UPSTREAM`."""

import asyncio
import json
import sys

import uvicorn
from ag_ui_crewai import (
    CopilotKitState,
    add_crewai_flow_fastapi_endpoint,
    copilotkit_emit_tool_result,
    copilotkit_stream,
)
from crewai.flow.flow import Flow, start
from fastapi import FastAPI
from litellm import acompletion

port, upstream = int(sys.argv[1]), sys.argv[2]
app = FastAPI()
ticks = 0
PARAMETERS = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": PARAMETERS}}
    for name in ("lookup", "slow")
]


async def run(name: str, text: str) -> str:
    global ticks
    for _ in range(100 if name == "slow" else 0):
        ticks += 1
        await asyncio.sleep(0.1)
    return f"found {text}"


def flow_of(model: str) -> Flow:
    class Answering(Flow[CopilotKitState]):
        _skip_auto_memory = True  # it would load a vector store

        @start()
        async def answer(self) -> None:
            for _ in range(3):
                asked = acompletion(
                    model=f"openai/{model}",
                    api_base=upstream,
                    api_key="fake",
                    messages=self.state.messages,
                    tools=TOOLS,
                    stream=True,
                )
                message = (await copilotkit_stream(await asked)).choices[0]["message"]
                self.state.messages.append(message)
                calls = message.get("tool_calls") or []
                for call in calls:
                    told = json.loads(call["function"]["arguments"])
                    result = await run(call["function"]["name"], told["text"])
                    self.state.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
                    await copilotkit_emit_tool_result(call["id"], result)
                if not calls:
                    return

    return Answering()


for path, model in (("tools", "agent-tools"), ("slow", "agent-slow"), ("error", "error-openai")):
    add_crewai_flow_fastapi_endpoint(app, flow_of(model), f"/{path}")


@app.get("/ticks")
def seen() -> dict[str, int]:
    return {"ticks": ticks}


uvicorn.run(app, port=port, log_level="warning")
