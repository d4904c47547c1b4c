"""Several models share one desk; each is loaded once, when somebody asks for it."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from audio.model.desk import Desk
from audio.model.fake import FakeSpeechDetector, FakeTranscriber
from audio.model.models import Models
from audio.model.shelf import Shelf, asked_model
from audio.model.transcriber import TranscriptionTask
from gateway.errors import BadRequest, ConfigurationError, TrilaneError
from tests.support.virtual_time import simulated


class Counted(FakeTranscriber):
    """Counts how often it is opened."""

    opened = 0
    is_closed = False

    async def open(self) -> None:
        await asyncio.sleep(1)
        self.opened += 1

    async def close(self) -> None:
        self.is_closed = True


class Broken(FakeTranscriber):
    async def open(self) -> None:
        raise ConfigurationError("/secret/folder cannot be loaded")


ENGLISH, MANY = "english", "many"


def shelf_of(**others: Callable[[], FakeTranscriber]) -> tuple[Shelf, Counted, Counted]:
    english, many = Counted(), Counted(languages=("en", "de"), batch=4)
    return Shelf({ENGLISH: lambda: english, MANY: lambda: many, **others}), english, many


def task(model: str, level: float) -> TranscriptionTask:
    return TranscriptionTask(audio=np.full(1600, level, np.float32), model=model)


@simulated
async def test_a_model_is_loaded_once_when_it_is_asked_for_first() -> None:
    shelf, english, many = shelf_of()
    await shelf.open()
    assert (english.opened, many.opened) == (1, 0)
    loaded = await asyncio.gather(*(shelf.load(MANY) for _ in range(5)), shelf.load(""))
    assert loaded == [many] * 5 + [english]
    assert (english.opened, many.opened) == (1, 1)
    await shelf.close()
    assert english.is_closed
    assert many.is_closed


@simulated
async def test_each_task_goes_to_the_model_that_it_names_in_order() -> None:
    shelf, english, many = shelf_of()
    await shelf.open()
    await shelf.load(MANY)
    answers = await shelf.transcribe([task("", 0.001), task(MANY, 0.002), task(ENGLISH, 0.003), task(MANY, 0.004)])
    assert [answer.text for answer in answers] == ["w1", "w2", "w3", "w4"]
    assert [len(call) for call in (*english.calls, *many.calls)] == [2, 2]
    assert (await shelf.transcribe([task(MANY, 0.005)]))[0].text == "w5"
    assert (shelf.workers, shelf.batch) == (english.workers, english.batch)


@simulated
async def test_a_name_that_no_model_has_is_refused_with_those_there_are() -> None:
    shelf, _, _ = shelf_of()
    with pytest.raises(BadRequest, match="no speech model 'large' here; there are english, many") as error:
        await shelf.load("large")
    assert (error.value.code, error.value.extra["param"]) == ("model_not_found", "model")


@simulated
async def test_a_model_that_cannot_be_loaded_says_so_without_naming_folders() -> None:
    shelf, _, _ = shelf_of(broken=Broken)
    with pytest.raises(TrilaneError, match="the speech model broken cannot be loaded") as error:
        await shelf.load("broken")
    assert (error.value.code, type(error.value)) == ("model_failed", TrilaneError)


@simulated
async def test_a_session_asks_for_its_model_and_a_translation_for_one_that_can() -> None:
    shelf, english, many = shelf_of()
    await shelf.open()
    models = Models(english, Desk(shelf), FakeSpeechDetector(), name=ENGLISH, shelf=shelf)
    other = await models.of(MANY)
    assert (other.transcriber, other.name, other.asked_name, other.desk) == (many, MANY, MANY, models.desk)
    assert (await models.of("")).asked_name == ""
    assert (await models.translator()).name == MANY
    with pytest.raises(BadRequest, match="no translation by english, which hears English only"):
        await models.translator(ENGLISH)
    other.check_language("de")
    with pytest.raises(BadRequest, match=r"'de': the model english .* hears English only, or another model: many"):
        models.check_language("de")


@simulated
async def test_one_model_alone_is_the_only_one() -> None:
    model = FakeTranscriber()
    models = Models(model, Desk(model), FakeSpeechDetector(), name="fake")
    assert await models.of("") == await models.of("fake") == models
    with pytest.raises(BadRequest, match="there are fake"):
        await models.of("other")
    with pytest.raises(BadRequest, match="no translation by fake"):
        await models.translator()


@pytest.mark.parametrize("name", ["", "whisper-1", "gpt-4o-transcribe", "gpt-realtime-whisper"])
def test_openais_own_names_mean_the_default(name: str) -> None:
    assert asked_model(name) == ""
    assert asked_model("whisper-base") == "whisper-base"
