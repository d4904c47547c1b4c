"""A row costs what the operator's file says, exactly, or nothing is said."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.prices import Cost, Prices
from gateway.core.usage import UsageRow
from gateway.settings import load
from gateway.upstream_settings import PriceSettings
from tests.gateway.test_settings import refusal
from tests.support.readme import readme_block

DAY_MS = 86_400_000
FILE = """
[[price]]
model = "gpt"
input = 0.40
cached_input = "0.10"
output = 1.60

[[price]]
model = "gpt"
upstream = "cheap"
input = 0.1
output = 0.2

[[price]]
model = "gpt"
since = 1970-01-11
input = 1
output = 2

[[price]]
model = "gpt*"
currency = "EUR"
input = 3

[[price]]
model = "gpt-large*"
input = 0.000001

[[price]]
model = "whisper"
audio = 0.006

[[price]]
model = "free"
"""


def environment(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "upstreams.toml"
    path.write_text(text)
    return {"TRILANE_UPSTREAMS": str(path)}


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    return Prices(load(environment(tmp_path, FILE)).pricing.prices)


def row(model: str, *, upstream: str = "", ended_ms: int = 0, **quantities: int) -> UsageRow:
    fields: dict[str, Any] = {"id": "r", "lane": "chat", "kind": "run", "outcome": "finish"}
    return UsageRow(**fields, model=model, upstream=upstream, ended_ms=ended_ms, quantities=quantities)


CASES: dict[str, tuple[UsageRow, Cost | None]] = {
    "input and output": (row("gpt", inputTokens=1000, outputTokens=10), Cost("USD", 416_000)),
    "a part of the input was cached": (row("gpt", inputTokens=1000, cachedTokens=900), Cost("USD", 130_000)),
    "more was cached than there was": (row("gpt", inputTokens=1, cachedTokens=9), Cost("USD", 100)),
    "reasoning is a part of the output": (row("gpt", outputTokens=10, reasoningTokens=9), Cost("USD", 16_000)),
    "nothing was used": (row("gpt"), Cost("USD", 0)),
    "its upstream has a price of its own": (row("gpt", upstream="cheap", outputTokens=10), Cost("USD", 2000)),
    "another upstream has none": (row("gpt", upstream="dear", outputTokens=10), Cost("USD", 16_000)),
    "the day before a new price": (row("gpt", ended_ms=10 * DAY_MS - 1, outputTokens=10), Cost("USD", 16_000)),
    "the day of a new price": (row("gpt", ended_ms=10 * DAY_MS, outputTokens=10), Cost("USD", 20_000)),
    "a pattern": (row("gpt-mini", inputTokens=10), Cost("EUR", 30_000)),
    "the longer pattern": (row("gpt-large-2", inputTokens=1_000_000), Cost("USD", 1000)),
    "half of a billionth goes to the even one": (row("gpt-large", inputTokens=500), Cost("USD", 0)),
    "a part without a price": (row("gpt-mini", inputTokens=10, outputTokens=1), None),
    "a part without a price that was not used": (row("gpt-mini", inputTokens=10, outputTokens=0), Cost("EUR", 30_000)),
    "audio": (row("whisper", audioMs=90_000), Cost("USD", 9_000_000)),
    "a new kind of quantity": (row("whisper", audioMs=90_000, characters=5), None),
    "an unknown model": (row("other", inputTokens=1), None),
    "no model": (row("", inputTokens=1), None),
    "a model without prices": (row("free", inputTokens=1), None),
}


@pytest.mark.parametrize(("used", "cost"), CASES.values(), ids=CASES)
def test_a_row_costs_what_the_file_says(prices: Prices, used: UsageRow, cost: Cost | None) -> None:
    assert prices.cost(used) == cost


@given(
    st.decimals(0, 1000, places=4),
    st.decimals(0, 1000, places=4),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
def test_a_cost_is_rounded_once_to_the_nearest_billionth(price_in: Any, price_out: Any, used: int, made: int) -> None:
    prices = Prices([PriceSettings(model="m", input=price_in, output=price_out)])
    cost = prices.cost(row("m", inputTokens=used, outputTokens=made))
    assert cost is not None
    exact = (Fraction(price_in) * used + Fraction(price_out) * made) * 1000
    assert abs(cost.nanos - exact) <= Fraction(1, 2)


# The file


def test_without_a_file_there_are_no_prices() -> None:
    assert load({}).pricing.prices == []


def test_a_file_of_prices_alone_leaves_the_upstream_as_it_is(tmp_path: Path) -> None:
    settings = load(environment(tmp_path, FILE) | {"OPENAI_API_KEY": "sk"})
    assert [upstream.name for upstream in settings.upstreams] == ["openai"]


BAD = {
    'model = "m"\ninput = -1': "'m'",
    'model = "m"\ninput = nan': "'m'",
    'model = "m"\ninput = inf': "'m'",
    'model = "m"\naudio = 1e9': "1000000",
    'model = "m"\ninput = "x"': "input",
    'model = "m"\ncurrency = "usd"': "currency",
    'model = "m"\nsince = 5': "since",
    'model = ""': "model",
    'model = "m"\nouput = 1': "ouput",
    'model = "m"\n[[price]]\nmodel = "m"': "two prices",
}


@pytest.mark.parametrize("text", BAD)
def test_a_price_that_cannot_be_used_is_an_error_at_start(tmp_path: Path, text: str) -> None:
    said = refusal(**environment(tmp_path, f"[[price]]\n{text}\n"))
    assert BAD[text] in said
    assert "upstreams.toml" in said


def test_the_readmes_prices_are_those_of_the_gateway(tmp_path: Path) -> None:
    settings = load(environment(tmp_path, readme_block('model = "gpt-4.1-mini*"').text))
    prices = Prices(settings.pricing.prices)
    assert prices.cost(row("gpt-4.1-mini-2025-04-14", inputTokens=10, outputTokens=1)) == Cost("USD", 5600)
    assert prices.cost(row("whisper-tiny.en", audioMs=60_000)) == Cost("USD", 1_000_000)
