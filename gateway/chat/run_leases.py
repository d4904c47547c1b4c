"""Keeps what runs hold of limits, and settles it: whoever writes a run's usage row charges its user what that says.

What a run's admission took of rates stands with the run in the log, so it can be settled by another process, when its
own has died. The places that it held are free again by themselves then.
"""

import msgspec

from gateway.chat.ending import RunEnding
from gateway.chat.records.chat_record import RunInfo
from gateway.core.leases import COST, NO_LEASE, TOKENS, Lease
from gateway.core.limits import Limiter
from gateway.core.prices import NANOS, Prices
from gateway.core.usage import UsageRow

CORRECTED = {*TOKENS, COST}
"""The limits of which a run's end says how much it was."""


class RunLeases:
    """The leases of the runs of one process."""

    def __init__(self, limiter: Limiter | None, prices: Prices) -> None:
        """`limiter` is None where nothing is limited."""
        self._limiter = limiter
        self._prices = prices
        self._leases: dict[str, Lease] = {}

    def keep(self, run_id: str, lease: Lease) -> None:
        """Keeps the lease of a run until it is settled or cancelled."""
        if lease is not NO_LEASE:
            self._leases[run_id] = lease

    def of_another(self, info: RunInfo) -> Lease:
        """Returns the lease of a run of another process, which is taken over or ended."""
        return self._limiter.lease_of(info.sub, info.reserved) if self._limiter is not None else NO_LEASE

    def leave_place(self, run_id: str) -> None:
        """Gives back the place that a run holds among those of its user."""
        self._leases.get(run_id, NO_LEASE).leave("runs")

    def cancel(self, run_id: str) -> None:
        """Gives back all that a run holds, which never began."""
        self._leases.pop(run_id, NO_LEASE).cancel()

    def end(self, run_id: str, row: UsageRow | None, tokens: int) -> None:
        """Gives back the place of a run that is over; with its row, which this process has written, it is charged."""
        lease = self._leases.pop(run_id, NO_LEASE)
        lease.leave("runs")
        if row is not None:
            self._charge(lease, row, tokens)

    def end_other(self, ending: RunEnding) -> None:
        """Charges for a run of another process, which this one has ended."""
        self._charge(self.of_another(ending.info), ending.row, ending.finished.usage.total_tokens)

    def _charge(self, lease: Lease, row: UsageRow, tokens: int) -> None:
        cost = self._prices.cost(row) if COST in lease.reserved else None
        lease.settle(tokens=tokens, cost=cost.nanos / NANOS if cost is not None else None)


def with_reserved(info: RunInfo, lease: Lease) -> RunInfo:
    """Returns what a run is known by, with what its lease has taken that is corrected at its end."""
    reserved = {key: taken for key, taken in lease.reserved.items() if key in CORRECTED}
    return msgspec.structs.replace(info, reserved=reserved) if reserved else info
