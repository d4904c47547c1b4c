"""The verdict adds up a run, over one process or several, in words and as an exit code."""

import socket
from collections import Counter
from pathlib import Path

import pytest

from loadtests.users.fault import Fault
from loadtests.users.pulse import Pulse, quantile
from loadtests.users.swarm import swarm
from loadtests.users.tally import MAX_DETAIL, Measure, Tally

ROW = Measure("chat", "first token", 1200, 5, 9, 12, 31.5)
LOCUSTFILE = """
from locust import User, constant, task
from loadtests.users.fault import Fault
from loadtests.users.verdict import fault, note_measure


class Finder(User):
    wait_time = constant(0.2)

    @task
    def find(self) -> None:
        {body}
"""


def locustfile(folder: Path, body: str) -> Path:
    path = folder / "finder.py"
    path.write_text(LOCUSTFILE.format(body=body))
    return path


def tally(*faults: Fault, late_ms: int = 0) -> Tally:
    result = Tally(late_ms=Counter([late_ms] * 100))
    for number, kind in enumerate(faults, 1):
        result.note(kind, f"seen as number {number}")
    return result


def test_every_fault_has_a_title_of_its_own_and_a_sentence() -> None:
    assert len({kind.title for kind in Fault}) == len(Fault)
    for kind in Fault:
        assert kind.title == kind.title.lower()
        assert kind.sentence.endswith("."), kind
        assert "{}" not in kind.sentence


def test_a_run_without_faults_says_what_it_checked() -> None:
    summary = tally().sum_up([ROW, Measure("chat", "resume gap", 7, 1, 1, 1, 1.0)])
    assert summary.ok
    assert "Checked: answers 1,200, resumes 7." in summary.in_words()
    assert "Nothing was lost" in summary.in_words()


def test_a_run_that_measured_nothing_is_not_well() -> None:
    summary = tally().sum_up([])
    assert not summary.ok
    assert "NOTHING WAS MEASURED" in summary.in_words()


def test_faults_come_with_their_count_their_remedy_and_the_first_detail() -> None:
    summary = tally(Fault.LOST, Fault.BUFFERED, Fault.BUFFERED).sum_up([ROW])
    assert not summary.ok
    assert [(row.fault, row.count, row.first) for row in summary.faults] == [
        ("BUFFERED", 2, "seen as number 2"),
        ("LOST", 1, "seen as number 1"),
    ]
    words = summary.in_words()
    assert "BUFFERED (2 x). Something between client and gateway buffers: turn it off (nginx: proxy_buff" in words
    assert "Nothing was lost" not in words


def test_a_late_client_says_so_and_is_no_fault() -> None:
    assert "THE FIGURES SUFFER" not in tally(late_ms=50).sum_up([ROW]).in_words()
    late = tally(late_ms=51).sum_up([ROW])
    assert late.ok
    assert "THE FIGURES SUFFER: this client itself was late, 51 ms" in late.in_words()


def test_workers_add_up_and_the_first_detail_stays() -> None:
    master = tally(Fault.LOST, late_ms=3)
    master.merge(tally(Fault.GONE, Fault.LOST, late_ms=9).pack())
    assert master.counts == {"LOST": 2, "GONE": 1}
    assert master.first == {"LOST": "seen as number 1", "GONE": "seen as number 1"}
    assert master.late_ms == {3: 100, 9: 100}


def test_a_long_detail_is_cut() -> None:
    result = Tally()
    result.note(Fault.ERROR, "x" * 10_000)
    assert len(result.first["ERROR"]) == MAX_DETAIL


@pytest.mark.parametrize(
    ("values", "share", "is_"), [([], 0.5, 0), ([7], 0.99, 7), ([1, 1, 1, 9], 0.75, 1), ([1, 1, 1, 9], 0.76, 9)]
)
def test_a_quantile_is_the_value_below_which_that_share_lies(values: list[int], share: float, is_: int) -> None:
    assert quantile(Counter(values), share) == is_


def test_a_pulse_remembers_the_worst_beat_since_a_moment() -> None:
    now = 100.0
    pulse = Pulse(clock=lambda: now)
    for now, late_s in ((101.0, 0.5), (102.0, 0.001), (103.0, 0.3)):  # noqa: B007 - the clock reads it
        pulse.beat(late_s)
    assert pulse.late_ms == {500: 1, 1: 1, 300: 1}
    assert pulse.worst_since(100.5) == 0.5
    assert pulse.worst_since(101.5) == 0.3
    assert pulse.worst_since(103.5) == 0.0


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_a_fault_ends_the_run_with_1_from_whatever_process_it_comes(tmp_path: Path, processes: tuple[str, ...]) -> None:
    path = locustfile(
        tmp_path, 'note_measure(self.environment, "chat", "first token", 4.2); fault(self.environment, Fault.GONE, "7")'
    )
    result = swarm(path, "http://127.0.0.1:1", tmp_path, "-u", "2", *processes, seconds=3)
    assert result.exit_code == 1
    assert result.faults == {"GONE"}
    [fault_row], [row] = result.verdict["faults"], result.verdict["measures"]
    assert fault_row["first"] == "7"
    assert fault_row["count"] == row["count"] >= 4
    assert "check gone" in result.output, "Locust's own table has it too"
    assert result.output.index("Verdict\n") > result.output.index("Error report"), "it comes last"


def test_a_run_without_faults_ends_with_0(tmp_path: Path) -> None:
    path = locustfile(tmp_path, 'note_measure(self.environment, "chat", "first token", 4.2)')
    result = swarm(path, "http://127.0.0.1:1", tmp_path, "-u", "1", seconds=5)
    assert (result.exit_code, result.faults) == (0, set())
    assert "Checked" in result.output


@pytest.mark.parametrize("lane", ["chat", "events"])
def test_a_gateway_that_is_not_there_is_unreachable(tmp_path: Path, lane: str) -> None:
    with socket.socket() as busy_socket:  # bound, and nobody listens
        busy_socket.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{busy_socket.getsockname()[1]}"
        result = swarm(f"loadtests/{lane}.py", host, tmp_path, "-u", "2", "--listeners", "2", seconds=5)
    assert result.exit_code == 1
    assert result.faults == {"UNREACHABLE"}
    assert "NOTHING WAS MEASURED" in result.output


def test_a_host_that_is_no_url_is_said_in_a_sentence(tmp_path: Path) -> None:
    result = swarm("loadtests/chat.py", "gateway.example", tmp_path, "-u", "1", seconds=1)
    assert (result.faults, result.exit_code) == ({"UNREACHABLE"}, 1)
    assert "--host 'gateway.example' is no URL of a gateway: say https://gateway.example" in result.output
    assert "Traceback" not in result.output
