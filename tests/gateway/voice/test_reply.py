"""A spoken answer: clauses in order, sound at the listener's pace, and no sample lost or twice."""

import numpy as np
import pytest

from audio.model.fake_voice import samples_of, tone_of
from audio.model.transcriber import Samples
from audio.model.voice import VOICE_RATE, SpeechTask
from audio.speech.pacing import AHEAD
from gateway.voice.reply import HURRY_S, STALLED_S, Frame, ReplyPlace, SpokenReply
from gateway.voice.reply_log import LEFT_S, ReplyRecord

TEXT = "The first sentence is here. The second one follows it. And a third one ends it all."
CLAUSES = ["The first sentence is here.", "The second one follows it.", "And a third one ends it all."]


def said(text: str) -> Samples:
    return tone_of(SpeechTask(text=text))


WHOLE = np.concatenate([said(text) for text in CLAUSES])


class Ear:
    """Plays a reply in a clock of its own, and keeps what it got."""

    def __init__(self, reply: SpokenReply) -> None:
        self.reply = reply
        self.now = 0.0
        self.frames: list[Frame] = []

    def step(self, until: float = 999.0) -> bool:
        """Does what is due now; returns whether there is more to come by itself before a time."""
        reply = self.reply
        while (line := reply.next_line(self.now)) is not None:
            reply.make(said(line.text), self.now)
            reply.speak()
        while (frame := reply.frame(self.now)) is not None:
            self.frames.append(frame)
        wait_s = reply.wait_s(self.now)
        if wait_s is None or reply.is_spoken(self.now):
            return False
        self.now = min(self.now + max(wait_s, 0.001), until)
        return self.now < until

    def play(self, until: float = 999.0) -> "Ear":
        while self.step(until):
            pass
        return self

    @property
    def sound(self) -> Samples:
        """Returns the sound as a player puts it together: each frame at its place."""
        end = max((frame.at + len(frame.sound) for frame in self.frames), default=0)
        sound = np.full(end, np.nan, np.float32)
        for frame in self.frames:
            sound[frame.at : frame.at + len(frame.sound)] = frame.sound
        return sound


def can_say(text: str) -> bool:
    return "中" not in text


def written(text: str = TEXT, place: ReplyPlace | None = None) -> SpokenReply:
    reply = SpokenReply(can_say, place) if place is not None else SpokenReply(can_say)
    reply.write(text, 0.0)
    reply.end_text()
    return reply


def test_all_of_an_answer_is_spoken_in_order_and_no_more_than_the_pace_ahead() -> None:
    ear = Ear(written())
    ear.step()
    assert ear.frames[-1].at + len(ear.frames[-1].sound) <= AHEAD
    ear.play()
    assert np.array_equal(ear.sound, WHOLE)
    assert sum(len(frame.sound) for frame in ear.frames) == len(WHOLE), "nothing twice"
    assert ear.now == pytest.approx(len(WHOLE) / VOICE_RATE, abs=0.2)
    assert ear.reply.is_spoken(ear.now)
    assert ear.reply.heard(ear.now) == (len(WHOLE), len(TEXT))


def test_a_frame_belongs_to_one_clause() -> None:
    ear = Ear(written()).play()
    begins = [0, samples_of(CLAUSES[0]), samples_of(CLAUSES[0]) + samples_of(CLAUSES[1])]
    for frame in ear.frames:
        begin = begins[frame.clause - 1]
        assert begin <= frame.at
        assert frame.at + len(frame.sound) <= begin + samples_of(CLAUSES[frame.clause - 1])


@pytest.mark.parametrize("at_s", [0.0, 0.7, 1.9, 3.0, 4.4])
def test_an_answer_that_was_paused_goes_on_at_the_sample_that_was_heard(at_s: float) -> None:
    ear = Ear(written()).play(at_s)
    place = ear.reply.pause(ear.now)
    assert not ear.step(), "nothing is sent in a pause"
    ear.now += 5.0
    before = len(ear.frames)
    assert ear.reply.resume(ear.now) == place
    ear.play()
    assert ear.frames[before].at == place
    assert np.array_equal(ear.sound, WHOLE)


def test_a_report_in_a_pause_says_where_it_goes_on_even_before_the_guess() -> None:
    ear = Ear(written())
    ear.step()
    ear.reply.report(2400, 0.1)
    guess = ear.reply.pause(0.5)
    ear.reply.report(guess - 700, 0.6)
    assert ear.reply.resume(3.0) == guess - 700
    with pytest.raises(ValueError, match="cannot have been played"):
        ear.reply.report(len(WHOLE), 3.0)


def test_a_late_report_of_what_was_sent_before_a_pause_is_no_error() -> None:
    ear = Ear(written())
    ear.step()
    sent = ear.reply.pace.sent
    ear.reply.pause(0.2)
    ear.reply.resume(0.3)
    ear.reply.report(sent, 0.4)


def test_a_client_that_stops_reporting_counts_as_having_heard_all() -> None:
    ear = Ear(written("Short but long enough."))
    ear.step()
    ear.reply.report(100, 0.1)
    ear.play()
    assert ear.reply.is_spoken(ear.now)
    assert ear.now >= STALLED_S


def test_the_first_clause_is_hurried_and_no_other() -> None:
    reply = SpokenReply(can_say)
    text = "the quick brown fox jumps over the lazy dog and then it goes on and on without"
    reply.write(text, 1.0)
    assert reply.next_line(1.0 + HURRY_S - 0.01) is None
    assert reply.wait_s(1.0) == pytest.approx(HURRY_S)
    line = reply.next_line(1.0 + HURRY_S)
    assert line is not None
    assert text.startswith(line.text)


def test_what_the_voice_cannot_say_is_skipped_and_told() -> None:
    reply = written("This much can be said. 中中中中中中中中中中中中中中中中中中中中。 And this can be said.")
    ear = Ear(reply).play()
    assert [piece.reason for piece in reply.take_skipped()] == ["unspeakable"]
    assert [frame.clause for frame in ear.frames][-1] == 2


def test_an_answer_of_two_texts_has_no_clause_of_both() -> None:
    reply = SpokenReply(can_say)
    reply.write("Let me look that up", 0.0)
    reply.end_part()
    reply.write("It is raining there.", 0.0)
    reply.end_text()
    Ear(reply).play()
    assert [(clause.start, clause.end) for clause in reply.clauses] == [(0, 19), (19, 39)]
    assert [clause.written for clause in reply.clauses] == ["Let me look that up", "It is raining there."]


@pytest.mark.parametrize("at_s", [0.0, 0.4, 1.61, 2.5, 3.17, 4.6])
@pytest.mark.parametrize("engine", ["same", "other"])
def test_another_process_goes_on_at_the_same_sample_or_says_the_clause_again(at_s: float, engine: str) -> None:
    ear = Ear(written()).play(at_s)
    played, _ = ear.reply.heard(ear.now)
    record = ReplyRecord.of(ear.reply, "r1", "same", ear.now, 1000)
    place, is_restated = record.place(played, engine)
    there = Ear(written(place=place)).play()
    starts = [clause.at for clause in record.clauses if clause.at <= played]
    assert there.frames[0].at == (max(starts, default=0) if is_restated else played)
    assert is_restated == (engine == "other" and played not in (0, *starts) and bool(record.clauses))
    assert np.array_equal(there.sound[there.frames[0].at :], WHOLE[there.frames[0].at :])
    assert there.reply.heard(there.now) == (len(WHOLE), len(TEXT))


def test_a_reply_is_left_after_a_minute() -> None:
    record = ReplyRecord(run="r", state="paused", at_ms=5000)
    assert not record.is_left(5000 + round(LEFT_S * 1000))
    assert record.is_left(5001 + round(LEFT_S * 1000))


def test_an_answer_is_read_on_from_any_character() -> None:
    start = TEXT.index("And")
    ear = Ear(written(place=ReplyPlace(next_char=start, chars=start))).play()
    assert np.array_equal(ear.sound, said(CLAUSES[2]))


def test_an_end_is_the_last_word() -> None:
    reply = written()
    reply.end("interrupted", "barge-in")
    reply.end("spoken")
    assert (reply.state, reply.reason, reply.is_alive) == ("interrupted", "barge-in", False)
    assert reply.next_line(0.0) is None
