"""Yjs documents stay equal over the events lane, by the provider that operators copy, in real Node."""

import random
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.access.auth import mint
from tests.clients.node import JS, install, tool
from tests.conftest import Gateway

PROVIDER = Path(__file__).parents[2] / "deploy" / "clients" / "yjs"
KEPT = 10
SECRET = "a-secret-of-the-tests-with-32-characters"
SEED = random.randrange(1 << 32)


class Outcomes(dict[str, Any]):
    """What came of each scene, by its name; one that failed fails whoever looks at it."""

    def __getitem__(self, scene: str) -> Any:
        outcome = super().__getitem__(scene)
        assert "stack" not in outcome, f"seed {SEED}: {outcome['stack']}"
        return outcome


def play(folder: Path, env: dict[str, str], tokens: list[str], *scenes: str) -> Outcomes:
    """Returns what scenes of `js/yjs.mjs` have printed, played on a gateway of their own."""
    link = install() / "node_modules" / ".trilane-yjs"
    if not link.exists():
        link.symlink_to(PROVIDER)
    gateway = Gateway(folder, env, unit="events").start()
    try:
        command = [tool("node"), "--preserve-symlinks", str(JS / "yjs.mjs"), gateway.url, *tokens, str(SEED), *scenes]
        process = subprocess.run(command, capture_output=True, timeout=100)
    finally:
        gateway.stop()
    assert process.returncode == 0, f"seed {SEED}: {process.stderr.decode()}"
    return Outcomes(msgspec.json.decode(process.stdout))


def token(*publish: str) -> str:
    return mint(SECRET, "alice", time.time() + 600, {"subscribe": ["docs/*"], "publish": list(publish)})


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Returns what came of each scene where topics keep few events, and devices sign in by tickets."""
    env = {"TRILANE_RETENTION_EVENTS": str(KEPT), "TRILANE_JWT_SECRET": SECRET}
    scenes = ("outlived", "resumedTooLate", "twoCompactors", "forgotten", "keptElsewhere", "awareness", "readOnly")
    return play(tmp_path_factory.mktemp("yjs"), env, [token("docs/*"), token()], *scenes)


def test_three_documents_are_equal_after_120_concurrent_edits_with_cuts(tmp_path: Path) -> None:
    outcome = play(tmp_path, {}, ["", ""], "concurrent")["concurrent"]
    assert outcome["sets"], SEED
    assert outcome["length"] > 150_000
    assert outcome["errors"] == []


def test_a_document_outlives_its_events_and_offline_edits_arrive(outcomes: Outcomes) -> None:
    outcome = outcomes["outlived"]
    assert outcome["oldest"] > 1
    assert outcome["lateSawAll"]
    assert "written offline " in outcome["text"]
    assert outcome["errors"] == []


def test_who_comes_back_after_its_events_are_gone_reads_the_state(outcomes: Outcomes) -> None:
    outcome = outcomes["resumedTooLate"]
    assert "in a tunnel" in outcome["text"]
    assert outcome["errors"] == []


def test_of_three_that_publish_the_state_at_once_one_does(outcomes: Outcomes) -> None:
    outcome = outcomes["twoCompactors"]
    assert sorted(outcome["won"]) == [False, False, True]
    assert outcome["added"] == 1


def test_a_beginning_that_is_gone_without_a_state_is_told_and_never_published(outcomes: Outcomes) -> None:
    outcome = outcomes["forgotten"]
    assert outcome["errors"] == [
        "the beginning of docs/forgotten is not kept any more, and nobody has published its state"
    ]
    assert outcome["mayCompact"] is False


def test_what_a_device_has_kept_over_a_reload_is_sent(outcomes: Outcomes) -> None:
    assert "never sent" in outcomes["keptElsewhere"]["text"]


def test_cursors_come_and_go_beside_the_document(outcomes: Outcomes) -> None:
    assert outcomes["awareness"]["head"] == 0


def test_who_may_only_read_is_told_so_and_keeps_reading(outcomes: Outcomes) -> None:
    outcome = outcomes["readOnly"]
    assert outcome["errors"] == ["this token does not allow to publish to 'docs/read-only'"]
    assert outcome["mine"] == ""
