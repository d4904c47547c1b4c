"""Asks a gateway's `/v1/responses` through openai-agents and Pydantic AI, each with its default way to OpenAI.

`responses_wire.py URL` prints what each question brought as one JSON object. Decides nothing: the tests do.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailTripwireTriggered,
    Runner,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai import NativeOutput
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

base = f"{sys.argv[1]}/v1"
set_tracing_disabled(True)
set_default_openai_client(AsyncOpenAI(base_url=base, api_key="local", max_retries=0))
provider = OpenAIProvider(base_url=base, api_key="local")
QUESTION = "weather? T=5 I=200"


class Weather(BaseModel):
    city: str
    day: int


def get_weather(city: str, day: int) -> str:
    """Returns the weather of a day."""
    return f"sun in {city}"


def agent(model: str, **more: Any) -> Agent:
    return Agent(name=model, instructions="Help.", model=model, **more)


async def agents_tool() -> list[Any]:
    result = await Runner.run(agent("tools", tools=[function_tool(get_weather)]), QUESTION)
    return [result.final_output, [type(item).__name__ for item in result.new_items]]


async def agents_stream() -> str:
    result = Runner.run_streamed(agent("tools", tools=[function_tool(get_weather)]), QUESTION)
    async for _ in result.stream_events():
        pass
    return result.final_output


async def agents_handoff() -> list[str]:
    result = await Runner.run(agent("handoff", handoffs=[agent("ok")]), "T=4 I=0")
    return [result.last_agent.name, result.final_output]


async def agents_guardrail() -> str:
    async def trip(context: Any, agent: Any, text: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    try:
        await Runner.run(agent("ok", input_guardrails=[InputGuardrail(guardrail_function=trip)]), "T=2 I=0")
    except InputGuardrailTripwireTriggered:
        return "tripped"
    return "passed"


async def agents_object() -> dict[str, Any]:
    return (await Runner.run(agent("json-object", output_type=Weather), "hi")).final_output.model_dump()


async def agents_goes_on() -> list[str]:
    first = await Runner.run(agent("reasoning"), "T=4 I=0")
    by_items = await Runner.run(agent("ok"), [*first.to_input_list(), {"role": "user", "content": "T=3 I=0"}])
    by_id = await Runner.run(agent("ok"), "T=2 I=0", previous_response_id=by_items.last_response_id)
    return [first.final_output, by_items.final_output, by_id.final_output]


def pydantic(model: str, **more: Any) -> PydanticAgent[None, Any]:
    return PydanticAgent(OpenAIResponsesModel(model, provider=provider), **more)


async def pydantic_tool() -> list[str]:
    asked = pydantic("tools", tools=[get_weather])
    async with asked.run_stream(QUESTION) as stream:
        streamed = await stream.get_output()
    return [(await asked.run(QUESTION)).output, streamed]


async def pydantic_goes_on() -> list[Any]:
    first = await pydantic("reasoning").run("T=4 I=0")
    parts = [type(part).__name__ for message in first.all_messages() for part in message.parts]
    return [parts, (await pydantic("ok").run("T=3 I=0", message_history=first.all_messages())).output]


async def pydantic_object() -> dict[str, Any]:
    return (await pydantic("json-object", output_type=NativeOutput(Weather)).run("hi")).output.model_dump()


def failing(ask: Callable[[str], Awaitable[object]]) -> Callable[[], Awaitable[dict[str, str]]]:
    async def raised() -> dict[str, str]:
        outcomes: dict[str, str] = {}
        for model in ("e400", "e429", "cut"):
            try:
                await ask(model)
            except Exception as err:
                outcomes[model] = type(err).__name__
        return outcomes

    return raised


async def streamed_by_agents(model: str) -> None:
    async for _ in Runner.run_streamed(agent(model), "T=4 I=0").stream_events():
        pass


QUESTIONS: list[Callable[[], Awaitable[object]]] = [
    *(agents_tool, agents_stream, agents_handoff, agents_guardrail, agents_object, agents_goes_on),
    *(pydantic_tool, pydantic_goes_on, pydantic_object),
]


async def main() -> None:
    answers = {question.__name__: await question() for question in QUESTIONS}
    answers["agents_errors"] = await failing(lambda model: Runner.run(agent(model), "T=4 I=0"))()
    answers["agents_stream_errors"] = await failing(streamed_by_agents)()
    answers["pydantic_errors"] = await failing(lambda model: pydantic(model).run("T=4 I=0"))()
    print(json.dumps(answers))


asyncio.run(main())
