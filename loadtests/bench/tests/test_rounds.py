"""The loop of the benchmark, driven by parts that measure nothing: what is measured, kept, told, and the exit code."""

import contextlib
import json
import socket
from argparse import Namespace
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.harness import rounds
from loadtests.bench.harness.part import Cannot, Job, LeftOut, Part, Plans, Run
from loadtests.bench.harness.processes import NotStarted
from loadtests.bench.report.rows import Row, at
from loadtests.bench.report.table import Table


@dataclass(frozen=True)
class ToyPlan:
    seconds: float = 1.0


@dataclass
class ToyRig:
    target: str
    plan: ToyPlan
    folder: Path
    faults: dict[str, int] = field(default_factory=dict[str, int])
    foreign_cores: float = 0.0


@dataclass(frozen=True)
class ToyCase:
    name: str
    measure: Callable[[ToyRig], dict[str, Any]]
    targets: tuple[str, ...] = ("ours", "theirs")


def works(rig: ToyRig) -> dict[str, Any]:
    return {"seconds": rig.plan.seconds}


def fails_for(target: str, err: Exception) -> Callable[[ToyRig], dict[str, Any]]:
    def measure(rig: ToyRig) -> dict[str, Any]:
        if rig.target == target:
            raise err
        return works(rig)

    return measure


def loses_for(target: str) -> Callable[[ToyRig], dict[str, Any]]:
    def measure(rig: ToyRig) -> dict[str, Any]:
        if rig.target == target:
            rig.faults["lost"] = 3
        return works(rig)

    return measure


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], ToyRig]]:
    yield lambda job: ToyRig(job.target, run.plan, job.folder)


def part(*cases: ToyCase, **more: Any) -> Part:
    defaults: dict[str, Any] = {
        "name": "toy",
        "says": "Measures nothing.",
        "port": 18499,
        "cases": cases or (ToyCase("load", works),),
        "ours": ("ours",),
        "peers": ("theirs",),
        "plans": Plans(ToyPlan(), quick=ToyPlan(0.1), long=ToyPlan(9.0)),
        "session": session,
        "table": Table((Row("seconds", at("load", "seconds")),), faults="lost"),
    }
    return Part(**{**defaults, **more})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def run_parts(out: Path) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    def run(one: Part | list[Part | LeftOut], *argv: str) -> tuple[int, list[dict[str, Any]]]:
        code = rounds.main(one if isinstance(one, list) else [one], [*argv, "--out", str(out)])
        path = out / "toy.jsonl"
        return code, [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []

    return run


RunParts = Callable[..., tuple[int, list[dict[str, Any]]]]


def order(records: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    return [(record["round"], record["case"], record["target"]) for record in records]


def test_each_target_in_turn_case_by_case_round_by_round(run_parts: RunParts) -> None:
    _, records = run_parts(part(ToyCase("a", works), ToyCase("b", works)), "--rounds", "2", "--peers")
    expected = [(turn, case, target) for turn in (0, 1) for case in "ab" for target in ("ours", "theirs")]
    assert order(records) == expected


def test_five_rounds_without_peers_unless_told_otherwise(run_parts: RunParts) -> None:
    _, records = run_parts(part())
    assert order(records) == [(turn, "load", "ours") for turn in range(5)]


def test_quick_is_one_short_round_and_long_is_longer(run_parts: RunParts) -> None:
    _, records = run_parts(part(), "--quick")
    _, more = run_parts(part(), "--long", "--rounds", "1")
    assert [record["figures"]["seconds"] for record in more] == [0.1, 9.0]
    assert records[0]["plan"] == {"seconds": 0.1}


def test_a_record_says_what_was_measured_how_and_where(run_parts: RunParts) -> None:
    _, (record,) = run_parts(part(), "--quick", "--env", "TRILANE_LOG=memory:")
    assert record["command"].startswith("python -m loadtests.bench toy --quick")
    assert record["pinned"] == {"server": [0], "client": [1]}
    assert record["env"] == ["TRILANE_LOG=memory:"]
    assert {"cpu", "cores"} <= set(record["machine"])
    assert {"python", "commit"} <= set(record["versions"])
    assert record["run"].endswith("Z")


def test_no_path_of_the_machine_is_kept(run_parts: RunParts) -> None:
    _, (record,) = run_parts(part(), "--quick")
    assert "/" not in record["command"].replace("loadtests/", "")


def test_an_error_of_ours_makes_the_exit_code_1(run_parts: RunParts, capsys: pytest.CaptureFixture[str]) -> None:
    code, (record,) = run_parts(part(ToyCase("load", fails_for("ours", NotStarted("no port")))), "--quick")
    assert (code, record["error"]) == (1, "no port")
    assert "load, ours, round 1: no port" in capsys.readouterr().out


def test_what_a_peer_loses_is_told_and_no_failure(run_parts: RunParts, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run_parts(part(ToyCase("load", loses_for("theirs"))), "--quick", "--peers")
    assert code == 0
    assert "load, theirs, round 1: lost: 3" in capsys.readouterr().out


def test_what_ours_loses_is_a_failure(run_parts: RunParts) -> None:
    assert run_parts(part(ToyCase("load", loses_for("ours"))), "--quick")[0] == 1


def test_a_target_that_cannot_is_shown(run_parts: RunParts, capsys: pytest.CaptureFixture[str]) -> None:
    case = ToyCase("load", fails_for("theirs", Cannot("have ids")))
    code, records = run_parts(part(case), "--quick", "--peers")
    assert (code, records[1]["cannot"]) == (0, "have ids")
    assert "load, theirs: cannot have ids" in capsys.readouterr().out


def test_cases_that_hardly_change_are_measured_once(run_parts: RunParts) -> None:
    _, records = run_parts(part(ToyCase("a-1", works), ToyCase("b", works), once=("a",)), "--rounds", "3")
    assert [record["case"] for record in records] == ["a-1", "b", "b", "b"]


def test_lengthy_cases_are_left_out_unless_asked_for(run_parts: RunParts) -> None:
    toy = part(ToyCase("a", works), ToyCase("b", works), lengthy=("b",))
    _, records = run_parts(toy, "--quick")
    _, records_by_name = run_parts(toy, "--quick", "--cases", "b")
    assert [record["case"] for record in records_by_name] == ["a", "b"]
    assert len(records) == 1


def test_cases_that_compare_bring_the_peers(run_parts: RunParts) -> None:
    _, records = run_parts(part(ToyCase("peers-1", works), beside=("peers",)), "--quick", "--cases", "peers")
    assert [record["target"] for record in records] == ["ours", "theirs"]


def test_a_part_that_lacks_something_is_left_out_and_says_why(
    run_parts: RunParts, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = part(name="deaf", lacks=lambda _: "there is no speech; record some")
    code, records = run_parts([part(), lacking, LeftOut("mute", "no package")], "--quick")
    output = capsys.readouterr().out
    assert (code, len(records)) == (0, 1)
    assert "deaf was left out: there is no speech; record some" in output
    assert "mute was left out: no package" in output


def test_nothing_measured_is_no_success(run_parts: RunParts) -> None:
    assert run_parts(part(lacks=lambda _: "all is missing"))[0] == 1


def test_a_port_that_is_taken_is_refused(run_parts: RunParts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy_socket:
        port = busy_socket.getsockname()[1]
        with pytest.raises(SystemExit, match=f"port {port} is taken"):
            run_parts(part(), "--port", str(port))


@pytest.mark.parametrize(
    "argv", [["--targets", "nobody"], ["--cases", "nothing"], ["--env", "X"]], ids=lambda argv: argv[0]
)
def test_what_is_not_known_is_refused_with_what_there_is(
    run_parts: RunParts, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    with pytest.raises(SystemExit):
        run_parts(part(), *argv)
    assert argv[1] in capsys.readouterr().err


def test_other_work_has_a_measurement_repeated_when_quiet_is_asked_for(run_parts: RunParts) -> None:
    busy = [0.5, 0.3, 0.9]

    def measure(rig: ToyRig) -> dict[str, Any]:
        rig.foreign_cores = busy.pop(0)
        return works(rig)

    _, records = run_parts(part(ToyCase("load", measure)), "--quick", "--quiet", "0.01")
    assert [record["foreign_cores"] for record in records] == [0.5, 0.3, 0.9]


def test_arguments_of_a_part_reach_it(run_parts: RunParts) -> None:
    runs: list[Namespace] = []

    def lacks(args: Namespace) -> str | None:
        runs.append(args)
        return None

    toy = part(lacks=lacks, arguments=lambda parser: parser.add_argument("--speech", default=""))
    run_parts(toy, "--quick", "--speech", "there")
    assert runs[0].speech == "there"
