"""Records what frameworks put on the wire: `python -m tests.frameworks.capture [NAME...]`.

Each stream is asked for as the gateway asks, and kept as the bytes that came. `ask` is followed by `resumed`, in which
the call is allowed.
"""

import asyncio
import sys
from pathlib import Path

import httpx2
from msgspec import Raw

from gateway.chat.agents.agent import AgentParser
from gateway.chat.agents.agui import AguiTranslation
from gateway.chat.agents.agui_request import agui_request
from gateway.chat.agents.prompt import AgentDecision, AgentPrompt
from gateway.chat.agents.ui_chunks import UIChunkTranslation
from gateway.chat.agents.ui_request import ui_request
from gateway.chat.agents.writer import AgentWriter
from gateway.chat.records.messages import UIMessage
from gateway.chat.records.recorder import Recorder
from tests.frameworks.framework import FRAMEWORKS, Framework
from tests.frameworks.upstream import model_of_agents

CAPTURES = Path(__file__).resolve().parents[1] / "gateway" / "chat" / "agents" / "captures"
QUESTION = UIMessage(id="u1", role="user", parts=[Raw(b'{"type":"text","text":"Please."}')])


def prompt_of(case: str, answer: UIMessage | None = None, *decisions: AgentDecision) -> AgentPrompt:
    messages = [QUESTION, *([answer] if answer is not None else [])]
    stored = {message.id for message in messages}
    run_id = f"run-{case}-{len(messages)}"
    return AgentPrompt(
        chat_id=f"chat-{case}", run_id=run_id, messages=messages, stored=stored, decisions=list(decisions)
    )


def body_of(framework: Framework, prompt: AgentPrompt) -> bytes:
    return agui_request(prompt) if framework.kind == "ag-ui" else ui_request(prompt)


def translated(kind: str, stream: bytes, base: UIMessage | None = None) -> tuple[AgentParser, AgentWriter]:
    """Returns the parser after a whole stream, and what wrote its records."""
    writer = AgentWriter(Recorder(base.parts if base is not None else []), "r1")
    translation = AguiTranslation(writer, ()) if kind == "ag-ui" else UIChunkTranslation(writer)
    parser = AgentParser(translation)
    parser.feed(stream)
    parser.end()
    return parser, writer


async def received(url: str, body: bytes) -> bytes:
    headers = {"accept": "text/event-stream", "content-type": "application/json"}
    async with httpx2.AsyncClient(timeout=60) as client:
        answer = await client.post(url, content=body, headers=headers)
        answer.raise_for_status()
        return answer.content


async def capture(framework: Framework) -> None:
    framework.install()
    async with model_of_agents() as upstream:
        with framework.served(upstream.url) as served:
            for case, path in framework.paths.items():
                if case == "slow":
                    continue
                stream = await received(served.url + path, body_of(framework, prompt_of(case)))
                _keep(framework, case, stream)
                if case == "ask":
                    _, writer = translated(framework.kind, stream)
                    answer = UIMessage(id="a1", role="assistant", parts=writer.recorder.parts.encoded())
                    decisions = [AgentDecision(tool_call_id=ask.tool_call_id, approved=True) for ask in writer.asks]
                    resumed = prompt_of(case, answer, *decisions)
                    _keep(framework, "resumed", await received(served.url + path, body_of(framework, resumed)))


def _keep(framework: Framework, case: str, stream: bytes) -> None:
    CAPTURES.mkdir(exist_ok=True)
    path = CAPTURES / f"{framework.name}_{case}.sse"
    path.write_bytes(stream)
    print(f"{path.name}: {len(stream)} bytes", flush=True)


async def main() -> None:
    for name in sys.argv[1:] or FRAMEWORKS:
        await capture(FRAMEWORKS[name])


if __name__ == "__main__":
    asyncio.run(main())
