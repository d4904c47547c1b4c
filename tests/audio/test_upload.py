"""Every word of a file is transcribed once, in bounded memory, after live speakers, and only while somebody waits."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from typing import Any, BinaryIO

import numpy as np
import psutil
import pytest
import soundfile
from av.stream import Disposition

from audio.messages import Final
from audio.model.desk import BACKGROUND, NARROWEST_S, SPOKEN_S, Desk
from audio.model.fake import FakeSpeechDetector, FakeTranscriber, speech_of
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription, TranscriptionTask
from audio.upload import AHEAD, RECEIVED_FOR_ONE, FileTranscription, Progress, Uploads, file_options, transcription_of
from gateway.errors import BadRequest, Overloaded, TrilaneError
from tests.audio.decoders.test_files import file_with
from tests.audio.decoders.test_tracks import Sung, film_of
from tests.support.virtual_time import simulated

DEADLINE_S = 20.0
TASK = TranscriptionTask(audio=np.zeros(1600, np.float32))


@contextmanager
def wav_file(samples: Samples) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
        file.flush()
        yield file  # type: ignore[misc]


def models(model: FakeTranscriber) -> Models:
    return Models(model, Desk(model), FakeSpeechDetector())


def in_real_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs a test in real time, since a file is read on a thread."""

    def run() -> None:
        async def in_time() -> None:
            async with asyncio.timeout(DEADLINE_S):
                await test()

        asyncio.run(in_time())

    return run


async def transcript(here: Models, file: BinaryIO, **options: Any) -> tuple[list[Final], FileTranscription]:
    async with (
        transcription_of(here, file, "a.wav", file_options(**options)) as one,
        aclosing(one.results()) as results,
    ):
        return [result async for result in results if isinstance(result, Final)], one


def talk(words: int, pause_s: float = 0.3) -> tuple[Samples, str]:
    """Returns words of half a second each, every twelfth ending a paragraph, and their text."""
    numbers = [1 + at % 900 for at in range(words)]
    samples = speech_of([(number, 0.5, 3.0 if at % 12 == 11 else pause_s) for at, number in enumerate(numbers)])
    return samples, " ".join(f"w{number}" for number in numbers)


@in_real_time
async def test_every_word_of_a_long_file_is_heard_once_and_in_order() -> None:
    samples, expected = talk(1500)
    with wav_file(samples) as file:
        finals, one = await transcript(models(FakeTranscriber(workers=2)), file)
    assert " ".join(final.text for final in finals) == expected
    assert one.duration_s == pytest.approx(len(samples) / SAMPLE_RATE)


@in_real_time
async def test_words_have_the_times_of_the_file() -> None:
    samples, _ = talk(30)
    with wav_file(samples) as file:
        finals, _ = await transcript(models(FakeTranscriber()), file, words=True)
    words = [word for final in finals for word in final.words or []]
    assert [words[at].start for at in (0, 11, 12, 29)] == pytest.approx([0, 8.8, 12.3, 28.6], abs=0.04)


@in_real_time
async def test_a_track_without_speech_gives_way_to_the_next() -> None:
    silence, (samples, expected) = np.zeros(3 * SAMPLE_RATE, np.float32), talk(5)
    tracks = [Sung(samples), Sung(silence, Disposition.default), Sung(samples[:SAMPLE_RATE])]
    with file_with(film_of(tracks)) as file:
        finals, one = await transcript(models(FakeTranscriber()), file, words=True)
    assert " ".join(final.text for final in finals) == expected
    assert finals[0].words is not None
    assert finals[0].words[0].start == pytest.approx(0, abs=0.04), "the silence before it is on another track"
    assert one.duration_s == pytest.approx(len(samples) / SAMPLE_RATE, abs=0.1)
    assert one.warnings == ["track 2: no speech in it", "track 3 was left out: track 1 was heard"]


@in_real_time
async def test_a_film_without_speech_on_any_track_ends() -> None:
    with file_with(film_of([Sung(np.zeros(SAMPLE_RATE, np.float32))] * 3)) as file:
        finals, one = await transcript(models(FakeTranscriber()), file)
    assert (finals, one.warnings) == ([], ["track 1, track 2: no speech in it"])


@in_real_time
async def test_no_more_is_decoded_than_may_wait_for_the_model() -> None:
    model = FakeTranscriber(holds=True)
    with wav_file(talk(600)[0]) as file:
        async with (
            transcription_of(models(model), file, "a.wav", file_options()) as one,
            aclosing(one.results()) as results,
        ):
            most = 0
            async for _ in results:
                most = max(most, one.sessions[0].position - one.sessions[0].settled)
                model.release()
                if one.sessions[0].position > 240 * SAMPLE_RATE:
                    break
    assert most <= AHEAD + 20 * SAMPLE_RATE


@in_real_time
async def test_silence_does_not_come_to_the_model() -> None:
    model = FakeTranscriber()
    with wav_file(np.zeros(120 * SAMPLE_RATE, np.float32)) as file:
        finals, one = await transcript(models(model), file)
    assert (finals, model.calls, one.duration_s) == ([], [], 120)


@in_real_time
async def test_progress_goes_from_nothing_to_the_end_and_never_back() -> None:
    samples, _ = talk(120)
    with wav_file(samples) as file:
        async with (
            transcription_of(models(FakeTranscriber()), file, "a", file_options()) as one,
            aclosing(one.results()) as results,
        ):
            reports = [result async for result in results if isinstance(result, Progress)]
    positions_s = [progress.settled_s for progress in reports]
    assert positions_s == sorted(positions_s)
    assert (positions_s[0], positions_s[-1]) == (0, pytest.approx(len(samples) / SAMPLE_RATE, abs=3))
    assert str(reports[-1]).endswith(f" of {len(samples) / SAMPLE_RATE:.1f} s")


@in_real_time
async def test_a_model_that_fails_once_is_asked_again() -> None:
    samples, expected = talk(30)
    model = FakeTranscriber()
    model.failing = 1
    with wav_file(samples) as file:
        finals, _ = await transcript(models(model), file)
    assert " ".join(final.text for final in finals) == expected


@in_real_time
async def test_a_model_that_fails_twice_is_an_error_and_no_hole_in_the_text() -> None:
    model = FakeTranscriber()
    model.failing = 2
    with (
        wav_file(talk(30)[0]) as file,
        pytest.raises(TrilaneError, match="the model failed on the audio from 0") as error,
    ):
        await transcript(models(model), file)
    assert error.value.retryable


@in_real_time
async def test_no_audio_is_refused_before_anything_else() -> None:
    with tempfile.TemporaryFile() as file, pytest.raises(BadRequest, match=r"a\.wav is empty"):
        await transcript(models(FakeTranscriber()), file)  # type: ignore[arg-type]


@in_real_time
async def test_an_abandoned_transcription_leaves_nothing_behind() -> None:
    model = FakeTranscriber(holds=True)
    here = models(model)
    with wav_file(talk(600)[0]) as file:
        before = psutil.Process().num_fds()
        first_call = asyncio.Event()

        async def work() -> None:
            async with transcription_of(here, file, "a.wav", file_options()) as one, aclosing(one.results()) as results:
                async for _ in results:
                    if model.calls:
                        first_call.set()

        task = asyncio.get_running_loop().create_task(work())
        await first_call.wait()
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        assert psutil.Process().num_fds() == before
        calls = len(model.calls)
        for _ in range(20):
            model.release()
            await asyncio.sleep(0)
        assert len(model.calls) == calls


@in_real_time
async def test_two_files_at_once_are_two_transcripts() -> None:
    here = models(FakeTranscriber(workers=2))
    (first, first_text), (second, second_text) = talk(100), talk(60, 0.1)
    with wav_file(first) as one, wav_file(second) as other:
        transcripts = await asyncio.gather(transcript(here, one), transcript(here, other))
    assert [" ".join(final.text for final in finals) for finals, _ in transcripts] == [first_text, second_text]


# How many


@simulated
async def test_past_the_limit_a_file_is_refused_and_a_place_is_given_back() -> None:
    uploads = Uploads(1)
    with uploads.admitted():
        async with uploads.turn():
            with pytest.raises(Overloaded, match="1 files are being transcribed"), uploads.admitted():
                pass
        with uploads.admitted():
            pass


@simulated
async def test_files_that_are_on_their_way_keep_nobody_from_being_transcribed() -> None:
    uploads, order = Uploads(1), list[int]()

    async def transcribe(number: int) -> None:
        async with uploads.turn():
            order.append(number)
            await asyncio.sleep(1)

    with ExitStack() as trickling:
        for _ in range(RECEIVED_FOR_ONE - 1):
            trickling.enter_context(uploads.admitted())
        with uploads.admitted():
            with pytest.raises(Overloaded, match="4 files are on their way already"), uploads.admitted():
                pass
            async with asyncio.timeout(2.5):
                await asyncio.gather(transcribe(1), transcribe(2))
    assert order == [1, 2], "one after the other"


@simulated
async def test_a_drain_waits_for_admitted_files_and_admits_no_more() -> None:
    uploads = Uploads(2)
    with uploads.admitted():
        draining = asyncio.get_running_loop().create_task(uploads.drain())
        await asyncio.sleep(1)
        assert not draining.done()
        with pytest.raises(Overloaded) as error, uploads.admitted():
            pass
        assert error.value.code == "draining"
    await draining


# Behind whoever speaks


class Client:
    """Has tasks of one urgency, as many as a test gives it."""

    def __init__(self, level: int, tasks: int = 1000) -> None:
        self.level = level
        self.tasks = tasks
        self.task_count = 0
        self.is_busy = False

    def urgency(self, step_s: float) -> int | None:
        return self.level if self.tasks and not self.is_busy else None

    def take_task(self) -> TranscriptionTask:
        self.tasks -= 1
        self.task_count += 1
        self.is_busy = True
        return TASK

    def complete(self, task: TranscriptionTask, answer: Transcription) -> None:
        self.is_busy = False

    def fail(self) -> None:
        self.is_busy = False


def together(workers: int, *clients: Client) -> tuple[Desk, FakeTranscriber]:
    model = FakeTranscriber(workers=workers, holds=True)
    desk = Desk(model, asyncio.get_running_loop().time)
    for client in clients:
        desk.enqueue(client)
    return desk, model


@simulated
async def test_while_nobody_speaks_files_have_every_worker() -> None:
    files = [Client(BACKGROUND) for _ in range(3)]
    together(2, *files)
    assert sum(file.is_busy for file in files) == 2


@simulated
async def test_while_people_speak_a_worker_is_kept_free_of_files() -> None:
    speaker, files = Client(1, tasks=1), [Client(BACKGROUND) for _ in range(3)]
    desk, model = together(2, speaker, *files)
    for _ in range(5):
        model.release()
        await asyncio.sleep(0)
    assert sum(file.is_busy for file in files) == 1
    speaker.tasks = 1
    desk.enqueue(speaker)
    assert speaker.is_busy
    await asyncio.sleep(SPOKEN_S + 1)
    for _ in range(2):
        model.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert sum(file.is_busy for file in files) == 2


@simulated
async def test_files_come_after_guesses_and_are_not_forgotten() -> None:
    first, guess, partial, file = Client(0, 1), Client(2, 2), Client(1, 2), Client(BACKGROUND, 2)
    _, model = together(1, first, file, guess, partial)
    for count in (0, 0, 0, 0, 0, 1, 2):
        assert file.task_count == count
        model.release()
        for _ in range(3):
            await asyncio.sleep(0)
    assert (partial.task_count, guess.task_count, file.task_count) == (2, 2, 2)


@simulated
async def test_the_time_of_files_is_no_load_that_makes_partials_rarer() -> None:
    file, speaker = Client(BACKGROUND), Client(1, tasks=0)
    desk, model = together(1, file)
    for _ in range(50):
        await asyncio.sleep(0.2)
        model.release()
        desk.enqueue(speaker)
    assert file.task_count > 40
    assert (desk.busy, desk.step_s) == (0.0, NARROWEST_S)
