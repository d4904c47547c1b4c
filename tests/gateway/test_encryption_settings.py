"""Keys that cannot encrypt are refused by their place, and no key is ever printed."""

import base64

import pytest

from gateway.errors import ConfigurationError
from gateway.settings import load

TEXT = base64.b64encode(bytes(range(32))).decode()


def test_several_keys_may_encrypt_and_the_first_may_be_none() -> None:
    keys = load({"TRILANE_ENCRYPTION_KEY": f"none, k2:{TEXT},k-1_a:{TEXT}"}).encryption_key
    assert [key.id for key in keys] == ["none", "k2", "k-1_a"]
    assert [len(key.secret) for key in keys] == [0, 32, 32]


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"k1:{TEXT[:-4]}",
        f"k1:{TEXT}x",
        "k1:" + "A" * 43 + "=",
        "k1:",
        f":{TEXT}",
        f"k.1:{TEXT}",
        f"{'k' * 21}:{TEXT}",
        f"k1:{TEXT},none",
        f"k1:{TEXT},k1:{TEXT}",
        f"none:{TEXT},none",
        f"k\xe9:{TEXT}",
    ],
)
def test_a_key_that_cannot_encrypt_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="TRILANE_ENCRYPTION_KEY") as error:
        load({"TRILANE_ENCRYPTION_KEY": text})
    assert TEXT[:20] not in error.value.detail


def test_an_encryption_key_is_never_printed() -> None:
    settings = load({"TRILANE_ENCRYPTION_KEY": f"k1:{TEXT}"})
    assert "EncryptionKey('k1')" in repr(settings)
    assert repr(bytes(range(32)))[2:20] not in repr(settings)
