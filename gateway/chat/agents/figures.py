"""What agents tell of the tokens that a run has cost. Pure."""

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.upstreams.loose_fields import JsonFields, first_of, object_of, objects_of, whole_number
from gateway.core.usage import TokenDetails, UpstreamUsage

INPUT = ("inputTokens", "promptTokens", "input_tokens", "prompt_tokens")
OUTPUT = ("outputTokens", "completionTokens", "output_tokens", "completion_tokens")
TOTAL = ("totalTokens", "total_tokens")
CACHED = ("cachedInputTokens", "cachedTokens")
REASONING = ("reasoningTokens",)


def total_usage(told: Raw | UnsetType) -> UpstreamUsage | None:
    """Returns the sum of a list of figures, one for each model that was called; None where they are no figures."""
    if isinstance(told, UnsetType):
        return None
    entries = objects_of(msgspec.json.decode(told))
    if not entries or any(_figure(entry, INPUT) is None or _figure(entry, OUTPUT) is None for entry in entries):
        return None

    def total(names: tuple[str, ...]) -> int:
        return sum(_figure(entry, names) or 0 for entry in entries)

    return UpstreamUsage(
        prompt_tokens=total(INPUT),
        completion_tokens=total(OUTPUT),
        total_tokens=total(TOTAL) or None,
        prompt_tokens_details=TokenDetails(cached_tokens=total(CACHED)),
        completion_tokens_details=TokenDetails(reasoning_tokens=total(REASONING)),
    )


def usage_in(metadata: JsonFields) -> UpstreamUsage | None:
    """Returns the figures that a message's metadata have under `usage`."""
    figures = object_of(metadata.get("usage"))
    return total_usage(Raw(msgspec.json.encode([figures]))) if figures else None


def _figure(entry: JsonFields, names: tuple[str, ...]) -> int | None:
    return whole_number(first_of(entry, names=names))
