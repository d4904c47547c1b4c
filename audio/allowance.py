"""The seconds of speech that a session may still hear: taken of the user's limit in portions, as they are needed."""

import asyncio
from collections.abc import Callable
from math import ceil

from audio.model.transcriber import SAMPLE_RATE
from gateway.access.grants import Principal
from gateway.core.leases import Lease
from gateway.core.limits import AUDIO_PORTION_S, Limiter
from gateway.errors import TrilaneError

EARLY_S = 10.0
"""Seconds before the end of a portion at which the next one is asked for."""


class AudioAllowance:
    """What one session holds of limits: its place, and seconds of audio."""

    def __init__(self, limiter: Limiter, who: Principal, lease: Lease, position: int) -> None:
        """`position`: the samples that the session had heard before, elsewhere; those are paid for."""
        self._limiter = limiter
        self._who = who
        self._portions = [lease]
        self._position = position
        self._extension: asyncio.Task[None] | None = None

    def heard_s(self, position: int) -> float:
        return max(0, position - self._position) / SAMPLE_RATE

    def look(self, position: int, refuse: Callable[[TrilaneError], None]) -> None:
        """Takes another portion when this one is nearly heard; calls `refuse` with the error when there is none."""
        taken_s = len(self._portions) * AUDIO_PORTION_S
        if self._extension is None and self.heard_s(position) > taken_s - EARLY_S:
            self._extension = asyncio.get_running_loop().create_task(self._extend(refuse), name="audio allowance")

    async def _extend(self, refuse: Callable[[TrilaneError], None]) -> None:
        try:
            portion = {"audio_seconds_per_day": AUDIO_PORTION_S}
            self._portions.append(await self._limiter.admit(self._who, portion))
            self._extension = None
        except TrilaneError as err:
            refuse(err)

    def end(self, position: int) -> None:
        """Gives back the place, and what of its portions was not heard."""
        if self._extension is not None:
            self._extension.cancel()
        rest_s = ceil(self.heard_s(position))
        for lease in self._portions:
            used_s = min(rest_s, AUDIO_PORTION_S) if lease is not self._portions[-1] else rest_s
            lease.settle(audio_seconds=used_s)
            lease.end()
            rest_s -= used_s
