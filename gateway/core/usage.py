"""What a request cost: one row per admitted request, whatever becomes of it.

A row is reserved in the same transaction that admits the run, and settled in the same transaction that ends it: by the
run itself, or by whoever ends it for a process that died. Figures are the provider's, or an estimate that says so.
"""

import msgspec

from events.log.port import Append

BYTES_PER_TOKEN = 4
"""For estimates: English text in the common tokenizers."""


class TokenDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class UpstreamUsage(msgspec.Struct):
    """A provider's figures, as the OpenAI wire format has them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    """True when the provider gave no figures: a token per visible delta, and a quarter of the prompt's bytes."""


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    run_id: str
    chat_id: str
    outcome: str
    model: str
    upstream: str
    usage: Usage


def usage_of(provided: UpstreamUsage | None, prompt_bytes: int, deltas: int) -> Usage:
    """The provider's figures when it gave them, else the estimate."""
    if provided is None or provided.prompt_tokens is None or provided.completion_tokens is None:
        read = -(-prompt_bytes // BYTES_PER_TOKEN)
        return Usage(input_tokens=read, output_tokens=deltas, total_tokens=read + deltas, estimated=True)
    read, written = provided.prompt_tokens, provided.completion_tokens
    return Usage(
        input_tokens=read,
        output_tokens=written,
        total_tokens=provided.total_tokens or read + written,
        cached_tokens=(provided.prompt_tokens_details and provided.prompt_tokens_details.cached_tokens) or 0,
        reasoning_tokens=(provided.completion_tokens_details and provided.completion_tokens_details.reasoning_tokens)
        or 0,
    )


def usage_topic(sub: str) -> str:
    return f"usage/{sub}"


def reserved(sub: str, run_id: str) -> Append:
    row = msgspec.json.encode({"runId": run_id})
    return Append(topic=usage_topic(sub), owner=sub, data=[row], name="reserved")


def settled(sub: str, row: UsageRow) -> Append:
    return Append(topic=usage_topic(sub), owner=sub, data=[msgspec.json.encode(row)], name="settled")
