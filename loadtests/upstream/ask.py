"""A chat-completion request asks the fake for so many words, so fast, with one behaviour.

Owns the little language that tests speak through the user message (`T= I= B= C=`) and the model name; it
refuses nothing, because a fake that is strict about requests hides what the gateway really sent.
"""

import re
from dataclasses import dataclass, field
from typing import Any

_KNOB = re.compile(r"\b([TIBC])=([\w-]+)")


@dataclass(frozen=True)
class Ask:
    """One request, read once: `tokens` and `interval_s` are None where the user message is silent."""

    model: str
    behaviour: str
    text: str
    stream: bool
    tokens: int | None
    interval_s: float | None
    marks: bool
    echo: bool
    include_usage: bool
    after_tool: bool
    body: dict[str, Any] = field(repr=False)
    called: str = ""
    """The tool that is called where tools are called; empty: a client's `get_weather`."""


def read_ask(body: dict[str, Any]) -> Ask:
    """Reads a request body; the behaviour is `B=` of the last user message, else the model's name without modifiers."""
    model = str(body.get("model", ""))
    messages = [m for m in body.get("messages") or [] if isinstance(m, dict)]
    text = next((_text_of(m) for m in reversed(messages) if m.get("role") == "user"), "")
    knobs = dict(_KNOB.findall(text))
    words = [w for w in re.split(r"[+/]", model) if w]
    behaviours = [w for w in words if w not in ("marks", "echo")]
    return Ask(
        model=model,
        behaviour=knobs.get("B") or (behaviours[-1] if behaviours else "ok"),
        text=text,
        stream=bool(body.get("stream")),
        tokens=int(knobs["T"]) if knobs.get("T", "").isdigit() else None,
        interval_s=int(knobs["I"]) / 1e6 if knobs.get("I", "").isdigit() else None,
        marks="marks" in model,
        echo="echo" in words,
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        after_tool=bool(messages) and messages[-1].get("role") == "tool",
        body=body,
        called=knobs.get("C", ""),
    )


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
