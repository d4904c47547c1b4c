"""The speech models of a process, each loaded when somebody asks for it first; all share the workers of one desk.

To the desk the shelf is one transcriber: a task names its model, and however many models there are, no more calls run
at once than there are workers. What was loaded stays: `weights` bounds how many models there can be.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from audio.model.transcriber import Transcriber, Transcription, TranscriptionTask
from gateway.errors import BadRequest, ConfigurationError, TrilaneError

OPENAI_NAMES = ("whisper-1", "gpt-")
"""The beginnings of the names of OpenAI's models, which its clients must send: here they mean the default."""


log = structlog.get_logger("audio")


class Shelf:
    """Implements `Transcriber` with several models; what a task does not name is the default's."""

    def __init__(self, makers: Mapping[str, Callable[[], Transcriber]]) -> None:
        """`makers` make the models by their names, the default first; a model is opened when it is asked for."""
        self._makers = dict(makers)
        self._loaded: dict[str, Transcriber] = {}
        self._loading = asyncio.Lock()
        self.default = next(iter(self._makers))
        self.workers = self.batch = 1
        """Those of the default, once it is loaded."""

    @property
    def names(self) -> list[str]:
        """Returns the names of all models, the default's first."""
        return list(self._makers)

    @property
    def is_multilingual(self) -> bool:
        return self.loaded("").is_multilingual

    async def open(self) -> None:
        """Loads the default. Raises ConfigurationError."""
        self._loaded[self.default] = default = await _opened(self._makers[self.default])
        self.workers, self.batch = default.workers, default.batch

    async def close(self) -> None:
        for transcriber in self._loaded.values():
            await transcriber.close()

    def check(self, name: str) -> None:
        """Raises BadRequest for a name that no model has; an empty one means the default."""
        if name and name not in self._makers:
            known = ", ".join(self._makers)
            raise BadRequest(
                f"there is no speech model {name[:80]!r} here; there are {known}",
                code="model_not_found",
                extra={"param": "model"},
            )

    async def load(self, name: str) -> Transcriber:
        """Returns a model, which is loaded first if need be. Raises BadRequest, TrilaneError (`model_failed`)."""
        self.check(name)
        name = name or self.default
        async with self._loading:
            if name not in self._loaded:
                try:
                    self._loaded[name] = await _opened(self._makers[name])
                except ConfigurationError as err:  # it names folders, which are no client's business
                    log.error("a speech model cannot be loaded", model=name, reason=err.detail)
                    raise TrilaneError(f"the speech model {name} cannot be loaded", code="model_failed") from err
            return self._loaded[name]

    def loaded(self, name: str) -> Transcriber:
        """Returns a model that was loaded before; an empty name means the default."""
        return self._loaded[name or self.default]

    def supports(self, language: str) -> bool:
        return self.loaded("").supports(language)

    def transcribe(self, tasks: Sequence[TranscriptionTask]) -> asyncio.Future[list[Transcription]]:
        names = {task.model or self.default for task in tasks}
        if len(names) == 1:
            return self.loaded(names.pop()).transcribe(tasks)
        return asyncio.ensure_future(self._transcribe_mixed(tasks))

    async def _transcribe_mixed(self, tasks: Sequence[TranscriptionTask]) -> list[Transcription]:
        """Transcribes tasks of several models, one model after the other."""
        answers: dict[int, Transcription] = {}
        for name in dict.fromkeys(task.model or self.default for task in tasks):
            places = [at for at, task in enumerate(tasks) if (task.model or self.default) == name]
            own = await self._loaded[name].transcribe([tasks[at] for at in places])
            answers |= zip(places, own, strict=True)
        return [answers[at] for at in range(len(tasks))]


async def _opened(make: Callable[[], Transcriber]) -> Transcriber:
    transcriber = make()
    await transcriber.open()
    return transcriber


def asked_model(name: str) -> str:
    """Returns the name to look for, for one that a client of OpenAI's API has sent: empty means the default."""
    return "" if name.startswith(OPENAI_NAMES) else name
