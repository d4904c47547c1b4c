"""What SIGHUP does to a process that serves alone: the file of upstreams is read anew, or nothing changes."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.commands.serve import Hangup
from gateway.errors import ConfigurationError
from gateway.settings import Settings, load

ONE = '[[upstream]]\nname = "one"\nbase_url = "http://one/v1"\n'
AGENT = '[[upstream]]\nname = "agent"\nkind = "ag-ui"\nbase_url = "http://agent"\n'
PRICE = '[[price]]\nmodel = "m"\ninput = 1\n'
TOOLS = '[[mcp]]\nname = "tools"\nurl = "http://tools/mcp"\n'


class HangupBench:
    """A process's unit and server, as far as SIGHUP touches them."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.path.write_text(text)
        self.reloaded: list[Settings] = []
        self.exits: list[int] = []
        self.failure: ConfigurationError | None = None
        self.hangup = Hangup(self, self, load())  # type: ignore[arg-type]

    def reload(self, settings: Settings) -> None:
        if self.failure is not None:
            raise self.failure
        self.reloaded.append(settings)

    def handle_exit(self, sig: int, frame: object) -> None:
        self.exits.append(sig)

    def hang_up(self, text: str) -> list[Any]:
        """Writes the file and sends the signal; returns what was logged."""
        self.path.write_text(text)
        with capture_logs() as lines:
            self.hangup()
        return lines


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HangupBench:
    path = tmp_path / "upstreams.toml"
    monkeypatch.setenv("TRILANE_UPSTREAMS", str(path))
    return HangupBench(path, ONE)


def test_the_upstreams_are_read_anew(bench: HangupBench) -> None:
    [line] = bench.hang_up(ONE + ONE.replace("one", "two"))
    assert [one.name for one in bench.reloaded[0].upstreams] == ["one", "two"]
    assert (line["log_level"], line["upstreams"]) == ("info", ["one", "two"])


def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(bench: HangupBench) -> None:
    [line] = bench.hang_up(ONE + "weight = 'much'\n")
    assert (line["log_level"], bench.reloaded) == ("error", [])
    assert "line 4: [[upstream]] 'one'" in line["reason"]
    bench.path.unlink()
    with capture_logs() as lines:
        bench.hangup()
    assert "upstreams.toml" in lines[0]["reason"]
    bench.failure = ConfigurationError("no such certificate")
    assert bench.hang_up(ONE)[0]["reason"] == "no such certificate"


@pytest.mark.parametrize(("more", "named"), [(AGENT, "agents"), (PRICE, "[[price]]"), (TOOLS, "[[mcp]]")])
def test_what_else_has_changed_is_named_until_the_next_start(bench: HangupBench, more: str, named: str) -> None:
    for _ in range(2):
        info, warning = bench.hang_up(ONE + more)
        assert (info["upstreams"], warning["log_level"], warning["changed"]) == (["one"], "warning", [named])


def test_a_terminal_that_is_gone_ends_it(bench: HangupBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.isatty", lambda fd: True)
    started_in_a_terminal = HangupBench(bench.path, ONE)
    started_in_a_terminal.hang_up(ONE)
    assert (len(started_in_a_terminal.reloaded), started_in_a_terminal.exits) == (1, [])
    monkeypatch.setattr("os.isatty", lambda fd: False)
    started_in_a_terminal.hang_up(ONE)
    assert (len(started_in_a_terminal.reloaded), len(started_in_a_terminal.exits)) == (1, 1)
