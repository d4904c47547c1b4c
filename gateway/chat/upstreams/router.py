"""Decides which upstream a request is sent to, and when the next one is: before the first visible token, never after.

Upstreams are asked in the operator's order. Neighbours that have a `weight` share a place in it, among whom a key
decides: that of a chat is always the same, so all of its answers come from one upstream, whose cache knows the prompt,
and in whichever process. One whose circuit is open is passed over; where all of them are out, the one that is back
first is asked all the same: an upstream that fails may answer, a refusal of ours would not.
"""

import asyncio
import itertools
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

import structlog

from gateway.chat.upstreams.circuit import Circuit, CircuitState, Clock, Trial, pause_of
from gateway.errors import Overloaded, UpstreamError, UpstreamRefused, UpstreamTimeout
from gateway.upstream_settings import UpstreamSettings

RETRY_SHARE = 0.2
"""Repeated requests that each request makes room for, so that an upstream in trouble is not asked twice as much."""
MAX_SAVED_RETRIES = 10.0
FIRST_WAIT_S = 0.25
"""Longest wait before a request is repeated; it doubles with each time."""
LONGEST_WAIT_S = 5.0
"""A request is not repeated at an upstream that wants to be left alone for longer."""

log = structlog.get_logger("upstreams")

Opened = TypeVar("Opened")


class Routed(Protocol):
    """Who may be asked, and may have enough to do."""

    @property
    def settings(self) -> UpstreamSettings: ...
    @property
    def busy(self) -> bool: ...


Candidate = TypeVar("Candidate", bound=Routed)


class Router:
    """Sends requests on, and keeps the health of whoever they are sent to."""

    def __init__(
        self, clock: Clock = time.monotonic, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.on_error: Callable[[UpstreamError], None] = _ignore
        """Called with the error of each try that failed before a token."""
        self._circuits: dict[str, Circuit] = {}
        self._clock = clock
        self._saved_retries = MAX_SAVED_RETRIES
        self._uniform = uniform

    def circuit(self, name: str) -> Circuit:
        """Returns the circuit of who has this name."""
        circuit = self._circuits.get(name)
        if circuit is None:
            circuit = Circuit(self._clock, _Log(name))
            circuit = self._circuits.setdefault(name, circuit)  # figures are read in a thread, too
        return circuit

    def keep(self, names: Collection[str]) -> None:
        """Forgets the health of all but these."""
        self._circuits = {name: circuit for name, circuit in self._circuits.items() if name in names}

    async def first(
        self, candidates: Sequence[Candidate], key: str, attempt: Callable[[Candidate], Awaitable[Opened]]
    ) -> tuple[Opened, Trial]:
        """Returns what the first attempt gives that does not fail, and its trial, which the caller ends with it.

        `key`: requests with one key prefer one of the candidates that share a place. A candidate with `retries` is
        attempted again where all have failed in passing. Raises what the last one failed with; Overloaded when none
        of them has room.
        """
        self._saved_retries = min(MAX_SAVED_RETRIES, self._saved_retries + RETRY_SHARE)
        ordered = in_order(candidates, key)
        failures: dict[str, UpstreamError] = {}
        failure: UpstreamError | None = None
        for number in itertools.count(1):
            for candidate in self._admitted(ordered):
                trial = self.circuit(candidate.settings.name).begin()
                try:
                    opened = await attempt(candidate)
                except UpstreamError as err:
                    trial.end(err)
                    failures[candidate.settings.name] = failure = err.with_traceback(None)  # its frames hold it
                    self.on_error(err)
                    if isinstance(err, UpstreamRefused) and err.is_final:
                        raise
                except BaseException:
                    trial.forget()
                    raise
                else:
                    trial.note_token()
                    return opened, trial
            ordered = [one for one in ordered if _may_repeat(one.settings, number, failures)]
            if not ordered or self._saved_retries < 1:
                break
            self._saved_retries -= 1
            await asyncio.sleep(self._wait_s(number, failures[ordered[0].settings.name]))
        raise failure or Overloaded("every upstream has as many requests as it may")

    def _admitted(self, candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yields those that have room and may be asked, each when it is wanted; of none, the one that is back first."""
        out: list[Candidate] = []
        is_any = False
        for candidate in candidates:
            if candidate.busy:
                continue
            if self.circuit(candidate.settings.name).admits:
                is_any = True
                yield candidate
            else:
                out.append(candidate)
        if out and not is_any:
            yield min(out, key=lambda one: self.circuit(one.settings.name).back_at)

    def _wait_s(self, number: int, error: UpstreamError) -> float:
        longest_s = FIRST_WAIT_S * 2 ** (number - 1)
        return max(pause_of(error, time.time()), self._uniform(longest_s / 2, longest_s))


def in_order(candidates: Sequence[Candidate], key: str) -> list[Candidate]:
    """Returns candidates in the order in which they are asked: neighbours with weights as `key` deals them. Pure.

    Each comes first for its share of all keys, by weight; when one is added or left out, only its own keys move
    (weighted rendezvous hashing, https://www.snia.org/sites/default/files/SDC15_presentations/dist_sys/
    Jason_Resch_New_Consistent_Hashings_Rev.pdf).
    """
    ordered: list[Candidate] = []
    for is_weighted, neighbours in itertools.groupby(candidates, lambda one: one.settings.weight is not None):
        group = list(neighbours)
        ordered += sorted(group, key=lambda one: _distance(one.settings, key)) if is_weighted else group
    return ordered


def _distance(settings: UpstreamSettings, key: str) -> float:
    """Returns a number that is drawn, by key and name, from the exponential distribution of the weight."""
    digest = blake2b(f"{settings.name}\0{key}".encode(), digest_size=8).digest()
    return -math.log((int.from_bytes(digest) + 1) / (1 << 64)) / (settings.weight or 1.0)


def _may_repeat(settings: UpstreamSettings, number: int, failures: Mapping[str, UpstreamError]) -> bool:
    """Returns whether a request that failed `number` times may be sent there again. A timeout has waited enough."""
    error = failures.get(settings.name)
    if error is None or number > settings.retries or isinstance(error, UpstreamTimeout) or not error.retryable:
        return False
    return pause_of(error, time.time()) <= LONGEST_WAIT_S


class _Log:
    """Says in the log what becomes of one upstream."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, state: CircuitState, reason: str, for_s: float) -> None:
        if state == "closed":
            log.info("an upstream is back", upstream=self._name)
        else:
            log.warning("an upstream is left out", upstream=self._name, reason=reason, for_s=round(for_s, 1))


def _ignore(error: UpstreamError) -> None:
    """Does nothing: nobody counts errors."""
