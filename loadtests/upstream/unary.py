"""Requests without `stream` are answered here: the same names, as one JSON body."""

import asyncio

from loadtests.upstream import behaviours, shapes
from loadtests.upstream.answer import JSON, Answer
from loadtests.upstream.stream import forever

ERRORS: dict[str, shapes.Payload] = {
    "error-openai": behaviours.OVERLOADED,
    "error-openai-first": behaviours.OVERLOADED,
    "error-vllm": behaviours.FLAT_ERROR,
    "error-openrouter": behaviours.OPENROUTER_ERROR,
    "error-event": {"message": "upstream died"},
}
FINISH = {"finish-length": "length", "finish-filter": "content_filter"}


async def answer_unary(answer: Answer, name: str) -> None:
    """Sends the body that behaviour `name` stands for; names that only change the stream give a whole answer."""
    if name in ERRORS:
        return await answer.whole(200, JSON, shapes.encode(ERRORS[name]))
    body = shapes.encode(await _completion(answer, name))
    if name == "badjson":
        return await answer.whole(200, JSON, body[:-20] + "}")
    if name in ("cut", "cut-first", "cut-midline", "cut-hard", "cut-eof", "stall-mid"):
        return await _half(answer, name, body)
    return await answer.whole(200, JSON, body)


async def _half(answer: Answer, name: str, body: str) -> None:
    await answer.head(kind=JSON)
    if name != "cut-first":
        await answer.chunk(body[: len(body) // 2].encode())
    match name:
        case "cut-hard":
            answer.reset()
        case "cut-eof":
            answer.hang_up()
        case "stall-mid":
            await forever()
        case _:
            await answer.end()


async def _completion(answer: Answer, name: str) -> shapes.Payload:
    message, reason, count = _message(answer, name)
    answer.pace(interval_s={"slow": 1.0, "fast": 0.0}.get(name, 0.01))
    await asyncio.sleep(count * answer.interval_s + (3 if name == "slow-headers" else 0))
    answer.record.tokens_sent = count
    payload = shapes.completion(answer.ask, message, reason, count)
    if name == "no-usage":
        del payload["usage"]
    return payload


def _message(answer: Answer, name: str) -> tuple[shapes.Payload, str, int]:
    ask = answer.ask
    if name in ("tools", "tools-2") and not ask.after_tool:
        calls = behaviours.calls_for(ask, 2 if name == "tools-2" else 1)
        return {"tool_calls": [{k: v for k, v in call.items() if k != "index"} for call in calls]}, "tool_calls", 5
    if name == "empty":
        return {"content": ""}, "stop", 0
    count = len(shapes.echo_tokens(ask)) if ask.echo and ask.tokens is None else answer.tokens
    tail = behaviours.UTF8_TAIL if name == "utf8-split" else ""
    message: shapes.Payload = {"content": "".join(shapes.token(ask, i) + tail for i in range(count))}
    if name == "reasoning":
        message["reasoning_content"] = "".join(f"r{i} " for i in range(5))
    return message, FINISH.get(name, "stop"), count
