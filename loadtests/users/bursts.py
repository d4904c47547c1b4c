"""Bursts show whether something between client and gateway holds tokens back: when they were made, and when they
came.

A burst is what arrives without a pause. A model takes its time between tokens, so a burst of tokens that took it long
to make was held somewhere. A proxy that buffers does that to nearly all of an answer, and to nearly every answer. A
gateway that stalls for a moment lets the rest of an answer come token by token, and a busy client is known by its
pulse: answers during which it was late are not judged.
"""

from itertools import pairwise

from loadtests.users.answer import Token

PAUSE_S = 0.01
"""Seconds below which tokens that arrive one after the other are one burst."""
MIN_TOKENS = 10
"""Tokens below which bursts and answers are not looked at."""
MIN_UNTIMED = 30
"""MIN_TOKENS for tokens of which nobody knows when they were made: so many at once come of no model."""
HELD_S = 0.4
"""Seconds that its model took at least for the tokens of a burst that was held back."""
FEW_TOKENS = 5
MOST = 0.8
"""Share of an answer that comes in bursts of FEW_TOKENS at least, and of answers, that counts as held back."""
PRIME_S = 3.0
"""Seconds in which a gateway begins its answer (TRILANE_PRIME_S is 2); it writes tokens as they come from any model."""
MIN_ANSWERS = 5


def held_back(tokens: list[Token], waited_s: float) -> bool | None:
    """Returns whether one answer came in bursts that had been held; None when it cannot be known.

    `waited_s`: from the request to the answer's head. Where tokens have no time of their own only a total hold shows:
    no head for longer than a gateway takes, and then the whole answer at once.
    """
    if len(tokens) < MIN_TOKENS:
        return None
    if tokens[0].made_s is None or tokens[-1].made_s is None:
        if len(_bursts(tokens)) > 1:
            return False
        return True if len(tokens) >= MIN_UNTIMED and waited_s > PRIME_S else None
    if tokens[-1].made_s - tokens[0].made_s < HELD_S:
        return None
    bursts = _bursts(tokens)
    in_bursts = sum(len(burst) for burst in bursts if len(burst) >= FEW_TOKENS)
    return any(_was_held(burst) for burst in bursts) and in_bursts >= len(tokens) * MOST


def _was_held(burst: list[Token]) -> bool:
    times_s = [token.made_s for token in burst if token.made_s is not None]
    return len(times_s) >= MIN_TOKENS and times_s[-1] - times_s[0] >= HELD_S


def _bursts(tokens: list[Token]) -> list[list[Token]]:
    bursts = [tokens[:1]]
    for before, token in pairwise(tokens):
        if token.arrived_s - before.arrived_s > PAUSE_S:
            bursts.append([])
        bursts[-1].append(token)
    return bursts


class Buffering:
    """Counts the answers of one process; `judge` says whether the newest makes it certain."""

    def __init__(self) -> None:
        self.judged_count = 0
        self.held_count = 0

    def judge(self, is_held: bool | None) -> bool:
        """Takes one answer; returns True when it was held back, like most of at least MIN_ANSWERS."""
        self.judged_count += is_held is not None
        self.held_count += bool(is_held)
        return bool(is_held) and self.judged_count >= MIN_ANSWERS and self.held_count >= self.judged_count * MOST
