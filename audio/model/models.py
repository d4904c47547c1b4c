"""The models of a process: how they are made from the settings, and how many speakers the machine can carry.

The number of speakers is measured when the model is loaded. Someone who speaks without a pause costs a partial every
second, under load, and a final for every few: the final of a sentence of SENTENCE_S costs about as much as two
partials. The measurement uses a partial of noise, because that needs no speech to be shipped; real speech, which has
words to decode, takes SPEECH times as long (tiny.en: 1.6).
"""

import asyncio
import time
from functools import partial
from typing import NamedTuple

import numpy as np

from audio.model.desk import Desk
from audio.model.shelf import Shelf
from audio.model.transcriber import SAMPLE_RATE, Transcriber, TranscriptionTask
from audio.model.vad import Silero, SpeechDetector
from audio.model.weights import INSTALL_LANGUAGES, whisper_models
from gateway.core.cpus import cpu_share
from gateway.errors import BadRequest
from gateway.settings import Settings

GPU_BATCH = 16
"""Sessions whose audio goes through the model in one call on CUDA; on CPU one call for each core is faster."""
SPEECH = 1.6
SENTENCE_S = 5.0
DUTY = 0.85
"""The share of the time in which somebody who reads aloud speaks; the rest is pauses for breath."""
TRIES = 5


class Models(NamedTuple):
    """The speech model of a session or a file, with the queue before it, and the speech detector."""

    transcriber: Transcriber
    desk: Desk
    detector: SpeechDetector
    voices: int = 1_000_000
    """Maximum number of people who may speak at once, measured with the default model."""
    name: str = ""
    """The transcriber's model, as clients, usage rows and prices name it."""
    shelf: Shelf | None = None
    """All models of the process; None where there is but this one."""

    @property
    def names(self) -> list[str]:
        """Returns the names of all models, the default's first."""
        return self.shelf.names if self.shelf is not None else [self.name]

    async def of(self, name: str) -> "Models":
        """Returns the same with another model, the default for an empty name; it is loaded when it is asked for first.

        Raises BadRequest (`model_not_found`), and TrilaneError (`model_failed`) when it cannot be loaded.
        """
        if self.shelf is None:
            Shelf({self.name: lambda: self.transcriber}).check(name)
            return self
        transcriber = await self.shelf.load(name)
        return self._replace(transcriber=transcriber, name=name or self.shelf.default)

    async def translator(self, name: str = "") -> "Models":
        """Returns the same with a model that translates: the one of this name, or the first that can.

        Raises BadRequest (`cannot_translate`), and what `of` does.
        """
        for one in [name] if name else self.names:
            models = await self.of(one)
            if models.transcriber.is_multilingual:
                return models
        raise BadRequest(
            f"no translation by {name or ', '.join(self.names)}, which hears English only: {INSTALL_LANGUAGES}, "
            "or name a model of many languages",
            code="cannot_translate",
            extra={"param": "model"},
        )

    @property
    def asked_name(self) -> str:
        """Returns how options and tasks name the model: not at all when it is the default."""
        return self.name if self.name != self.names[0] else ""

    def hears(self, name: str) -> Transcriber:
        """Returns the model of this name, which was asked for before; an empty name means the default."""
        return self.shelf.loaded(name) if self.shelf is not None else self.transcriber

    def check_language(self, language: str | None, param: str = "language") -> None:
        """Raises BadRequest when the model does not know a language, by its code; any is well where none is said."""
        if language is None or self.transcriber.supports(language):
            return
        is_multilingual = self.transcriber.is_multilingual
        wish = (
            "want a BCP-47 tag such as de or en-US, or an English name" if is_multilingual else "it hears English only"
        )
        others = ", ".join(name for name in self.names if name != self.name)
        raise BadRequest(
            f"language={language[:40]!r}: the model {self.name or 'here'} does not know it; {wish}"
            + (f", or another model: {others}" if others else ""),
            code="bad_language",
            extra={"param": param},
        )

    async def close(self) -> None:
        await (self.shelf or self.transcriber).close()


async def load_models(settings: Settings, *, measures_voices: bool = True) -> Models:
    """Imports what is heavy and loads the default speech model and the detector, beside the event loop.

    `measures_voices`: whether `voices` is to be known, which costs a second or two. Raises ConfigurationError.
    """
    shelf = await asyncio.to_thread(_shelf, settings)
    await shelf.open()
    transcriber = await shelf.load("")
    models = Models(transcriber, Desk(shelf), await asyncio.to_thread(Silero), name=shelf.default, shelf=shelf)
    return models._replace(voices=await measure_voices(transcriber)) if measures_voices else models


def _shelf(settings: Settings) -> Shelf:
    """Returns the models, none of them loaded. Blocks, because it imports what is heavy."""
    from audio.model.whisper import Whisper

    device, compute = settings.whisper_device, settings.whisper_compute
    if device == "cpu":
        make = partial(Whisper, compute=compute, workers=cpu_share(settings))
    else:
        make = partial(Whisper, device=device, compute=compute, batch=GPU_BATCH)
    return Shelf({files.name: partial(make, files) for files in whisper_models(settings.whisper_model)})


async def measure_voices(transcriber: Transcriber) -> int:
    """Returns how many people may speak at once in this process, with its part of the machine: at least one."""
    noise = np.random.default_rng(0).standard_normal(int(SENTENCE_S * SAMPLE_RATE), np.float32) * np.float32(0.1)
    task = TranscriptionTask(audio=noise, is_final=False)
    partial_s = min([await _cpu_s(transcriber, task) for _ in range(TRIES)]) * SPEECH
    speaker_s = partial_s * (1 + 2 / SENTENCE_S) * DUTY / transcriber.batch
    return max(1, int(transcriber.workers / speaker_s))


async def _cpu_s(transcriber: Transcriber, task: TranscriptionTask) -> float:
    """Returns the CPU time of one full call; wall time would also measure what else runs while the machine starts."""
    began = time.process_time()
    await transcriber.transcribe([task] * transcriber.batch)
    return max(time.process_time() - began, 1e-4)
