"""README's table of clients is the one that the tests make, and each mark in it stands for a test that is there."""

import pytest

from tests.readme_clients import CLIENTS, COMMAND, FEATURES, README, Client, table, version_of, with_clients


def test_the_table_matches_the_tests() -> None:
    text = README.read_text()
    assert text == with_clients(text), f"README.md shows clients otherwise than the tests run them; run: {COMMAND}"


def test_every_feature_that_a_test_is_named_for_is_a_column() -> None:
    assert {feature for client in CLIENTS for feature in client.tests} <= set(FEATURES)


def test_a_table_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- clients -->"):
        with_clients("no table")


def test_a_mark_needs_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Client("`x`", ("openai",), "/v1", "test_openai_sdk", {"whole": "test_that_nobody_wrote"})
    monkeypatch.setattr("tests.readme_clients.CLIENTS", (wrong,))
    with pytest.raises(ValueError, match="test_that_nobody_wrote"):
        table()


@pytest.mark.parametrize("is_js", [True, False])
def test_a_version_is_one_that_the_tests_install(is_js: bool) -> None:
    with pytest.raises(ValueError, match="no-such-package"):
        version_of("no-such-package", is_js=is_js)
