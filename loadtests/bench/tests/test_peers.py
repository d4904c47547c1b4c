"""Peers: their environments come from locks alone, and each serves the load clients without a fault."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtests.bench.chat import servers
from loadtests.bench.events import servers as pubsub
from loadtests.bench.events.fan import fan
from loadtests.bench.harness import machine, peers
from loadtests.bench.harness.peers import AI_SDK, CACHE, ENVIRONMENTS, LOCKS, Environment, PythonEnvironment
from loadtests.bench.harness.processes import NotStarted, process
from loadtests.bench.native.build import tool
from loadtests.ports import free_port

NOWHERE = "http://127.0.0.1:9/"
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="the load clients are built from C and there is no cc")


@pytest.fixture
def empty(tmp_path: Path) -> PythonEnvironment:
    (tmp_path / "none.txt").write_text("")
    return PythonEnvironment("none", (), "nothing", tmp_path)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.name)
def test_what_is_measured_is_in_the_lock(environment: Environment) -> None:
    assert set(environment.versions) == set(environment.packages)
    assert all(re.fullmatch(r"[\d.]+", version) for version in environment.versions.values())


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.txt")), ids=lambda lock: lock.stem)
def test_a_python_lock_pins_every_package_and_names_no_address(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line)] == []


def test_a_node_lock_pins_every_package_and_names_no_address() -> None:
    packages = json.loads(AI_SDK.lock.read_text())["packages"]
    assert {name for name, package in packages.items() if "resolved" in package} == set()
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []


def test_an_environment_is_made_once_and_anew_when_its_lock_changes(
    empty: PythonEnvironment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = empty.make(tmp_path / "cache")
    (folder / "left over").touch()
    assert empty.make(tmp_path / "cache") == folder
    assert (folder / "left over").exists()
    empty.lock.write_text("\n")
    assert empty.make(tmp_path / "cache") == folder
    assert not (folder / "left over").exists()
    assert capsys.readouterr().out.count("installing") == 2


@pytest.mark.parametrize("environment", [peers.FASTAPI, AI_SDK], ids=lambda environment: environment.name)
def test_without_a_package_index_it_says_what_to_do_and_is_not_taken_for_made(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_INDEX_URL", "NPM_CONFIG_REGISTRY"):
        monkeypatch.setenv(name, NOWHERE)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("NPM_CONFIG_CACHE", str(tmp_path / "npm"))
    with pytest.raises(NotStarted, match=r"not installed: .* package index .*--targets"):
        environment.make(tmp_path)
    assert not (tmp_path / environment.name / "made").exists()


def test_an_installation_that_takes_too_long_is_ended(
    empty: PythonEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "INSTALL_S", 0)
    with pytest.raises(NotStarted, match="not done after 0 s"):
        empty.make(tmp_path / "cache")


def test_an_unknown_environment_is_refused() -> None:
    with pytest.raises(SystemExit, match="unknown environment 'fastapy'; there are fastapi"):
        peers.main(["fastapy"])


@needs_cc
@pytest.mark.parametrize("name", [name for name in servers.TARGETS if name != "direct" and "trilane" not in name])
def test_a_peer_of_the_chat_lane_brings_every_token(name: str) -> None:
    target = servers.TARGETS[name]
    _skip_unless_installed(target.environment, None if target.environment else servers.missing(target))
    ports = servers.Ports(free_port(), free_port())
    body = target.body.replace("@T", "20").replace("@I", "1000")
    command = [str(tool("load")), "--port", str(ports.server), "--path", target.path, "--body", body]
    command += ["--streams", "4", "--tokens", "20", "--warm", "1", "--dur", "1", "--drain", "5"]
    with servers.upstream(ports.upstream), servers.server(target, ports, {}):
        client = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(client.stdout.splitlines()[-1])
    assert (result["bad"], result["refused"], result["running"]) == (0, 0, 0)
    assert result["finished"] == result["requests"] > 4
    assert result["frames"] >= 0.9 * result["tokens"] > 0


@needs_cc
@pytest.mark.parametrize("name", ["fastapi", "litestar"])
def test_a_peer_of_the_events_lane_brings_every_event_once_under_one_id(name: str, tmp_path: Path) -> None:
    target, port = pubsub.TARGETS[name], free_port()
    _skip_unless_installed(target.environment, None)
    with pubsub.server(target, port, tmp_path, {}) as pids, fan(target.options(port, "a"), pids) as client:
        assert client.ask("open", 5)["live"] == 5
        client.ask("wait", 0.3)
        assert client.ask("publish", 100, 20, 1)["events"] == 100
        assert client.faults == {}


def test_plain_nginx_is_told_to_serve_no_events() -> None:
    assert "nchan" in (pubsub.missing(pubsub.TARGETS["nginx"]) or "")


def test_a_server_ends_with_all_that_it_started(tmp_path: Path) -> None:
    child = [sys.executable, "-c", "import time; time.sleep(60)"]
    with process([sys.executable, "-c", f"import subprocess; subprocess.run({child})"], tmp_path, {}) as server:
        while len(pids := machine.tree(server.pid)) < 2:
            time.sleep(0.01)
    end = time.monotonic() + 5
    while (survivors := [pid for pid in pids if _runs(pid)]) and time.monotonic() < end:
        time.sleep(0.01)
    assert survivors == []


def test_a_server_does_not_see_the_settings_of_whoever_runs_the_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "somewhere")
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-1")

    def names() -> None:
        command = [sys.executable, "-c", "import os; print(sorted(os.environ))"]
        with process(command, tmp_path, {"OURS": "1"}) as server:
            server.wait(10)
            raise NotStarted("it printed")

    with pytest.raises(NotStarted, match="'OURS'") as error:
        names()
    assert not re.search("DATABASE_URL|LITELLM", str(error.value))


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def _skip_unless_installed(environment: Environment | None, why: str | None) -> None:
    """Skips the test where the peer is missing: no test installs one, `python -m loadtests.bench peers` does."""
    if environment and not (CACHE / environment.name / "made").exists():
        why = "not installed"
    if why:
        pytest.skip(why)
