"""The seconds of speech that a session may still hear: taken of the user's limit in portions, as they are needed.

The last portion is what the limit has left, and it is heard to its end: a limit of a minute gives a minute.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from audio.model.transcriber import SAMPLE_RATE
from gateway.access.grants import Principal
from gateway.core.leases import AUDIO_SECONDS, Lease, Reserved
from gateway.core.limits import AUDIO_PORTION_S, Limiter
from gateway.errors import RateLimited, TrilaneError

EARLY_S = 10.0
"""Seconds before the end of a portion at which the next one is asked for."""


class Portion(NamedTuple):
    """Seconds of audio that were taken, and the lease that says so."""

    lease: Lease
    seconds: int


async def take_portion(limiter: Limiter, who: Principal, wants: Mapping[str, int]) -> Portion:
    """Takes `wants`, and of seconds at most what the limits have left. Raises as `Limiter.admit` does."""
    wanted_s = wants[AUDIO_SECONDS]
    while True:
        try:
            return Portion(await limiter.admit(who, {**wants, AUDIO_SECONDS: wanted_s}), wanted_s)
        except RateLimited as err:
            limit, used = err.extra.get("max"), err.extra.get("used")
            if err.extra.get("limit") != AUDIO_SECONDS or not isinstance(limit, int) or not isinstance(used, int):
                raise
            if wanted_s <= 1:
                raise  # it says when there is a second again
            wanted_s = min(wanted_s - 1, max(1, limit - used))


class AudioAllowance:
    """What one session holds of limits: its place, and seconds of audio. Its log has what was taken of those."""

    def __init__(
        self, limiter: Limiter, who: Principal, portion: Portion, position: int, extend: Callable[[Reserved], None]
    ) -> None:
        """`position`: the samples that the session had heard before, elsewhere; those are paid for.

        `extend` notes another portion in the log.
        """
        self._limiter = limiter
        self._who = who
        self._lease = portion.lease
        self._extend_log = extend
        self._taken_s = portion.seconds
        self._position = position
        self._extension: asyncio.Task[None] | None = None
        self._refusal: TrilaneError | None = None
        """The error of the portion that was not to be had."""

    def heard_s(self, position: int) -> float:
        return max(0, position - self._position) / SAMPLE_RATE

    def look(self, position: int, refuse: Callable[[TrilaneError], None]) -> None:
        """Takes another portion when this one is nearly heard; calls `refuse` when it is, and none was to be had."""
        rest_s = self._taken_s - self.heard_s(position)
        if rest_s <= 0 and self._refusal is not None:
            refuse(self._refusal)
        elif self._extension is None and rest_s < EARLY_S:
            self._extension = asyncio.get_running_loop().create_task(self._extend(), name="audio allowance")

    async def _extend(self) -> None:
        try:
            portion = await take_portion(self._limiter, self._who, {AUDIO_SECONDS: AUDIO_PORTION_S})
        except TrilaneError as err:
            self._refusal = err
            if not isinstance(err, RateLimited):
                self._extension = None  # an outage may be over before the portion is
            return
        self._taken_s += portion.seconds
        self._extension = self._refusal = None
        self._extend_log(portion.lease.reserved)

    def end(self) -> None:
        """Gives back the place."""
        if self._extension is not None:
            self._extension.cancel()
        self._lease.end()
