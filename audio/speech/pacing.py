"""Says when the next clause of a reply is made, and when its sound is sent: at most AHEAD_S before it is heard. Pure.

What was sent cannot be taken back: whoever interrupts hears the rest of it. So a frame is sent when the listener has
room for it within AHEAD_S, and a clause is made while the one before it is being sent: one is always ready, and at most
one is made for nothing. The listener's place is what its client reports as played, and goes on from there with the
clock for TRUST_S; of a client that reports nothing it is the clock's, which stands while there is nothing to hear.

All places are samples of the reply, and all times seconds of a clock that never goes back.
"""

from math import ceil

from audio.model.voice import VOICE_RATE

AHEAD_S = 1.5
"""Maximum seconds of sound that a client has and has not played."""
FRAME_S = 0.1
"""Maximum seconds of one frame."""
TRUST_S = 1.0
"""Seconds after a report for which a client is believed to play on: it reports twice in that time."""
AHEAD, FRAME, TRUST = (round(seconds * VOICE_RATE) for seconds in (AHEAD_S, FRAME_S, TRUST_S))


class Pace:
    """The pace of one reply."""

    def __init__(self, start: int = 0) -> None:
        """`start` is the sample with which it begins: a reply that goes on after a cut begins later than with 0."""
        self.made = start
        """The end of what was made."""
        self.sent = start
        """The end of what was sent."""
        self.is_paused = False
        self._last_clause = start
        """The beginning of the clause that was made last."""
        self._place = start
        """The listener's place at `_placed_at`."""
        self._placed_at = 0.0
        self._certain = start
        """The place before which all was heard, whatever the clock said."""
        self._reports = False

    def skip(self, to: int) -> None:
        """Begins with a later sample, of the clause that was made first: what is before it was heard elsewhere."""
        self.sent = self._place = self._certain = to

    # What is made

    @property
    def wants_clause(self) -> bool:
        """Tells whether the next clause is to be made: once the one before it is being sent."""
        return not self.is_paused and self.sent >= self._last_clause

    def make(self, samples: int) -> None:
        """Notes that a clause was made, of so many samples."""
        self._last_clause = self.made
        self.made += samples

    # What is sent

    def due(self, now: float) -> int:
        """Returns how many samples are to be sent now: those of one frame at most, and fewer only at the very end."""
        if self.is_paused:
            return 0
        frame = min(self.made - self.sent, FRAME)
        return frame if self.sent + frame - self.heard(now) <= AHEAD else 0

    def send(self, samples: int, now: float) -> None:
        """Notes that so many were sent. Raises ValueError for more than were made."""
        if self.sent + samples > self.made:
            raise ValueError(f"sample {self.sent + samples} cannot be sent: {self.made} were made")
        if self.heard(now) == self.sent:  # all was heard, and the listener's clock goes on with these
            self._place, self._placed_at = self.sent, now
        self.sent += samples

    def wait_s(self, now: float) -> float | None:
        """Returns the seconds until `due` has something; None when a clause, a report or `resume` must come."""
        if self.is_paused or self.made == self.sent:
            return None
        missing = self.sent + min(self.made - self.sent, FRAME) - self.heard(now) - AHEAD
        if missing <= 0:
            return 0.0
        if self._reports and self.heard(now) + missing > self._place + TRUST:
            return None
        return ceil(missing / VOICE_RATE * 1000) / 1000

    # What is heard

    def heard(self, now: float) -> int:
        """Returns the sample that the listener hears now, as far as is known: never beyond what was sent."""
        if self.is_paused:
            return self._place
        passed = round((now - self._placed_at) * VOICE_RATE)
        return min(self.sent, self._place + (min(passed, TRUST) if self._reports else passed))

    def report(self, played: int, now: float) -> None:
        """Notes that a client has played so many samples. It never falls, unless it corrects what a pause guessed.

        Raises ValueError for more than were sent.
        """
        if played > self.sent:
            raise ValueError(f"sample {played} cannot have been played: {self.sent} were sent")
        if played >= (self._certain if self.is_paused else self._place):
            self._place = self._certain = played
            self._placed_at, self._reports = now, True

    def correct(self, played: int) -> None:
        """Notes, in a pause, where a listener has stopped who has come back, and may report no more."""
        self._reports = False
        if played >= self._certain:
            self._place = min(played, self.sent)

    def pause(self, now: float) -> int:
        """Stops: nothing is due any more. Returns the sample that is heard now; a report may still mend it."""
        self._place, self.is_paused = self.heard(now), True
        return self._place

    def resume(self, now: float) -> int:
        """Goes on from the sample at which the listener stopped, which is sent again: returns it."""
        self.is_paused, self._placed_at, self.sent = False, now, self._place
        return self._place
