"""What a usage row costs, by the operator's prices. Pure, but for the clock of `cost_of_audio`.

A cost is an exact multiple of the prices, rounded once to a billionth of the currency's unit, so a sum of costs is
the same whoever adds them up. A row that holds anything without a price has no cost, rather than one that is too low.
"""

import datetime
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from gateway.core.usage import UsageRow, now_ms
from gateway.upstream_settings import PriceSettings

NANOS = 1_000_000_000
MILLION = 1_000_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
UNSET = datetime.date.min


class Cost(NamedTuple):
    """An amount of money."""

    currency: str
    nanos: int
    """Billionths of the currency's unit: a thousand are a millionth."""


class Prices:
    """The operator's prices."""

    def __init__(self, prices: Iterable[PriceSettings]) -> None:
        self._exact: dict[str, list[PriceSettings]] = {}
        self._patterns: list[PriceSettings] = []
        for price in prices:
            if price.model.endswith("*"):
                self._patterns.append(price)
            else:
                self._exact.setdefault(price.model, []).append(price)

    def cost(self, row: UsageRow) -> Cost | None:
        """Returns what a row costs; None when a part of what it used has no price."""
        price = self._price(row)
        if price is None:
            return None
        amount = Fraction(0)
        for count, each in _parts(price, row.quantities):
            if count and each is None:
                return None
            amount += count * (each or 0)
        return Cost(price.currency, round(amount * NANOS))

    def cost_of_audio(self, model: str, seconds: float) -> float | None:
        """Returns what hearing or saying so much now costs, in the currency's unit; None without a price."""
        row = UsageRow(
            id="",
            lane="audio",
            kind="session",
            outcome="finish",
            model=model,
            ended_ms=now_ms(),
            quantities={"audioMs": round(seconds * 1000)},
        )
        cost = self.cost(row)
        return cost.nanos / NANOS if cost is not None else None

    def _price(self, row: UsageRow) -> PriceSettings | None:
        """Returns the price that fits best: by its model, then its upstream, then its day."""
        day = datetime.date(1970, 1, 1) + datetime.timedelta(days=row.ended_ms // DAY_MS)
        known = [*self._exact.get(row.model, ()), *(p for p in self._patterns if row.model.startswith(p.model[:-1]))]
        fitting = [p for p in known if p.upstream in ("", row.upstream) and (p.since or UNSET) <= day]
        return max(fitting, key=_fit, default=None)


def _fit(price: PriceSettings) -> tuple[bool, int, bool, datetime.date]:
    return not price.model.endswith("*"), len(price.model), bool(price.upstream), price.since or UNSET


NO_PRICES = Prices([])
"""The prices of an operator who has named none: nothing has a cost."""


def _parts(price: PriceSettings, quantities: Mapping[str, int]) -> list[tuple[int, Fraction | None]]:
    """Returns each count that costs something, and the price of one; None where it has none."""
    cached = min(quantities.get("cachedTokens", 0), quantities.get("inputTokens", 0))
    cached_price = price.cached_input if price.cached_input is not None else price.input
    parts = [(cached, _each(cached_price, MILLION))]
    for name, count in quantities.items():
        match name:
            case "inputTokens":
                parts.append((count - cached, _each(price.input, MILLION)))
            case "outputTokens":
                parts.append((count, _each(price.output, MILLION)))
            case "audioMs" | "spokenMs":
                parts.append((count, _each(price.audio, MINUTE_MS)))
            case "cachedTokens" | "reasoningTokens":
                continue  # parts of the input and the output
            case _:
                parts.append((count, None))
    return parts


def _each(price: Decimal | None, units: int) -> Fraction | None:
    return Fraction(price) / units if price is not None else None
