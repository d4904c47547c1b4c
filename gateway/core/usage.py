"""Usage: one row per admitted request or session that says what it used, whatever becomes of it.

A row is reserved in the same transaction that admits the work, and settled in the same transaction that ends it: by who
does it, or by whoever ends it for a process that died. Figures are the provider's, or an estimate marked as one. What
was asked and answered is never in a row.
"""

import time
from collections.abc import Sequence
from typing import Literal

import msgspec

from events.log.port import Append

BYTES_PER_TOKEN = 4
"""Bytes that an estimate counts as one token: about those of English text in the common tokenizers."""


class TokenDetails(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A provider's breakdown of a count of tokens."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class UpstreamUsage(msgspec.Struct, forbid_unknown_fields=True):
    """A provider's figures, as the OpenAI wire format has them; those of other names are kept beside them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The tokens of one request, as clients and the log see them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    """Whether the provider gave no figures: then output is a token per visible delta, input a quarter of the bytes."""


Quantities = dict[str, int]
"""What was used, by name, in whole units, so that sums are exact. The set is open: a new kind of work has its own.

Today: `inputTokens` (of them `cachedTokens`), `outputTokens` (of them `reasoningTokens`), `audioMs` (audio heard),
`spokenMs` (speech made).
"""
UsageKind = Literal["run", "session", "transcription", "speech"]
UsageOutcome = Literal["finish", "abort", "error", "interrupted"]
"""How the work ended: by itself, by its client, by a failure, or with the gateway's process."""
MAX_MODEL = 256
"""Maximum characters of a model's name in a row; the rest is left out."""
RESERVED = "reserved"
SETTLED = "settled"


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The settled row of one run, audio session, file or spoken text."""

    id: str
    lane: str
    kind: UsageKind
    outcome: UsageOutcome
    model: str = ""
    upstream: str = ""
    chat_id: str = ""
    key: str = ""
    """The API key that its caller signed in with, by its id; empty for any other credential."""
    started_ms: int = 0
    """The time of its admission, in milliseconds since 1970; 0 in rows of earlier releases, as `ended_ms` is."""
    ended_ms: int = 0
    quantities: Quantities
    estimated: bool = False
    """Whether some of the quantities are no figures of whoever did the work."""


class EarlierRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The settled row of a run as earlier releases wrote it."""

    run_id: str
    chat_id: str
    outcome: UsageOutcome
    model: str
    upstream: str
    usage: Usage


_encode = msgspec.json.Encoder().encode
_row = msgspec.json.Decoder(UsageRow).decode
_earlier_row = msgspec.json.Decoder(EarlierRow).decode


def decode_row(data: bytes, time_ms: int) -> UsageRow:
    """Returns a settled row of this or an earlier release; `time_ms` is the log's own time of it."""
    if not data.startswith(b'{"runId"'):
        return _row(data)
    earlier = _earlier_row(data)
    return UsageRow(
        id=earlier.run_id,
        lane="chat",
        kind="run",
        outcome=earlier.outcome,
        model=earlier.model,
        upstream=earlier.upstream,
        chat_id=earlier.chat_id,
        ended_ms=time_ms,
        quantities=token_quantities(earlier.usage),
        estimated=earlier.usage.estimated,
    )


def now_ms() -> int:
    """Returns the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def token_quantities(usage: Usage) -> Quantities:
    """Returns the tokens of a request as a row holds them."""
    quantities = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cachedTokens": usage.cached_tokens,
        "reasoningTokens": usage.reasoning_tokens,
    }
    return {name: count for name, count in quantities.items() if count or name in ("inputTokens", "outputTokens")}


def usage_of(provided: UpstreamUsage | None, prompt_bytes: int, deltas: int) -> Usage:
    """Returns the provider's figures when it gave them, else an estimate."""
    if provided is None or provided.prompt_tokens is None or provided.completion_tokens is None:
        input_tokens = -(-prompt_bytes // BYTES_PER_TOKEN)
        return Usage(
            input_tokens=input_tokens, output_tokens=deltas, total_tokens=input_tokens + deltas, estimated=True
        )
    input_tokens, output_tokens = provided.prompt_tokens, provided.completion_tokens
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=provided.total_tokens or input_tokens + output_tokens,
        cached_tokens=(provided.prompt_tokens_details and provided.prompt_tokens_details.cached_tokens) or 0,
        reasoning_tokens=(provided.completion_tokens_details and provided.completion_tokens_details.reasoning_tokens)
        or 0,
    )


def total_of(usages: Sequence[Usage]) -> Usage:
    """Returns what all of it cost together; an estimate when a part of it is."""
    if len(usages) == 1:
        return usages[0]
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        total_tokens=sum(usage.total_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        estimated=not usages or any(usage.estimated for usage in usages),
    )


USAGE = "usage/"
"""Prefix of the topics that hold the rows of one user each."""


def usage_topic(sub: str) -> str:
    return USAGE + sub


def reserved(sub: str, row_id: str, kind: UsageKind = "run") -> Append:
    """Returns the append that reserves a row, to be made with those that admit the work."""
    return Append(topic=usage_topic(sub), owner=sub, data=[_encode({"id": row_id, "kind": kind})], name=RESERVED)


def settled(sub: str, row: UsageRow) -> Append:
    """Returns the append that settles a row, to be made with those that end the work."""
    if len(row.model) > MAX_MODEL or not row.model.isprintable():
        row = msgspec.structs.replace(row, model=_plain(row.model))
    return Append(topic=usage_topic(sub), owner=sub, data=[_encode(row)], name=SETTLED)


def _plain(model: str) -> str:
    """Returns the name of a model as a row holds it: a client or an upstream may have made it up."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in model[:MAX_MODEL])
