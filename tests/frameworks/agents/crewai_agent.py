"""A CrewAI flow behind `ag-ui-crewai`. `python crewai_agent.py PORT UPSTREAM`."""

import asyncio
import json
import sys

import uvicorn
from ag_ui_crewai import (
    CopilotKitState,
    add_crewai_flow_fastapi_endpoint,
    agui_feedback_provider,
    copilotkit_emit_tool_result,
    copilotkit_stream,
)
from crewai.flow.flow import Flow, listen, start
from crewai.flow.human_feedback import HumanFeedbackResult, human_feedback
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


async def say(flow: Flow, model: str) -> list[dict]:
    """Lets the model speak, and returns what it calls."""
    asked = acompletion(
        model=f"openai/{model}",
        api_base=upstream,
        api_key="fake",
        messages=flow.state.messages,
        tools=TOOLS,
        stream=True,
    )
    message = (await copilotkit_stream(await asked)).choices[0]["message"]
    flow.state.messages.append(message)
    calls = message.get("tool_calls") or []
    return [{"id": call["id"], **{key: call["function"][key] for key in ("name", "arguments")}} for call in calls]


async def make(flow: Flow, calls: list[dict], *, are_allowed: bool = True) -> None:
    for call in calls:
        told = json.loads(call["arguments"])
        result = await run(call["name"], told["text"]) if are_allowed else "not allowed"
        flow.state.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        await copilotkit_emit_tool_result(call["id"], result)


def flow_of(model: str) -> Flow:
    class Answering(Flow[CopilotKitState]):
        _skip_auto_memory = True  # it would load a vector store

        @start()
        async def answer(self) -> None:
            for _ in range(3):
                calls = await say(self, model)
                await make(self, calls)
                if not calls:
                    return

    return Answering()


class Asking(Flow[CopilotKitState]):
    """Pauses for a person once the model has called, and goes on in another process as well: its state is in a file."""

    _skip_auto_memory = True

    @start()
    @human_feedback(message="look the thing up?", provider=agui_feedback_provider)
    async def ask(self) -> list[dict]:
        return await say(self, "agent-tools")

    @listen(ask)
    async def answer(self, told: HumanFeedbackResult) -> None:
        await make(self, told.output, are_allowed=json.loads(told.feedback)["approved"])
        await say(self, "agent-tools")


for path, model in (("tools", "agent-tools"), ("slow", "agent-slow"), ("error", "error-openai")):
    add_crewai_flow_fastapi_endpoint(app, flow_of(model), f"/{path}")
add_crewai_flow_fastapi_endpoint(app, Asking(), "/asks", emit_interrupt_outcome=True)


@app.get("/ticks")
def seen() -> dict[str, int]:
    return {"ticks": ticks}


uvicorn.run(app, port=port, log_level="warning")
