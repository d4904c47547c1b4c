"""Completion chunks are written as upstreams write them, and read to their end by a parser."""

import json
from typing import Any

from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.completion_parser import CompletionParser
from gateway.errors import UpstreamError

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """Returns one chunk as OpenAI writes it."""
    choices = [{"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}]
    return json.dumps({**HEAD, "choices": choices, **more}).encode()


def frames(*texts: bytes) -> bytes:
    return b"".join(b"data: %b\n\n" % text for text in texts)


HELLO = frames(chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo"}))
TOKEN = frames(chunk({"content": "x"}))
END = frames(chunk(finish="stop"), b"[DONE]")
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Read:
    """The result that a parser made of a whole stream."""

    def __init__(self, *pieces: bytes) -> None:
        self.parser = CompletionParser()
        self.chunks = [chunk for piece in pieces for chunk in self.parser.feed(piece)]
        self.chunks += self.parser.end()

    @property
    def deltas(self) -> list[Any]:
        return [c.choices[0].delta for c in self.chunks if c.choices and c.choices[0].delta]

    @property
    def text(self) -> str:
        return "".join(delta.content or "" for delta in self.deltas)

    @property
    def error(self) -> UpstreamError:
        assert self.parser.error is not None
        return self.parser.error


def text_of(chunks: list[AnswerChunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices and c.choices[0].delta)
