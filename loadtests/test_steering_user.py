"""People who talk on while they are answered find nothing wrong with a good gateway, and what bad ones do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.bench.harness.processes import ROOT
from loadtests.users.swarm import Swarm, swarm
from tests.conftest import UpstreamThread, serving

GATEWAY = """
from gateway.chat.{module} import {kind}
from gateway.cli import main

{bug}

main()
"""
BUGS = {
    "nothing is kept of what it takes": (
        "steering",
        "Steering",
        "async def forget(self, who, history, queued): ...\nSteering.enqueue = forget",
        "LOST_STEER",
    ),
    "what was taken back is answered": (
        "steering",
        "Steering",
        "async def forget(self, who, chat_id, message_id): ...\nSteering.remove = forget",
        "LOST_STEER",
    ),
    "nothing follows an answer": (
        "next_turn",
        "NextTurns",
        "async def pause(self, ending, inbox): ...\nNextTurns.after = pause",
        "STUCK",
    ),
}
"""Bugs of a gateway: the module and the class that have it, how, and the fault that is found."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamThread]:
    with UpstreamThread() as thread:
        yield thread


def steered(folder: Path, upstream: UpstreamThread, *program: str, seconds: float = 8) -> Swarm:
    """Has some people talk on for some seconds, on a gateway that is this program."""
    gateway = serving(folder, upstream.url, PYTHONPATH=str(ROOT))
    gateway.program = program or gateway.program
    try:
        return swarm("loadtests/mixed.py", gateway.start().url, folder, "-u", "6", "SteeringUser", seconds=seconds)
    finally:
        gateway.stop()


def test_a_good_gateway_answers_each_message_once(tmp_path: Path, upstream: UpstreamThread) -> None:
    found = steered(tmp_path, upstream)
    assert found.exit_code == 0, found.output
    assert found.counts["chat/steer"] > 0


@pytest.mark.parametrize("bug", BUGS)
def test_a_gateway_that_has_a_bug_is_told_which(tmp_path: Path, upstream: UpstreamThread, bug: str) -> None:
    module, kind, lines, fault = BUGS[bug]
    program = tmp_path / "bad_gateway.py"
    program.write_text(GATEWAY.format(module=module, kind=kind, bug=lines))
    found = steered(tmp_path, upstream, str(program))
    assert found.exit_code == 1, found.output
    assert fault in found.faults, found.output
