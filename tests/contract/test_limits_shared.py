"""Limits hold exactly over several processes, and what a killed one held is free again."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.contract.engines import Engine
from tests.support.postgres_server import PostgresServer

ATTEMPTS = (334, 333, 333)
LIMITS = {"runs": 100, "streams": 250, "requests_per_minute": 77, "sessions": 30}
BACK_S = 30
"""Seconds within which the slots of a killed process must be free."""


class Taker:
    """One process; see `tests.support.limit_taker`."""

    def __init__(self, url: str, root: Path, env: dict[str, str]) -> None:
        limits = {f"TRILANE_LIMIT_{key.upper()}": str(limit) for key, limit in LIMITS.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.limit_taker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**env, **limits, "TRILANE_LOG": url},
        )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> int:
        self.say(line)
        return int(self.answer())

    def kill(self) -> None:
        with self.process:  # closes its pipes, and waits
            self.process.send_signal(signal.SIGKILL)


def all_at_once(takers: Sequence[Taker], key: str) -> list[int]:
    """Returns how many attempts of each process were admitted."""
    for taker, attempts in zip(takers, ATTEMPTS, strict=True):
        taker.say(f"{key} {attempts}")
    return [int(taker.answer()) for taker in takers]


@pytest.fixture(scope="module")
def takers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[Taker]]]:
    """Returns three processes on each engine that can be shared."""
    root = Path(__file__).resolve().parents[2]
    env = {"PYTHONPATH": str(root), "PATH": ""}
    server: PostgresServer = request.getfixturevalue("postgres_server")
    urls = {"redis": request.getfixturevalue("redis_url"), "postgres": server.empty_database(), "sqlite": ""}
    with contextlib.ExitStack() as stack:
        groups: dict[str, list[Taker]] = {}
        for name, url in urls.items():
            engine = Engine(name, tmp_path_factory.mktemp(name), server_url=url)
            groups[name] = [Taker(engine.url, root, env)]
            assert groups[name][0].answer() == "ready"  # it has made the tables
            groups[name] += [Taker(engine.url, root, env) for _ in ATTEMPTS[1:]]
            for taker in groups[name]:
                stack.callback(taker.kill)
        for group in groups.values():
            assert [taker.answer() for taker in group[1:]] == ["ready", "ready"]
        yield groups


@pytest.mark.parametrize("key", ["runs", "streams", "requests_per_minute"])
@pytest.mark.parametrize("engine", ["sqlite", "redis", "postgres"])
def test_a_thousand_attempts_at_once_admit_the_limit_and_not_one_more(
    takers: dict[str, list[Taker]], engine: str, key: str
) -> None:
    admitted = all_at_once(takers[engine], key)
    assert sum(admitted) == LIMITS[key], admitted
    assert sum(all_at_once(takers[engine], key)) == 0
    if key != "requests_per_minute":
        released = takers[engine][0].ask("release")
        assert sum(all_at_once(takers[engine], key)) == released, "what was given back, and no more"
        for taker in takers[engine]:
            taker.ask("release")


def test_what_a_killed_process_held_is_free_again_and_what_others_hold_is_not(
    takers: dict[str, list[Taker]],
) -> None:
    for group in takers.values():
        assert [group[0].ask("sessions 20"), group[1].ask("sessions 20"), group[2].ask("sessions 20")] == [20, 10, 0]
        group[0].kill()
    deadline, missing = time.monotonic() + BACK_S, dict.fromkeys(takers, 20)
    assert all(group[2].ask("sessions 20") == 0 for group in takers.values()), "it may be alive still"
    while any(missing.values()) and time.monotonic() < deadline:
        time.sleep(1)
        for name, group in takers.items():
            missing[name] -= group[2].ask("sessions 20")
    assert missing == dict.fromkeys(takers, 0)
    assert all(group[2].ask("sessions 20") == 0 for group in takers.values())
