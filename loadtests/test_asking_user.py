"""People who are asked find nothing wrong with a good gateway, and a call that has two effects."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests import counting_server
from loadtests.bench.harness.processes import ROOT
from loadtests.deployment import TOOLS
from loadtests.users.swarm import Swarm, swarm
from tests.conftest import UpstreamThread, serving

COMMAND = '"-m", "loadtests.counting_server"'
WRITES = 'notes.write(f"{text}\\n")'


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamThread]:
    with UpstreamThread() as thread:
        yield thread


def asked(folder: Path, upstream: UpstreamThread, command: str = COMMAND) -> Swarm:
    """Has two people asked for some seconds by a gateway whose server of tools is started so."""
    file = folder / "upstreams.toml"
    file.write_text(TOOLS.format(upstream=upstream.url, python=sys.executable).replace(COMMAND, command))
    env = {"TRILANE_UPSTREAMS": str(file), "NOTES": str(folder / "notes"), "PYTHONPATH": str(ROOT)}
    gateway = serving(folder, upstream.url, **env)
    try:
        return swarm("loadtests/mixed.py", gateway.start().url, folder, "-u", "2", "AskingUser", seconds=8)
    finally:
        gateway.stop()


def test_a_good_gateway_makes_each_call_as_often_as_it_was_allowed(tmp_path: Path, upstream: UpstreamThread) -> None:
    found = asked(tmp_path, upstream)
    assert found.exit_code == 0, found.output
    assert found.counts["chat/ask"] > 0


def test_a_call_that_has_two_effects_is_seen(tmp_path: Path, upstream: UpstreamThread) -> None:
    source = Path(counting_server.__file__).read_text()
    assert WRITES in source
    bad = tmp_path / "bad_server.py"
    bad.write_text(source.replace(WRITES, f"{WRITES}; {WRITES}"))
    found = asked(tmp_path, upstream, f'"{bad}"')
    assert found.faults == {"DOUBLE_EFFECT"}, found.output
