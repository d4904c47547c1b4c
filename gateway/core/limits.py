"""Decides who may start what, and how much of it: the limits of each user and of everyone together (contract §9).

`Limiter.admit` is called before work begins, and returns a `Lease` that its end gives back. It looks at three things:
1. memory: a process that has too much of it in use takes no new work;
2. shares, in this process alone and without the engine: where many can sign in, one user holds at most half of what the
   process can hold, unless a limit of the operator's says otherwise;
3. limits that are set, or that the user's token carries, in the log's engine, exactly and for all processes at once.
Where no limit is set the engine is not asked. Nothing waits in a queue.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import sha256

import msgspec

from events.log.port import EventLog
from events.log.quotas import DAY, MINUTE, MONTH, SLOTS, Settlement, Take, Window
from gateway.access.grants import GrantedLimits, Principal
from gateway.core.holdings import KEYS, HeldByUser, Holdings
from gateway.core.leases import COST_UNIT, NO_LEASE, TOKENS, Lease, Reservation, Reserved
from gateway.core.quota_client import QuotaClient
from gateway.core.rates import Charge, Counted, headers, retry_after_s
from gateway.core.telemetry import Metrics
from gateway.errors import Overloaded, RateLimited
from gateway.settings import Settings

WINDOWS: Mapping[str, Window] = {
    "runs": SLOTS,
    "streams": SLOTS,
    "sessions": SLOTS,
    "requests_per_minute": MINUTE,
    "tokens_per_minute": MINUTE,
    "tickets_per_minute": MINUTE,
    "audio_seconds_per_day": DAY,
    "daily_tokens": DAY,
    "monthly_cost": MONTH,
}
"""Every limit, and the time over which it counts."""
ALL = "all"
NOTHING_GRANTED = GrantedLimits()
UNKNOWN_OUTPUT_TOKENS = 1024
"""Tokens that are reserved for an answer whose request does not bound it."""
MEMORY_RETRY_S = "5"
SHARE_RETRY_S = "2"

REQUEST: Mapping[str, int] = {"requests_per_minute": 1}
STREAM: Mapping[str, int] = {"streams": 1}
TICKET: Mapping[str, int] = {"tickets_per_minute": 1}
AUDIO_PORTION_S = 30
"""Seconds of audio that a session takes at a time."""
UPLOAD: Mapping[str, int] = {**REQUEST, "uploads": 1, "audio_seconds_per_day": 0, "monthly_cost": 0}
SPEECH: Mapping[str, int] = {**REQUEST, "audio_seconds_per_day": 0, "monthly_cost": 0}
RESUMED: Mapping[str, int] = {**STREAM, "sessions": 1, "audio_seconds_per_day": AUDIO_PORTION_S, "monthly_cost": 0}
SESSION: Mapping[str, int] = {**REQUEST, **RESUMED}


def wants_of_run(prompt_tokens: int, request: Mapping[str, object], *, has_stream: bool) -> Mapping[str, int]:
    """Returns what a run takes: of tokens an estimate, of the prompt and the most that `request` lets it answer."""
    bounds = [request.get("max_completion_tokens"), request.get("max_tokens")]
    output_tokens = next((bound for bound in bounds if isinstance(bound, int)), UNKNOWN_OUTPUT_TOKENS)
    tokens = prompt_tokens + max(0, output_tokens)
    wants = {**REQUEST, "runs": 1, "tokens_per_minute": tokens, "daily_tokens": tokens, "monthly_cost": 0}
    return {**wants, **STREAM} if has_stream else wants


def _digest(sub: str) -> str:
    """Returns a user's name in counters, where none of theirs could be told from another, or be too long."""
    return sha256(sub.encode(errors="surrogatepass")).hexdigest()[:32]


class Limiter:
    """The limits of one process. `capacities`: how many runs, streams, sessions and uploads it can hold."""

    def __init__(
        self, settings: Settings, event_log: EventLog, metrics: Metrics, capacities: Mapping[str, int]
    ) -> None:
        self.client = QuotaClient(event_log)
        self.is_short_of_memory: Callable[[], bool] = _never
        limits = settings.limits
        self._all_bounds = _set(
            runs=limits.runs,
            streams=limits.streams,
            sessions=limits.sessions,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            tickets_per_minute=limits.tickets_per_minute,
            audio_seconds_per_day=limits.audio_seconds_per_day,
            daily_tokens=limits.daily_tokens,
            topics=limits.topics,
            stored_bytes=limits.stored_bytes,
        )
        self._ones = lru_cache(1024)(self._ones_of)
        self._kept = Holdings(event_log)
        self._all_kept_bounds = {key: bound for key, bound in self._all_bounds.items() if key in KEYS}
        self._kept_bounds = _set(**{key: _bound(settings.user_limits, key) for key in KEYS})
        self._user_bounds = _set(**{key: _bound(settings.user_limits, key) for key in WINDOWS})
        if not settings.requires_sign_in:
            self._user_bounds.pop("tickets_per_minute", None)  # nobody needs one
        self._shares = {
            key: max(1, capacity // 2) for key, capacity in capacities.items() if key not in self._user_bounds
        }
        if not _have_many_users(settings):
            self._shares = {}
        self._is_off = not (self._user_bounds or self._all_bounds or self._shares)
        self._held: dict[tuple[str, str], int] = {}
        """What each user holds in this process of what is shared, by limit and user."""
        self._stream_ends: dict[str, Callable[[], None]] = {}
        self._used: dict[str, int] = {}
        self._refused = metrics.counter(
            "gateway_limits_refused", "Requests that a limit refused, by which", "limit", self._all_bounds
        )
        if self._all_bounds:
            self._show(metrics)

    def _show(self, metrics: Metrics) -> None:
        """Shows the limits of everyone together, as this process has last seen them."""
        bounds, used = self._all_bounds, self._used
        metrics.gauges(
            "gateway_limits_used",
            "What everyone together uses of TRILANE_LIMIT_*, by limit",
            ["limit"],
            lambda: {(key,): float(used.get(key, 0)) for key in bounds},
            is_largest=True,
        )
        metrics.gauges(
            "gateway_limits_max",
            "TRILANE_LIMIT_*, by limit",
            ["limit"],
            lambda: {(key,): float(bound) for key, bound in bounds.items()},
            is_largest=True,
        )

    async def close(self) -> None:
        """Gives back whatever this process holds."""
        await self.client.close()

    async def admit(self, who: Principal, wants: Mapping[str, int]) -> Lease:
        """Returns the lease of new work, which takes `wants` of each limit.

        Raises RateLimited, Overloaded, LogUnavailable; then nothing was taken.
        """
        if self.is_short_of_memory():
            self._refused.labels("memory").inc()
            raise Overloaded("this process has no memory for more now", code="memory", retry_after=MEMORY_RETRY_S)
        if self._is_off and who.grants.limits == NOTHING_GRANTED:
            return NO_LEASE
        charges = self.charges(who, wants)
        shares = [key for key in wants if key in self._shares]
        if not charges and not shares:
            return NO_LEASE
        self._enter(who.sub, shares)
        slots: dict[str, Sequence[str]] = dict.fromkeys(shares, ())
        try:
            return await self._take(who, charges, slots) if charges else Lease(self, who.sub, slots)
        except BaseException:
            for key in shares:
                self.release(key, who.sub, ())
            raise

    async def keep(self, who: Principal, *, topics: int, stored_bytes: int) -> None:
        """Admits what the log is to keep of a user: so many new topics, and bytes. Raises RateLimited, LogError.

        Nothing is given back: what was not written is seen so, or counts for some seconds.
        """
        own: HeldByUser | None = None
        try:
            if bounds := self.kept_bounds(who):  # first, so that what it refuses takes nothing of the others' room
                own = await self._kept.keep(who.sub, bounds, topics, stored_bytes)
            if self._all_kept_bounds:
                held = await self._kept.keep(None, self._all_kept_bounds, topics, stored_bytes)
                self._used |= {"topics": held.topics, "stored_bytes": held.stored_bytes}
        except RateLimited as err:
            self._refused.labels(str(err.extra["limit"])).inc()
            if own is not None:
                own.take_back(topics, stored_bytes)
            raise

    def bounds_kept(self, who: Principal) -> bool:
        """Returns whether any limit bounds what the log keeps of a user."""
        return bool(self._all_kept_bounds or self.kept_bounds(who))

    def kept_bounds(self, who: Principal) -> Mapping[str, int]:
        """Returns the limits on what the log keeps of a user, each as narrow as any says; nothing where none is set."""
        granted = who.grants.limits
        if granted == NOTHING_GRANTED:
            return self._kept_bounds
        own = _set(**{key: _bound(granted, key) for key in KEYS})
        return {key: min(own.get(key, bound), bound) for key, bound in (own | self._kept_bounds).items()}

    async def admit_stream(self, who: Principal) -> Callable[[], None]:
        """Admits an event stream; returns what ends it, to be called once. Raises as `admit` does.

        All streams of a user that hold a share alone have the same end, so that one costs nothing while it is idle.
        """
        lease = await self.admit(who, STREAM)
        if lease is NO_LEASE:
            return _nothing
        if lease.has_counters:
            return lease.end
        return self._stream_ends.setdefault(who.sub, partial(self.release, "streams", who.sub, ()))

    async def _take(self, who: Principal, charges: list[Charge], slots: dict[str, Sequence[str]]) -> Lease:
        outcome, now_s = await self.client.take([charge.take for charge in charges])
        if outcome.refused >= 0:
            raise self._refuse([*map(Counted, charges, outcome.tallies)], now_s)
        reserved: dict[str, list[Reservation]] = {}
        window, bucket = SLOTS, 0
        for (key, take, is_of_all), tally in zip(charges, outcome.tallies, strict=True):
            if is_of_all:
                self._used[key] = tally.used + take.amount
            if not take.window.bucket_s:
                slots[key] = (*slots.get(key, ()), take.counter)
                continue
            if take.window is not window:
                window = take.window
                bucket = window.current(now_s)
            reserved.setdefault(key, []).append(Reservation(take, bucket))
        fields = headers(zip(charges, outcome.tallies, strict=True), now_s, is_taken=True)
        return Lease(self, who.sub, slots, reserved, fields)

    def _refuse(self, counts: list[Counted], now_s: float) -> Overloaded:
        """Notes a refusal; returns its error."""
        for (key, _, is_of_all), tally in counts:
            if is_of_all:
                self._used[key] = tally.used
        self._refused.labels(counts[-1].charge.key).inc()
        return _refusal(counts[-1], now_s, headers(counts, now_s, is_taken=False))

    def charges(self, who: Principal, wants: Mapping[str, int]) -> list[Charge]:
        """Returns what to take in the engine: of the user's limits, each as narrow as any says, and of everyone's."""
        granted = who.grants.limits
        if granted == NOTHING_GRANTED:
            if not self._user_bounds and not self._all_bounds:
                return []
            granted = NOTHING_GRANTED  # the same object for all: a key that is found at once
        ones = self._ones(who.sub, granted, tuple(wants))
        return [one if wants[one.key] == 1 else _charge(one, wants[one.key]) for one in ones]

    def _ones_of(self, sub: str, granted: GrantedLimits, keys: tuple[str, ...]) -> list[Charge]:
        """Returns a charge of one for each counter that counts a user's work, in order."""
        ones: list[Charge] = []
        for key in keys:
            window = WINDOWS.get(key)
            if window is None:
                continue
            own = [bound for bound in (self._user_bounds.get(key), _bound(granted, key)) if bound is not None]
            if own:
                ones.append(Charge(key, Take(f"{key}/{_digest(sub)}", min(own), 1, window)))
            if (bound := self._all_bounds.get(key)) is not None:
                ones.append(Charge(key, Take(f"{key}/{ALL}", bound, 1, window), is_of_all=True))
        return ones

    # Shares of this process

    def _enter(self, sub: str, keys: Sequence[str]) -> None:
        for key in keys:
            if self._held.get((key, sub), 0) >= self._shares[key]:
                self._refused.labels(key).inc()
                raise RateLimited(
                    f"you hold {self._shares[key]} {key} of this process, which is half of all: end one, or wait",
                    retry_after=SHARE_RETRY_S,
                    extra={"limit": key},
                )
        for key in keys:
            self._held[key, sub] = self._held.get((key, sub), 0) + 1

    # What leases give back

    def release(self, key: str, sub: str, counters: Sequence[str]) -> None:
        if key in self._shares:
            count = self._held.pop((key, sub), 0) - 1
            if count > 0:
                self._held[key, sub] = count
            elif key == "streams":
                self._stream_ends.pop(sub, None)
        if counters:
            self.client.release(counters)
            if f"{key}/{ALL}" in counters:
                self._used[key] = max(0, self._used.get(key, 0) - 1)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        self.client.settle(settlements)

    def lease_of(self, sub: str, reserved: Reserved) -> Lease:
        """Returns the lease of work of a process that died, which the log says has `reserved` so much of rates.

        Its slots are free again by themselves.
        """
        return Lease(self, sub, reserved=reserved) if reserved else NO_LEASE


def _never() -> bool:
    return False


def _nothing() -> None:
    """Does nothing: there is nothing to end."""


def _have_many_users(settings: Settings) -> bool:
    """Returns whether more than one can sign in, as far as the settings say; else all of it is one user's."""
    users = {key.user for key in settings.api_keys.values()}
    return bool(settings.takes_tokens or settings.sign_in or len(users) > 1)


def _set(**bounds: int | None) -> dict[str, int]:
    """Returns the limits that are set."""
    return {key: bound for key, bound in bounds.items() if bound is not None}


def _bound(limits: msgspec.Struct, key: str) -> int | None:
    """Returns a limit as it is counted: a cost in COST_UNIT of the currency's unit, all else as it is set."""
    bound: float | None = getattr(limits, key, None)
    if bound is None:
        return None
    return round(bound * COST_UNIT) if key == "monthly_cost" else int(bound)


def _charge(one: Charge, amount: int) -> Charge:
    """Returns a charge of another amount; estimated tokens fit when nothing is used: the estimate may be too high."""
    key, take, is_of_all = one
    fitting = min(amount, take.limit) if key in TOKENS else amount
    return Charge(key, Take(take.counter, take.limit, fitting, take.window), is_of_all)


def _refusal(count: Counted, now_s: float, fields: Sequence[tuple[bytes, bytes]]) -> Overloaded:
    """Returns the error of a charge that did not fit. Slots that all users together have filled are no user's fault."""
    (key, take, is_of_all), tally = count
    retry_s = retry_after_s(count, now_s)
    unit = COST_UNIT if key == "monthly_cost" else 1
    whose = "of everyone together" if is_of_all else "of yours"
    if take.window == SLOTS and is_of_all:
        return Overloaded(
            f"all {take.limit} {key} of this gateway are taken (TRILANE_LIMIT_{key.upper()})",
            retry_after=str(retry_s),
            extra={"limit": key},
        )
    error = RateLimited(
        f"the limit {key} {whose} is {take.limit / unit:g}, and {tally.used / unit:g} are used"
        + (f": try again in {retry_s} s" if retry_s is not None else ""),
        retryable=retry_s is not None,
        retry_after=None if retry_s is None else str(retry_s),
        extra={"limit": key, "max": take.limit // unit, "used": tally.used // unit},
    )
    error.headers = {name.decode(): value.decode() for name, value in fields}
    return error
