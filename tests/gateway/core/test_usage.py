"""A row holds what was used and nothing that was said; rows of earlier releases are read as those of this one."""

import msgspec
import pytest

from gateway.core.usage import (
    TokenDetails,
    UpstreamUsage,
    Usage,
    UsageRow,
    decode_row,
    reserved,
    settled,
    token_quantities,
    usage_of,
)

EARLIER = (
    b'{"runId":"r1","chatId":"c","outcome":"finish","model":"m","upstream":"u",'
    b'"usage":{"inputTokens":7,"outputTokens":3,"totalTokens":10,"cachedTokens":2,"estimated":true}}'
)


def test_a_row_comes_back_as_it_was_settled() -> None:
    row = UsageRow(
        id="r", lane="audio", kind="session", outcome="abort", key="k", started_ms=1, ended_ms=2, quantities={"x": 3}
    )
    append = settled("me", row)
    assert (append.topic, append.owner, append.name) == ("usage/me", "me", "settled")
    assert decode_row(append.data[0], 99) == row


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("gpt-5.2", "gpt-5.2"),
        ("Qwen/Qwen3 (fast): 8b@é", "Qwen/Qwen3 (fast): 8b@é"),
        ("x" * 300, "x" * 256),
        ("a\r\nb\0c\x1b[2Jd\u2028e\u202ef\x85g\ufeff", "a\ufffd\ufffdb\ufffdc\ufffd[2Jd\ufffde\ufffdf\ufffdg\ufffd"),
        ("\ud800", "\ufffd"),
    ],
)
def test_the_name_of_a_model_is_bounded_and_plain(model: str, kept: str) -> None:
    row = UsageRow(id="r", lane="chat", kind="run", outcome="error", model=model, quantities={})
    assert decode_row(settled("me", row).data[0], 0).model == kept


def test_a_row_of_an_earlier_release_is_read() -> None:
    assert decode_row(EARLIER, 99) == UsageRow(
        id="r1",
        lane="chat",
        kind="run",
        outcome="finish",
        model="m",
        upstream="u",
        chat_id="c",
        ended_ms=99,
        quantities={"inputTokens": 7, "outputTokens": 3, "cachedTokens": 2},
        estimated=True,
    )


def test_a_row_of_a_later_release_may_have_more_fields_and_quantities() -> None:
    row = decode_row(b'{"id":"r","lane":"audio","kind":"run","outcome":"finish","quantities":{"y":1},"new":[1]}', 0)
    assert row.quantities == {"y": 1}


def test_a_reservation_names_its_row() -> None:
    append = reserved("me", "r", "session")
    assert (append.topic, append.name) == ("usage/me", "reserved")
    assert msgspec.json.decode(append.data[0]) == {"id": "r", "kind": "session"}


PROVIDED = UpstreamUsage(
    prompt_tokens=5,
    completion_tokens=6,
    prompt_tokens_details=TokenDetails(cached_tokens=4),
    completion_tokens_details=TokenDetails(reasoning_tokens=1),
)
EXACT = {"inputTokens": 5, "outputTokens": 6, "cachedTokens": 4, "reasoningTokens": 1}


@pytest.mark.parametrize(
    ("provided", "quantities", "is_estimated"),
    [
        (PROVIDED, EXACT, False),
        (None, {"inputTokens": 3, "outputTokens": 7}, True),
        (UpstreamUsage(prompt_tokens=5), {"inputTokens": 3, "outputTokens": 7}, True),
    ],
)
def test_figures_are_the_providers_or_estimates(
    provided: UpstreamUsage | None, quantities: dict[str, int], is_estimated: bool
) -> None:
    usage = usage_of(provided, 9, 7)
    assert (token_quantities(usage), usage.estimated) == (quantities, is_estimated)


def test_a_total_that_is_not_said_is_the_sum() -> None:
    assert usage_of(PROVIDED, 0, 0) == Usage(
        input_tokens=5, output_tokens=6, total_tokens=11, cached_tokens=4, reasoning_tokens=1
    )
