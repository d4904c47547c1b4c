"""The two sides of a call: each channel has a session of its own, and to its connection both are one.

Each channel counts its own segments, so `channel` and `segment` together name one. Finals are put out in the order in
which their segments ended: the final of one side waits for those of the other that ended before, and for nothing else.
What is settled is settled on both sides; the log keeps for each how far it is, so that a side which had more is not
heard twice after a resume. The side that is silent costs what its speech detector costs.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import msgspec
import numpy as np

from audio.crosstalk import EchoCheck
from audio.decoders.files import SIDES
from audio.driver import SessionDriver
from audio.messages import Done, Final, Gap, Marker, OfTurn, Ready, UtteranceEnd
from audio.model.models import Models
from audio.model.transcriber import Samples
from audio.options import Output, SessionOptions, Settled
from audio.segment import Turn, seconds
from audio.session import Session
from audio.session_state import ChannelState, SessionState

TOLERANCE_S = 0.002
"""Seconds within which two segments end together: positions are told in milliseconds."""


class SplitSession:
    """The sessions of both channels as one, as far as a connection asks."""

    def __init__(self, sides: list[Session]) -> None:
        self._sides = sides

    @property
    def options(self) -> SessionOptions:
        return self._sides[0].options

    @options.setter
    def options(self, options: SessionOptions) -> None:
        for side in self._sides:
            side.options = options

    def reconfigure(self, options: SessionOptions) -> None:
        for side in self._sides:
            side.reconfigure(options)

    def mark(self, marker: str | int) -> None:
        for side in self._sides:
            side.mark(marker)

    def flush(self) -> None:
        for side in self._sides:
            side.flush()

    def commit(self) -> None:
        for side in self._sides:
            side.commit()

    def clear(self) -> None:
        for side in self._sides:
            side.clear()

    @property
    def is_open(self) -> bool:
        return any(side.is_open for side in self._sides)

    @property
    def has_pending(self) -> bool:
        return any(side.has_pending for side in self._sides)

    @property
    def is_done(self) -> bool:
        return all(side.is_done for side in self._sides)

    @property
    def is_speaking(self) -> bool:
        return any(side.is_speaking for side in self._sides)

    @property
    def behind_s(self) -> float:
        return max(side.behind_s for side in self._sides)

    @property
    def uncommitted(self) -> int:
        return max(side.uncommitted for side in self._sides)

    @property
    def turns(self) -> list[Turn]:
        return [turn for side in self._sides for turn in side.turns]


class SplitDriver:
    """Drives both channels of a session, and puts out what they do as one stream."""

    def __init__(
        self, options: SessionOptions, state: SessionState, models: Models, take_output: Callable[[list[Output]], None]
    ) -> None:
        self._channels = list(state.channels) or [ChannelState(settled=state.settled) for _ in range(SIDES)]
        """How far each channel is, as far as that was put out."""
        self._sides = [
            Session(options, settled=one.settled, segments=one.segments, language=one.language)
            for one in self._channels
        ]
        self._drivers = [
            SessionDriver(side, models, partial(self._take, channel)) for channel, side in enumerate(self._sides)
        ]
        self._first = [one.settled for one in self._channels]
        """The first sample that each channel has not heard yet."""
        self._take_output = take_output
        self._echo = EchoCheck()
        self._held: list[deque[Final | Gap | ChannelState]] = [deque() for _ in self._sides]
        """What each channel has put out since a final that waits for the other channel."""
        self._markers: list[deque[str | int]] = [deque() for _ in self._sides]
        """The markers that each channel has returned before the other."""
        self._is_done = False
        self.on_frames: Callable[[Sequence[float]], None] | None = None
        """Called by nobody: a call that is heard apart is no conversation with one of its sides."""
        self.session = SplitSession(self._sides)
        self.position = state.settled
        """Number of samples of each channel that came so far."""
        self.ear = self._drivers[0].ear

    def feed(self, samples: Samples) -> None:
        """Takes samples with a column for each channel; a channel skips what it has settled already."""
        heard = [
            driver.ear.feed(np.ascontiguousarray(samples[max(0, first - self.position) :, channel]))
            for channel, (driver, first) in enumerate(zip(self._drivers, self._first, strict=True))
        ]
        self._echo.quiet(heard)
        self.position += len(samples)
        for driver, (frames, probabilities) in zip(self._drivers, heard, strict=True):
            if probabilities:
                driver.feed_frames(frames, probabilities)

    def flush_ear(self) -> None:
        for driver in self._drivers:
            driver.flush_ear()

    def heard(self, before: int) -> int:
        return self._drivers[0].heard(before)

    def ready(self, session: str, resume_from: int, cursor: str) -> Ready:
        return self._drivers[0].ready(session, resume_from, cursor)

    def where(self, position: int) -> dict[str, object]:
        """Returns the fields of the state that is recorded when all before a position is settled."""
        channels = tuple(self._channels)
        count = sum(one.segments for one in channels)
        return {"settled": position, "heard": self.heard(position), "segments": count, "channels": channels}

    def proceed(self) -> None:
        for driver in self._drivers:
            driver.proceed()

    def stop(self) -> None:
        for driver in self._drivers:
            driver.stop()

    def close(self) -> None:
        for driver in self._drivers:
            driver.close()

    # What comes out

    def _take(self, channel: int, outputs: list[Output]) -> None:
        """Takes what a channel puts out; the finals of both are brought into one order."""
        merged: list[Output] = []
        finals_left = sum(isinstance(output, Final) for output in outputs)
        for output in outputs:
            match output:
                case Final() | Gap():
                    finals_left -= isinstance(output, Final)
                    self._held[channel].append(msgspec.structs.replace(output, channel=channel))
                case Settled():
                    side = self._sides[channel]
                    state = ChannelState(
                        settled=output.position, segments=side.segments - finals_left, language=side.language
                    )
                    self._held[channel].append(state)
                case Marker():
                    self._markers[channel].append(output.id)
                case OfTurn() | UtteranceEnd():
                    merged.append(msgspec.structs.replace(output, channel=channel))
                case _:
                    continue  # what each side says of its end is said once for both
        self._release(merged)
        self._take_output(merged)

    def _release(self, merged: list[Output]) -> None:
        """Adds to `merged` all that need not wait any more."""
        settled = self._settled
        is_new = False
        while (channel := self._next_channel()) is not None:
            item = self._held[channel].popleft()
            if isinstance(item, ChannelState):
                self._channels[channel] = item
            else:
                merged.append(item)
                is_new = True
        while all(self._markers):
            marker, *_ = [markers.popleft() for markers in self._markers]
            merged.append(Marker(id=marker))
        if is_new or self._settled > settled:
            merged.append(Settled(self._settled))
        if not self._is_done and not any(self._held) and all(side.is_done for side in self._sides):
            self._is_done = True
            segments = sum(one.segments for one in self._channels)
            merged.append(Done(duration=seconds(self._settled), segments=segments))

    @property
    def _settled(self) -> int:
        return min(one.settled for one in self._channels)

    def _next_channel(self) -> int | None:
        """Returns the channel whose first held item is next; None when all of them wait."""
        ends: dict[int, float] = {}
        for channel, held in enumerate(self._held):
            if held and isinstance(held[0], ChannelState):
                return channel
            if held and isinstance(held[0], Final | Gap):
                ends[channel] = held[0].end
        for channel in sorted(ends, key=ends.__getitem__):
            if all(self._due_s(other) >= ends[channel] - TOLERANCE_S for other in range(SIDES) if other not in ends):
                return channel
        return None

    def _due_s(self, channel: int) -> float:
        """Returns the end of the oldest segment of a channel that has no final yet; infinity when there is none."""
        side = self._sides[channel]
        return seconds(side.position) - side.behind_s if side.has_pending else inf


def open_driver(
    options: SessionOptions, state: SessionState, models: Models, take_output: Callable[[list[Output]], None]
) -> SessionDriver | SplitDriver:
    """Returns the driver of a session that goes on from a state; a split one stays so, and no other becomes it."""
    is_split = bool(state.channels) or (options.split and not state.settled)
    options = msgspec.structs.replace(options, split=is_split)
    if is_split:
        return SplitDriver(options, state, models, take_output)
    session = Session(options, settled=state.settled, segments=state.segments, language=state.language)
    return SessionDriver(session, models, take_output, silence=state.settled - state.audio)
