"""The state machine of one listening session. Pure: audio, answers and the time go in; messages and tasks come out.

Audio becomes segments where `endpointing` says. While a segment is spoken, hypotheses for all of it are
made one after the other and shown as partials; once it is over it is decoded anew, at the best quality, and that is
its final. One task of a session is with the model at a time; which one is decided when the model is free, so work
that has become stale is never begun. Positions are samples at 16 kHz since the session began,
and segments begin and end between frames: on whichever process a session goes on, its frames are the same.
"""

from collections import deque
from collections.abc import Sequence

from audio.endpointing import Onset, cut_of, end_of, is_speech, prefix
from audio.messages import Done, Marker, SpeechStarted, SpeechStopped, TurnOver
from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription, TranscriptionTask
from audio.options import (
    LANGUAGE_SAMPLES,
    MAX_WAITING,
    ONSET_FRAMES,
    PREFIX,
    SILENT_SETTLE,
    TAIL,
    Output,
    SessionOptions,
    Settled,
)
from audio.pending_finals import PendingFinals
from audio.segment import FRAME, ClosedSegment, Segment, Turn, seconds
from audio.tape import Tape


class Session:
    """Feed it with `hear`, ask it `wants`, give it work's result with `heard`, and send what `take_output` returns."""

    def __init__(
        self, asked: SessionOptions, *, settled: int = 0, segments: int = 0, language: str | None = None
    ) -> None:
        self.asked = asked
        self.language = asked.language or language
        self.position = settled
        """Samples heard so far."""
        self.settled = settled
        self._tape = Tape(settled)
        self._segment: Segment | None = None
        self._due = PendingFinals(segments)
        self._onset = Onset()
        """Of the next segment, while there is none."""
        self._floor = settled
        """Where the next segment may begin at the earliest."""
        self._busy: tuple[Segment, int] | ClosedSegment | None = None
        """What the task with the model is about; of a segment that is being spoken, with its `last_speech`."""
        self._markers: deque[tuple[int, str | int]] = deque()
        self._stopping = False
        self.is_done = False
        self._output: list[Output] = []

    # What comes in

    def hear(self, samples: Samples, probabilities: Sequence[float]) -> None:
        """Whole frames of audio, with the probability of speech of each."""
        self._tape.append(samples)
        for probability in probabilities:
            self.position += FRAME
            if self._segment is None:
                self._listen(probability)
            else:
                self._follow(self._segment, probability)
        if self._segment is None and not self._due:
            self._settle_silence(SILENT_SETTLE)
        self._echo()

    def mark(self, name: str | int) -> None:
        self._markers.append((self.position, name))
        self._echo()

    def flush(self) -> None:
        """Everything heard so far becomes final."""
        if self._segment is not None:
            self._close(self._segment, self.position)
        elif not self._due:
            self._settle_silence(0)
        self._echo()

    def commit(self) -> None:
        """All that is not of a turn yet becomes one, speech or not."""
        if self._segment is None and self.uncommitted:
            start = self.position - self.uncommitted
            self._begin(start, start, last_speech=start)
        self.flush()

    def clear(self) -> None:
        """Forgets all that is not of a finished turn. What was cut from it and is final already stays."""
        segment, self._segment = self._segment, None
        if segment is not None:
            self._forget(segment)
        self._onset.forget()
        self._floor = self.position
        if not self._due:
            self._settle(self.position)
        self._echo()

    def ask(self, asked: SessionOptions) -> None:
        """From now on."""
        if asked.language != self.asked.language:
            self.language = asked.language
        if asked.endpointing_s is None and self.asked.endpointing_s is not None:
            self._floor = self.position
        self.asked = asked

    def stop(self) -> None:
        """Nothing more will be heard."""
        self.flush()
        self._stopping = True
        self._end()

    # The model

    def wants(self, step_s: float) -> int | None:
        """How urgent its next task is: 0 a final, 1 a partial, 2 a guess at a final; None: it has none."""
        if self._busy is not None:
            return None
        if self._due:
            return 0
        if (segment := self._segment) is None:
            return None
        if self._may_guess(segment):
            return 2
        is_due = self.position - segment.decoded >= step_s * SAMPLE_RATE
        return 1 if self.asked.interim_results and is_due and segment.last_speech > segment.decoded else None

    def take(self) -> TranscriptionTask:
        """The task that `wants` spoke of. Its answer is due by `heard` or `failed`."""
        if self._due:
            closed = self._due.first
            self._busy = closed
            return self._task(closed.start, closed.end, is_final=True)
        segment = self._segment
        assert segment is not None
        self._busy = (segment, segment.last_speech)
        if self._may_guess(segment):
            segment.guess = (segment.last_speech, None)
            return self._task(segment.start, segment.last_speech + TAIL, is_final=True)
        segment.decoded = self.position
        return self._task(segment.start, self.position, is_final=False)

    def heard(self, task: TranscriptionTask, answer: Transcription) -> None:
        """The answer to the task that was taken last."""
        busy, self._busy = self._busy, None
        if answer.text and (task.is_final or len(task.audio) >= LANGUAGE_SAMPLES):
            self.language = self.language or answer.language
        if isinstance(busy, ClosedSegment):
            self._finish(answer)
        elif busy is not None and task.is_final:
            self._guessed(*busy, answer)
        elif busy is not None and busy[0] is self._segment and answer.text:
            self._show(busy[0], answer)
        self._echo()

    def failed(self) -> None:
        """The model could not do the task that was taken last: once more, then the audio is a gap."""
        busy, self._busy = self._busy, None
        if isinstance(busy, ClosedSegment):
            busy.tries += 1
            if busy.tries > 1:
                self._give_up("failed")

    # What goes out

    def take_output(self) -> list[Output]:
        output, self._output = self._output, []
        return output

    @property
    def segments(self) -> int:
        """How many finals there were."""
        return self._due.told

    @property
    def is_open(self) -> bool:
        """A segment is being spoken."""
        return self._segment is not None

    @property
    def has_closed(self) -> bool:
        """Finals are due."""
        return bool(self._due)

    @property
    def is_speaking(self) -> bool:
        """Work is due, or will be. Without endpointing a segment is always open, and that says nothing."""
        segment = self._segment
        if segment is None or self._due:
            return bool(self._due)
        return not self._is_manual or segment.last_speech > segment.decoded

    @property
    def uncommitted(self) -> int:
        """Samples that are not of a finished turn."""
        start = self._segment.turn if self._segment is not None else max(self._floor, self._tape.first)
        return self.position - start

    @property
    def turns(self) -> list[Turn]:
        """Those that are not settled; the last may not be over."""
        turns = self._due.turns()
        return turns if self._segment is None else [*turns, Turn(self._segment.turn, None)]

    @property
    def behind_s(self) -> float:
        """Seconds since the audio that no hypothesis is about, or since the end of a segment that has no final."""
        if self._due:
            return seconds(self.position - self._due.first.end)
        return seconds(self.position - self._segment.decoded) if self._segment is not None else 0.0

    # Segments

    @property
    def _is_manual(self) -> bool:
        return self.asked.endpointing_s is None

    def _listen(self, probability: float) -> None:
        if self._is_manual:
            start = max(self._floor, self._tape.first)
            self._begin(start, start, last_speech=self.position if is_speech(probability, self.asked) else start)
        elif since := self._onset.hear(probability, self.asked):
            began = self.position - since
            start = max(self._floor, began - prefix(self.asked), self._tape.first)
            self._begin(start, began, last_speech=self.position)

    def _begin(self, start: int, began: int, *, last_speech: int) -> None:
        self._segment = Segment(self._due.next_number, start, last_speech)
        self._segment.decoded = began  # a hypothesis about what came before the speech is a bad one
        self._segment.probabilities = [0.0] * ((self.position - start) // FRAME)
        self._onset.forget()
        self._tell(SpeechStarted(at=seconds(began), turn=self._told(start)))

    def _told(self, turn: int) -> int | None:
        return turn if self.asked.turns else None

    def _follow(self, segment: Segment, probability: float) -> None:
        segment.probabilities.append(probability)
        if is_speech(probability, self.asked):
            segment.last_speech = self.position
        if (end := end_of(segment, self.position, self.asked)) is not None:
            self._close(segment, end)
        elif (cut := cut_of(segment, self.position)) is not None:
            self._cut(segment, cut)

    def _close(self, segment: Segment, end: int) -> None:
        self._segment = None
        self._floor = end
        turn = self._told(segment.turn)
        at = seconds(min(segment.last_speech, end))
        self._tell(SpeechStopped(at=at, turn=turn, end=None if turn is None else seconds(end)))
        self._due.append(ClosedSegment(segment, end))
        if (answer := segment.guessed) is not None and len(self._due) == 1:
            self._finish(answer)
        self._bound()

    def _cut(self, segment: Segment, end: int) -> None:
        """In two; the rest goes on as a segment of its own."""
        if segment.last_speech <= end and not self._is_manual:  # what follows is the silence that was waited for
            self._close(segment, end)
            return
        self._due.append(ClosedSegment(segment, end, is_last=False))
        self._segment = segment.rest(end)
        self._bound()

    # Answers

    def _task(self, start: int, end: int, *, is_final: bool) -> TranscriptionTask:
        return TranscriptionTask(
            audio=self._tape.read(start, end),
            language=self.language,
            prompt=self.asked.prompt,
            is_final=is_final,
            words=is_final and self.asked.words,
        )

    def _forget(self, segment: Segment) -> None:
        """A turn that is not over, with what was cut from it; a number that was seen is not used again."""
        gone = self._due.forget(segment)
        busy = self._busy[0] if isinstance(self._busy, tuple) else self._busy
        if busy is not None and (busy is segment or busy in gone):
            self._busy = (Segment(-1, 0, 0), 0)  # its answer is about nothing

    def _may_guess(self, segment: Segment) -> bool:
        """Not without endpointing: a guess leaves out what follows the speech."""
        return not (self._is_manual or segment.is_guessed) and self.position - segment.last_speech >= TAIL

    def _guessed(self, segment: Segment, last_speech: int, answer: Transcription) -> None:
        if segment is self._segment:
            if segment.is_guessed and segment.last_speech == last_speech:
                segment.guess = (last_speech, answer)
                segment.decoded = self.position
        elif self._due and self._due.first.number == segment.number and segment.last_speech == last_speech:
            self._finish(answer)

    def _show(self, segment: Segment, answer: Transcription) -> None:
        segment.agreement.hear(answer.text.split())
        segment.shown = True
        self._tell(segment.partial(self._told(segment.turn)))

    def _finish(self, answer: Transcription) -> None:
        """The final of the oldest closed segment. One that nobody saw and that says nothing is none."""
        closed, is_told = self._due.pop(self._segment, has_text=bool(answer.text))
        if is_told:
            self._tell(closed.final(answer, self._told(closed.turn), words=self.asked.words))
        self._over(closed)

    def _over(self, closed: ClosedSegment) -> None:
        if closed.is_last and self.asked.turns:
            self._tell(TurnOver(closed.turn))
        self._settle(closed.end)
        self._end()

    def _give_up(self, reason: str) -> None:
        closed, _ = self._due.pop(self._segment, has_text=False)
        self._tell(closed.gap(self._told(closed.turn), reason))
        self._over(closed)

    def _bound(self) -> None:
        while len(self._due) > 1 and self.position - self._due.first.start > MAX_WAITING:
            self._give_up("overload")

    # What is settled

    def _settle(self, position: int) -> None:
        self.settled = position
        self._floor = max(self._floor, position)
        self._tape.drop(position)
        self._tell(Settled(position))

    def _settle_silence(self, every: int) -> None:
        """With no speech anywhere, all but the last moment is settled; said now and then."""
        end = self.position if self._stopping or every == 0 else self.position - PREFIX - ONSET_FRAMES * FRAME
        self._tape.drop(end)
        if end - self.settled >= max(every, 1):
            self._settle(end)

    def _echo(self) -> None:
        """Markers whose audio was heard: it is settled, silent, or a hypothesis is about it."""
        until = self._understood()
        while self._markers and self._markers[0][0] <= until:
            self._tell(Marker(id=self._markers.popleft()[1]))

    def _understood(self) -> int:
        if self._due:
            return self._due.first.start
        return self._segment.decoded if self._segment is not None else self.position

    def _end(self) -> None:
        if self._stopping and not self._due and not self.is_done:
            self.is_done = True
            self._echo()
            self._tell(Done(duration=seconds(self.position), segments=self.segments))

    def _tell(self, output: Output) -> None:
        self._output.append(output)
