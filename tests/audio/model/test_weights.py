"""The models on disk are found by name or folder, and those in parts are whole when they are read."""

import hashlib
from pathlib import Path

import pytest

from audio.model import weights
from audio.model.weights import BASE, MAX_MODELS, TINY, ModelFiles, whisper_models
from gateway.errors import ConfigurationError


def folder(root: Path, name: str) -> str:
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / "model.bin").write_bytes(b"weights")
    return str(root / name)


def test_the_packaged_models_are_there_with_the_english_one_first() -> None:
    names = [model.name for model in whisper_models("")]
    assert names[0] == TINY
    assert set(names) <= {TINY, BASE}


def test_folders_and_packaged_models_are_named_in_their_order(tmp_path: Path) -> None:
    one, two = folder(tmp_path, "one"), folder(tmp_path, "two")
    assert [model.name for model in whisper_models(f"{two}, {TINY},{one},")] == ["two", TINY, "one"]
    assert whisper_models(one)[0].read() is None, "a model that is whole is read by the library itself"


def test_a_list_that_cannot_be_served_is_refused_with_what_to_do(tmp_path: Path) -> None:
    nothing = str(tmp_path)
    with pytest.raises(
        ConfigurationError, match=rf"{nothing} is no model: want {TINY}, {BASE}, or a folder with model"
    ):
        whisper_models(nothing)
    with pytest.raises(ConfigurationError, match="different names, not 2: one, one"):
        whisper_models(f"{folder(tmp_path / 'a', 'one')},{folder(tmp_path / 'b', 'one')}")
    many = ",".join(folder(tmp_path, str(number)) for number in range(MAX_MODELS + 1))
    with pytest.raises(ConfigurationError, match=f"want 1 to {MAX_MODELS} models"):
        whisper_models(many)
    with pytest.raises(ConfigurationError, match="want 1 to"):
        whisper_models(" , ")


def test_a_packaged_model_that_is_missing_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"whisper-base is not installed: .*trilane\[languages\]"):
        whisper_models(BASE)
    with pytest.raises(ConfigurationError, match=r"there is no speech model: .*trilane\[audio\]"):
        whisper_models("")


def test_parts_are_joined_and_checked(tmp_path: Path) -> None:
    parts = tmp_path / "a", tmp_path / "b"
    for part, content in zip(parts, (b"one", b"two"), strict=True):
        part.write_bytes(content)
    (tmp_path / "config.json").write_bytes(b"{}")
    whole = ModelFiles("base", tmp_path, parts, hashlib.sha256(b"onetwo").hexdigest())
    assert whole.read() == {"model.bin": b"onetwo", "config.json": b"{}"}
    parts[1].write_bytes(b"twx")
    with pytest.raises(ConfigurationError, match=r"the weights of base are damaged: their SHA-256 is"):
        whole.read()
