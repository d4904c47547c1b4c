"""The state machine of one spoken answer. Pure: text, sound, reports and the time go in; messages and frames come out.

The answer's text is cut into clauses as it comes. One clause is made ahead, and its sound goes out at the listener's
pace (`audio.speech.pacing`). Whatever interrupts, it is known at any time which sample is heard, and which word. All
offsets are code points of the answer's text, and all places samples of the reply.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from audio.model.transcriber import Samples
from audio.model.voice import VOICE_RATE
from audio.speech.clauses import Skipped
from audio.speech.pacing import Pace
from audio.speech.script import CODE_NOTICE, SpeechScript, SpokenLine
from gateway.voice.barge_in import words_of
from gateway.voice.heard import SpokenClause, chars_heard
from gateway.voice.messages import ENDS, ReplyState

HURRY_S = 0.4
"""Seconds after the first text from which the first clause is said though it has not come to a pause."""
RECENT_S = 3.0
"""Seconds of speech whose words a microphone may still pick up."""
STALLED_S = 3.0
"""Seconds after which all that was sent counts as heard, of a client that has stopped reporting."""


class ReplyPlace(NamedTuple):
    """The place from which a reply goes on that was begun before."""

    clauses: tuple[SpokenClause, ...] = ()
    """The clauses that are not heard to their end."""
    at: int = 0
    """The first sample that is to be heard."""
    chars: int = 0
    """The end of the last word that was heard."""
    next_char: int = 0
    """The offset of the text from which nothing was made."""
    number: int = 0
    """The number of clauses that were made."""
    is_code_known: bool = False
    """Whether it was said that there is code on the screen."""


BEGINNING = ReplyPlace()


class Frame(NamedTuple):
    clause: int
    at: int
    sound: Samples


class SpokenReply:
    """One answer as one listener hears it."""

    def __init__(self, can_say: Callable[[str], bool], place: ReplyPlace = BEGINNING) -> None:
        self.state: ReplyState = "thinking"
        self.reason = ""
        first = place.clauses[0] if place.clauses else None
        self.pace = Pace(first.at if first is not None and first.at < place.at else place.at)
        self.clauses: deque[SpokenClause] = deque()
        """The clauses that were made, and are not heard to their end."""
        self.is_written = False
        """Whether all of the text has come."""
        self.next_char = place.next_char
        """The offset from which nothing was made or skipped."""
        self.number = place.number
        """The number of clauses that were made."""
        self.is_code_known = place.is_code_known
        self._can_say = can_say
        self._again = deque(place.clauses)
        """Clauses that were made elsewhere, and are to be made again."""
        self._chars = place.chars
        self._start = place.at
        self._skip = self._base = place.next_char
        self._text = ""
        """The text from `_base` on."""
        self._length = 0
        """The number of characters that have come."""
        self._script = self._new_script()
        self._script_base = self._base
        self._lines: deque[SpokenLine | Skipped] = deque()
        self._sounds: dict[int, Samples] = {}
        """The sound of each of `clauses`, by number."""
        self._is_making = False
        self._began_at: float | None = None
        """The time of the first text, until a clause has come of it."""
        self._sent_at = 0.0
        """The time of the newest frame."""
        self._max_sent = self.pace.sent
        self._skipped: list[Skipped] = []

    # The text

    def write(self, text: str, now: float) -> None:
        """Takes what was written of the answer."""
        begins, self._length = self._length, self._length + len(text)
        text = text[max(0, self._skip - begins) :]
        if not text:
            return
        self._text += text
        if self._began_at is None and self.number == 0:
            self._began_at = now
        self._add(self._script.feed(text))

    def end_part(self) -> None:
        """Notes that a part of the text is over: what follows is another, and no clause has words of both."""
        if self._length >= self._skip:
            self._add(self._script.flush())
            self._script, self._script_base = self._new_script(), self._length

    def end_text(self) -> None:
        self.end_part()
        self.is_written = True

    def _new_script(self) -> SpeechScript:
        return SpeechScript(self._can_say, "" if self.is_code_known else CODE_NOTICE)

    def _add(self, lines: list[SpokenLine | Skipped]) -> None:
        base = self._script_base
        for line in lines:
            if isinstance(line, Skipped):
                self._lines.append(Skipped(base + line.start, base + line.end, line.reason))
            else:
                self.is_code_known = self.is_code_known or line.text == CODE_NOTICE
                self._lines.append(SpokenLine(base + line.start, base + line.end, line.text))
        if lines:
            self._began_at = None

    # What is made

    def next_line(self, now: float) -> SpokenLine | None:
        """Returns what the voice is to say now; `make` must follow."""
        if self.state in ENDS or self._is_making or not self.pace.wants_clause:
            return None
        if self._began_at is not None and now >= self._began_at + HURRY_S:
            self._began_at = None
            self._add(self._script.hurry())
        self._is_making = True
        if self._again:
            return SpokenLine(self._again[0].start, self._again[0].end, self._again[0].text)
        while self._lines and isinstance(line := self._lines[0], Skipped):
            self._skipped.append(line)
            self.next_char = line.end
            self._lines.popleft()
        if self._lines:
            line = self._lines[0]
            assert isinstance(line, SpokenLine)
            return line
        self._is_making = False
        return None

    def take_skipped(self) -> list[Skipped]:
        """Returns what was passed over since the last call."""
        skipped, self._skipped = self._skipped, []
        return skipped

    def make(self, sound: Samples, now: float) -> SpokenClause:
        """Takes the sound of the line that was given out last."""
        self._is_making = False
        at = self.pace.made
        if self._again:
            earlier = self._again.popleft()
            clause = SpokenClause(
                number=earlier.number,
                start=earlier.start,
                end=earlier.end,
                at=at,
                samples=len(sound),
                text=earlier.text,
                written=earlier.written,
            )
        else:
            line = self._lines.popleft()
            assert isinstance(line, SpokenLine)
            self.number += 1
            clause = SpokenClause(
                number=self.number,
                start=line.start,
                end=line.end,
                at=at,
                samples=len(sound),
                text=line.text,
                written=self._text[line.start - self._base : line.end - self._base],
            )
            self.next_char = line.end
        self.pace.make(len(sound))
        self.clauses.append(clause)
        self._sounds[clause.number] = sound
        if at < self._start < clause.until:  # the listener has heard the beginning of it elsewhere
            self.pace.skip(self._start)
            self._max_sent = self._start
        self._forget(now)
        return clause

    def fail_voice(self, reason: str) -> None:
        """Notes that the voice cannot say what was given out last: the text goes on without it."""
        self._is_making = False
        self.end("text_only", reason)

    # What is sent

    def frame(self, now: float) -> Frame | None:
        """Returns the frame that is to be sent now, which counts as sent."""
        if self.state != "speaking":
            return None
        count = self.pace.due(now)
        clause = next((clause for clause in self.clauses if clause.at <= self.pace.sent < clause.until), None)
        if not count or clause is None:
            return None
        at = self.pace.sent
        count = min(count, clause.until - at)
        self.pace.send(count, now)
        self._max_sent = max(self._max_sent, self.pace.sent)
        self._sent_at = now
        self._forget(now)
        return Frame(clause.number, at, self._sounds[clause.number][at - clause.at : at - clause.at + count])

    def wait_s(self, now: float) -> float | None:
        """Returns the seconds until this has something to do by itself; None when something must come first."""
        if self.state in ENDS or self.pace.is_paused:
            return None
        waits = [self.pace.wait_s(now)]
        if self._began_at is not None:
            waits.append(self._began_at + HURRY_S - now)
        if self._is_all_sent:
            waits.append((self.pace.sent - self.pace.heard(now)) / VOICE_RATE)
            waits.append(self._stalled_at - now)
        due = [wait for wait in waits if wait is not None and wait > 0]
        return min(due) if due else None

    # What is heard

    def heard(self, now: float) -> tuple[int, int]:
        """Returns the sample that is heard now, and the end of the last word that was."""
        samples = self.pace.heard(now)
        return samples, max(self._chars, chars_heard(self.clauses, samples))

    def report(self, played: int, now: float) -> None:
        """Notes that a client has played so many samples. Raises ValueError for more than were sent."""
        if played > self._max_sent:
            raise ValueError(f"sample {played} cannot have been played: {self._max_sent} were sent")
        self.pace.report(min(played, self.pace.sent), now)

    def recent_words(self, now: float) -> list[str]:
        """Returns the words that were spoken in the last seconds, those on their way included."""
        since = self.pace.heard(now) - round(RECENT_S * VOICE_RATE)
        return [word for clause in self.clauses if clause.until > since for word in words_of(clause.text)]

    def _forget(self, now: float) -> None:
        """Forgets clauses that were heard, once no echo of them can come any more."""
        before = self.pace.heard(now) - round(RECENT_S * VOICE_RATE)
        while self.clauses and self.clauses[0].until < before:
            clause = self.clauses.popleft()
            del self._sounds[clause.number]
            self._chars = max(self._chars, clause.end)
            if clause.end > self._base:
                self._text = self._text[clause.end - self._base :]
                self._base = clause.end

    # Its states

    def speak(self) -> None:
        """Notes that the first sound is there."""
        if self.state == "thinking":
            self.state = "speaking"

    def pause(self, now: float) -> int:
        """Stops for now; returns the sample that is heard."""
        self.state = "paused"
        return self.pace.pause(now)

    def resume(self, now: float) -> int:
        """Goes on; returns the sample that comes next."""
        self.state = "speaking" if self.clauses else "thinking"
        return self.pace.resume(now)

    def end(self, state: ReplyState, reason: str = "") -> None:
        """Ends it, once."""
        if self.state not in ENDS:
            self.state, self.reason = state, reason

    def is_spoken(self, now: float) -> bool:
        """Tells whether all of it was heard."""
        if self.state in ENDS or self.state == "paused" or not self._is_all_sent:
            return False
        return self.pace.heard(now) >= self.pace.sent or now >= self._stalled_at

    @property
    def has_line(self) -> bool:
        """Tells whether there is something to say."""
        return bool(self._lines or self._again)

    @property
    def is_alive(self) -> bool:
        return self.state not in ENDS

    @property
    def _is_all_sent(self) -> bool:
        is_made = self.is_written and not (self._lines or self._again or self._is_making)
        return is_made and self.pace.sent == self.pace.made

    @property
    def _stalled_at(self) -> float:
        """Returns the time from which a client counts as having heard all that was sent."""
        return self._sent_at + STALLED_S + (self.pace.sent - self.pace.heard(self._sent_at)) / VOICE_RATE
