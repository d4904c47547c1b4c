"""The state machine of one listening session. Pure: audio, answers and the time go in; messages and tasks come out.

Audio becomes segments where `policy` says so. While a segment is spoken, hypotheses for all of it are shown as
partials; once it is over it is decoded again, at the best quality, and that is its final. A session has one task with
the model at a time, and decides which when the model is free, so stale work is never begun. Positions are samples at
16 kHz since the session began, and segments begin and end between frames, so every process cuts the same frames.
"""

from collections.abc import Sequence

from audio.coverage import trimmed
from audio.messages import Done, Marker, SpeechStarted, SpeechStopped
from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription, TranscriptionTask
from audio.model.vad import FRAME
from audio.options import MAX_WAITING, ONSET, SILENT_SETTLE, TAIL, Output, SessionOptions, Settled
from audio.pending_finals import PendingFinals
from audio.policy import Onset, cut_of, end_of, is_speech, needed_from, prefix, speech_of
from audio.segment import ClosedSegment, Segment, Turn, seconds
from audio.tape import Tape


class Session:
    """Takes audio (`feed`), hands out tasks (`urgency`, `take_task`, `complete`), puts out messages (`take_output`)."""

    def __init__(
        self, options: SessionOptions, *, settled: int = 0, segments: int = 0, language: str | None = None
    ) -> None:
        """`settled`, `segments` and `language` say where another process left the session."""
        self.options = options
        self.language = options.language or language  # None: the model detects it, until the driver settles it
        self.position = settled
        """Number of samples fed so far."""
        self.settled = settled
        self._tape = Tape(settled)
        self._segment: Segment | None = None
        self._pending = PendingFinals(segments)
        self._onset = Onset()
        self._floor = settled
        """The first sample at which the next segment may begin."""
        self._subject: tuple[Segment, int] | ClosedSegment | None = None
        """The subject of the model's task; an open segment stands with the `last_speech` that the task covers."""
        self._is_stopping = False
        self.is_done = False
        self._output: list[Output] = []

    # What comes in

    def feed(self, samples: Samples, probabilities: Sequence[float]) -> None:
        """Takes whole frames of audio, with the probability of speech of each."""
        self._tape.append(samples)
        for probability in probabilities:
            self.position += FRAME
            if self._segment is None:
                self._await_speech(probability)
            else:
                self._follow(self._segment, probability)
        if self._segment is None and not self._pending:
            self._settle_silence(SILENT_SETTLE)
        self._return_markers()

    def mark(self, marker: str | int) -> None:
        """Has a marker put out once all audio before it is understood."""
        self._tape.mark(self.position, marker)
        self._return_markers()

    def flush(self) -> None:
        """Makes everything fed so far final."""
        if self._segment is not None:
            self._close(self._segment, self.position)
        elif not self._pending:
            self._settle_silence(0)
        self._return_markers()

    def commit(self) -> None:
        """Makes a turn of all that belongs to none yet, speech or not."""
        if self._segment is None and self.uncommitted:
            start = self.position - self.uncommitted
            self._begin(start, start, last_speech=start)
        self.flush()

    def clear(self) -> None:
        """Forgets all that belongs to no finished turn, except what was cut from it and is final already."""
        if self._segment is not None:
            self._forget(self._segment)
            self._segment = None
        self._onset.reset()
        self._floor = self.position
        if not self._pending:
            self._settle(self.position)
        self._return_markers()

    def reconfigure(self, options: SessionOptions) -> None:
        """Works with other options from now on."""
        if (options.language, options.model) != (self.options.language, self.options.model):
            self.language = options.language
        if options.endpointing_s is None and self.options.endpointing_s is not None:
            self._floor = self.position
        self.options = options

    def stop(self) -> None:
        """Makes everything final and then ends: no audio follows."""
        self.flush()
        self._is_stopping = True
        self._end()

    # The model

    def urgency(self, step_s: float) -> int | None:
        """Tells how urgent the next task is: 0 a final, 1 a partial, 2 a guess at a final, None when there is none."""
        if self._subject is not None:
            return None
        if self._pending:
            return 0
        if (segment := self._segment) is None:
            return None
        if self._may_guess(segment):
            return 2
        is_due = self.position - segment.decoded >= step_s * SAMPLE_RATE
        return 1 if self.options.interim_results and is_due and segment.last_speech > segment.decoded else None

    def take_task(self) -> TranscriptionTask:
        """Hands out the task that `urgency` was about; `complete` or `fail` must follow before the next one."""
        if self._pending:
            self._subject = closed = self._pending.first
            return self._task(*closed.to_decode, is_final=True)
        segment = self._segment
        assert segment is not None
        self._subject = (segment, segment.last_speech)
        if self._may_guess(segment):
            segment.guess = (segment.last_speech, None)
            return self._task(segment.start, segment.last_speech + TAIL, is_final=True)
        segment.decoded = self.position
        return self._task(segment.start, self.position, is_final=False)

    def complete(self, task: TranscriptionTask, answer: Transcription) -> None:
        """Takes the model's answer to the task that was handed out last."""
        subject, self._subject = self._subject, None
        if isinstance(subject, ClosedSegment):
            self._hear(subject, answer)
        elif subject is not None and task.is_final:
            self._use_guess(*subject, answer)
        elif subject is not None and subject[0] is self._segment and answer.text:
            self._show(subject[0], answer, is_cut=True)
        self._return_markers()

    def fail(self) -> None:
        """Notes that the model failed: a final is tried once more, then its audio is a gap."""
        subject, self._subject = self._subject, None
        if isinstance(subject, ClosedSegment):
            subject.tries += 1
            if subject.tries > 1:
                self._give_up("failed")

    # What goes out

    def take_output(self) -> list[Output]:
        """Returns what was put out since the last call."""
        output, self._output = self._output, []
        return output

    @property
    def segments(self) -> int:
        """Returns the number of finals that the session has had."""
        return self._pending.count

    @property
    def is_open(self) -> bool:
        """Tells whether a segment is being spoken."""
        return self._segment is not None

    @property
    def has_pending(self) -> bool:
        """Tells whether finals are due."""
        return bool(self._pending)

    @property
    def is_speaking(self) -> bool:
        """Tells whether there is work for the model, or will be. Without endpointing an open segment says nothing."""
        segment = self._segment
        if segment is None or self._pending:
            return bool(self._pending)
        return not self._is_manual or segment.last_speech > segment.decoded

    @property
    def uncommitted(self) -> int:
        """Returns the number of samples that belong to no finished turn."""
        return self.position - (self._segment.turn if self._segment else max(self._floor, self._tape.first))

    @property
    def turns(self) -> list[Turn]:
        """Returns the turns that are not settled; the last one may not be over."""
        turns = self._pending.turns()
        return turns if self._segment is None else [*turns, Turn(self._segment.turn, None)]

    @property
    def behind_s(self) -> float:
        """Returns the seconds of audio after the last hypothesis, or since the oldest segment without a final ended."""
        if self._pending:
            return seconds(self.position - self._pending.first.end)
        return seconds(self.position - self._segment.decoded) if self._segment is not None else 0.0

    # Segments

    @property
    def _is_manual(self) -> bool:
        return self.options.endpointing_s is None

    def _await_speech(self, probability: float) -> None:
        length = self._onset.feed(probability, self.options)
        if self._is_manual:
            start = max(self._floor, self._tape.first)
            self._begin(start, start, last_speech=self.position if is_speech(probability, self.options) else start)
        elif length:
            onset = max(self._floor, self.position - length)
            start = max(self._floor, onset - prefix(self.options), self._tape.first)
            self._begin(start, onset, last_speech=self.position)

    def _begin(self, start: int, onset: int, *, last_speech: int) -> None:
        self._segment = Segment(self._pending.next_number, start, last_speech)
        self._segment.decoded = max(onset, self.position - ONSET)  # a hypothesis about what came before is a bad one
        self._segment.probabilities = self._onset.recent((self.position - start) // FRAME)
        self._onset.reset()
        self._emit(SpeechStarted(at=seconds(onset), turn=self._turn(start)))

    def _turn(self, start: int) -> int | None:
        """Returns how a message names its turn."""
        return start if self.options.turns else None

    def _follow(self, segment: Segment, probability: float) -> None:
        segment.probabilities.append(probability)
        if is_speech(probability, self.options):
            segment.last_speech = self.position
        if (end := end_of(segment, self.position, self.options)) is not None:
            self._close(segment, end)
        elif (cut := cut_of(segment, self.position, self.options)) is not None:
            self._cut(segment, cut)

    def _close(self, segment: Segment, end: int) -> None:
        self._segment = None
        self._floor = end
        turn = self._turn(segment.turn)
        at = seconds(min(segment.last_speech, end))
        self._emit(SpeechStopped(at=at, turn=turn, end=None if turn is None else seconds(end)))
        self._pending.append(ClosedSegment(segment, end, *speech_of(segment, end, self.options)))
        if (answer := segment.early_answer) is not None and len(self._pending) == 1:
            self._hear(self._pending.first, answer)
        self._drop_overdue()

    def _cut(self, segment: Segment, end: int) -> None:
        """Closes the first part of a segment; the rest is a segment of its own."""
        if segment.last_speech <= end and not self._is_manual:  # what follows is the silence that was waited for
            self._close(segment, end)
            return
        self._pending.append(ClosedSegment(segment, end, *speech_of(segment, end, self.options), is_last=False))
        self._segment = segment.rest(end)
        self._drop_overdue()

    def _forget(self, segment: Segment) -> None:
        """Drops a turn that is not over, with what was cut from it."""
        dropped = self._pending.clear(segment)
        subject = self._subject[0] if isinstance(self._subject, tuple) else self._subject
        if subject is not None and (subject is segment or subject in dropped):
            self._subject = (Segment(-1, 0, 0), 0)  # the answer that is still to come is about nothing

    # Answers

    def _task(self, start: int, end: int, *, is_final: bool) -> TranscriptionTask:
        context = self._pending.earlier.before(start, end)
        return TranscriptionTask(
            audio=self._tape.read(context.start, end),
            known_samples=start - context.start,
            known_text=context.text,
            language=self.language,
            prompt=self.options.prompt,
            is_final=is_final,
            words=is_final or self.options.words,
        )

    def _may_guess(self, segment: Segment) -> bool:
        """Tells whether to guess a final: never without endpointing, for a guess leaves out what follows the speech."""
        return not (self._is_manual or segment.is_guessed) and self.position - segment.last_speech >= TAIL

    def _use_guess(self, segment: Segment, last_speech: int, answer: Transcription) -> None:
        if segment is self._segment:
            segment.take_guess(last_speech, answer, self.position)
            if answer.text and self.options.interim_results:
                self._show(segment, answer, is_cut=False)  # the only partial that a short utterance may have
        elif self._pending and self._pending.first.number == segment.number and segment.last_speech == last_speech:
            self._hear(self._pending.first, answer)

    def _show(self, segment: Segment, answer: Transcription, *, is_cut: bool) -> None:
        speech, _ = speech_of(segment, self.position, self.options)
        segment.show(answer, trimmed(answer.words, speech), is_cut=is_cut)
        self._emit(segment.partial(self._turn(segment.turn), words=self.options.words))

    def _hear(self, closed: ClosedSegment, answer: Transcription) -> None:
        """Takes an answer about a closed segment, which settles it unless some of it is to be decoded again."""
        if self._pending and self._pending.first is closed:  # otherwise it was given up meanwhile
            closed.hear(answer)
            if closed.hearing.again is None:
                self._settle_first()

    def _give_up(self, reason: str) -> None:
        self._pending.first.hearing.give_up(reason)
        self._settle_first()

    def _settle_first(self) -> None:
        closed, messages = self._pending.settle(self._segment, self.options)
        self._output += messages
        self._settle(closed.end)
        self._end()

    def _drop_overdue(self) -> None:
        while len(self._pending) > 1 and self.position - self._pending.first.start > MAX_WAITING:
            self._give_up("overload")

    # What is settled

    def _settle(self, position: int) -> None:
        self.settled = position
        self._floor = max(self._floor, position)
        self._tape.drop(position, self._pending.earlier.needed_from(position))
        self._emit(Settled(position))

    def _settle_silence(self, every: int) -> None:
        """Settles all but the last moment while nobody speaks, once `every` samples have come."""
        end = self.position if self._is_stopping or every == 0 else needed_from(self.position, self.options)
        self._tape.drop(end, self._pending.earlier.needed_from(end))
        if end - self.settled >= max(every, 1):
            self._settle(end)

    def _return_markers(self) -> None:
        """Puts out the markers whose audio is settled, silent or part of a hypothesis."""
        decoded = self._segment.decoded if self._segment is not None else self.position
        understood = self._pending.first.start if self._pending else decoded
        self._output += [Marker(id=marker) for marker in self._tape.take_markers(understood)]

    def _end(self) -> None:
        if self._is_stopping and not self._pending and not self.is_done:
            self.is_done = True
            self._settle_silence(0)
            self._return_markers()
            self._emit(Done(duration=seconds(self.position), segments=self.segments))

    def _emit(self, output: Output) -> None:
        self._output.append(output)
