"""The JSON objects of the OpenAI wire format that the fake sends, and the text inside them.

Words are numbered (`w0 w1 w2`), so that a lost, doubled or reordered one shows in the text itself.
"""

import json
import time
from typing import Any

from loadtests.upstream.ask import Ask

CREATED = 1_700_000_000  # fixed: two runs of one test compare equal
PROMPT_TOKENS = 7
HUGE = "h" * 1_000_000

Payload = dict[str, Any]


def word(index: int) -> str:
    """Returns word `index` as a tokenizer would cut it: the space belongs to the following word."""
    return f"w{index}" if index == 0 else f" w{index}"


def words(count: int) -> str:
    """Returns the whole text of an `ok` answer of `count` tokens."""
    return "".join(word(i) for i in range(count))


def token(ask: Ask, index: int) -> str:
    """Returns token `index` of this answer: a word, a piece of the user's own text, or a time mark."""
    if ask.marks:
        return f"~s{index}~t{time.monotonic_ns()}~ "
    if ask.echo:
        return (echo_tokens(ask)[index : index + 1] or [word(index)])[0]
    return word(index)


def echo_tokens(ask: Ask) -> list[str]:
    """Returns the user's text cut before each space, so that joining gives it back exactly."""
    first, *rest = ask.text.split(" ")
    return [first, *(f" {piece}" for piece in rest)]


def chunk(ask: Ask, delta: Payload, finish_reason: str | None = None, **extra: object) -> Payload:
    """Returns one `chat.completion.chunk` with a single choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    silent: Payload = {"usage": None} if ask.include_usage else {}
    return {**_head(ask, "chat.completion.chunk"), "choices": [choice], **silent, **extra}


def usage_chunk(ask: Ask, completion_tokens: int) -> Payload:
    """Returns the last chunk of a stream whose request set `include_usage`: no choices, only the counts."""
    return {**_head(ask, "chat.completion.chunk"), "choices": [], "usage": usage(completion_tokens)}


def usage(completion_tokens: int) -> Payload:
    """Returns the counts as OpenAI reports them."""
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion_tokens,
        "total_tokens": PROMPT_TOKENS + completion_tokens,
    }


def completion(ask: Ask, message: Payload, finish_reason: str, completion_tokens: int) -> Payload:
    """Returns the answer to a request without `stream`."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "refusal": None, **message},
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    return {**_head(ask, "chat.completion"), "choices": [choice], "usage": usage(completion_tokens)}


def error(message: str, kind: str, code: str | None) -> Payload:
    """OpenAI's error object, in a body or in a frame."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def tool_call(index: int, name: str, arguments: str) -> Payload:
    """Returns one whole tool call; streamed, its arguments come in pieces under the same `index`."""
    return {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def encode(payload: Payload) -> str:
    """Returns compact JSON in real UTF-8, as most servers send it."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))


def _head(ask: Ask, kind: str) -> Payload:
    return {
        "id": "chatcmpl-fake",
        "object": kind,
        "created": CREATED,
        "model": ask.model,
        "system_fingerprint": "fp_fake",
    }
