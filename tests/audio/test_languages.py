"""A language is understood however a client writes it."""

import pytest

from audio.languages import CODES, MAX_TAG, NAMES, code_of, name_of

WRITTEN = [
    ("en", "en"),
    ("EN", "en"),
    ("en-US", "en"),
    ("en_GB", "en"),
    (" English ", "en"),
    ("pt-BR", "pt"),
    ("de-CH-1996", "de"),
    ("zh-Hant-TW", "zh"),
    ("cmn-Hans", "zh"),
    ("zh-yue-HK", "yue"),
    ("yue", "yue"),
    ("haw-US", "haw"),
    ("nb-NO", "no"),
    ("iw", "he"),
    ("eng", "en"),
    ("GER", "de"),
    ("Haitian Creole", "ht"),
    ("haitian_creole", "ht"),
    ("tlh-Latn", "tlh"),
    ("klingon", "klingon"),
    ("", ""),
]


@pytest.mark.parametrize(("written", "code"), WRITTEN)
def test_a_language_may_be_a_tag_a_code_or_a_name(written: str, code: str) -> None:
    assert code_of(written) == code


def test_every_code_and_every_name_is_understood_as_it_is_told() -> None:
    for code, name in NAMES.items():
        assert code_of(code) == code_of(name.title()) == code_of(f"{code}-x-private") == code
        assert name_of(code) == name
        assert len(name) <= MAX_TAG
    assert len(CODES) == len(NAMES) == 100
