"""Usage: one row per admitted request that says what it cost, whatever becomes of it.

A row is reserved in the same transaction that admits the run, and settled in the same transaction that ends it: by the
run itself, or by whoever ends it for a process that died. Figures are the provider's, or an estimate marked as one.
"""

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


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The settled row of one run."""

    run_id: str
    chat_id: str
    outcome: str
    model: str
    upstream: str
    usage: Usage


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


def usage_topic(sub: str) -> str:
    return f"usage/{sub}"


def reserved(sub: str, run_id: str) -> Append:
    """Returns the append that reserves the row of a run."""
    row = msgspec.json.encode({"runId": run_id})
    return Append(topic=usage_topic(sub), owner=sub, data=[row], name="reserved")


def settled(sub: str, row: UsageRow) -> Append:
    """Returns the append that settles the row of a run."""
    return Append(topic=usage_topic(sub), owner=sub, data=[msgspec.json.encode(row)], name="settled")
