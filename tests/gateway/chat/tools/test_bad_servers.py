"""Whatever a server does over stdio, a call gets its answer or the error that is true, and the next call works."""

import asyncio
import json
from pathlib import Path

import psutil
import pytest

from gateway.chat.tools import server
from gateway.chat.tools.fake import fake_tool
from gateway.errors import ToolError, ToolTimeout, ToolUnreachable
from gateway.tool_settings import McpSettings, ToolSettings
from tests.gateway.chat.tools.boxes import box_of, raw_server, run, until


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_PAUSE_S", 0.05)


def test_garbage_between_answers_is_dropped(notes: Path) -> None:
    async def test() -> None:
        async with box_of(raw_server(notes=notes)) as box:
            assert await box.output("garbage") == "after garbage"
            assert await box.output("echo", text="hi") == "hi"

    run(test())


@pytest.mark.parametrize("size", [3000, 5_000_000, 50_000_000])
def test_a_large_result_is_cut_and_says_so(size: int, notes: Path) -> None:
    async def test() -> None:
        async with box_of(raw_server(notes=notes)) as box:
            before = psutil.Process().memory_info().rss
            result = await box.call("big", bytes=size)
            text = json.loads(bytes(result.output))
            assert len(bytes(result.output)) <= 1000
            assert text.startswith("ééé")
            assert "cut: the tool gave " in text
            assert int(text.split("the tool gave ")[1].split()[0]) >= size
            assert psutil.Process().memory_info().rss - before < 40 << 20

    run(test())


def test_a_crash_in_the_middle_of_a_call_fails_the_call_and_the_server_comes_back(notes: Path) -> None:
    async def test() -> None:
        async with box_of(raw_server(notes=notes)) as box:
            crash, echo = box.tools["crash"], box.tools["echo"]
            hanging = asyncio.create_task(box.call("hang"))
            await asyncio.sleep(0)
            with pytest.raises(ToolError, match="'crash' of 'raw': its connection was cut before it answered") as error:
                await box.call("crash", tool=crash)
            assert error.value.code == "tool_failed"
            with pytest.raises(ToolError):
                await hanging
            # while it is started again, a call waits for it
            assert json.loads(bytes((await box.call("echo", tool=echo, text="again")).output)) == "again"

    run(test())
    assert notes.read_text().count("call crash") == 1


def test_a_server_that_is_killed_is_reaped_and_started_again(notes: Path) -> None:
    async def test() -> None:
        async with box_of(raw_server(notes=notes)) as box:
            for _ in range(3):
                pid = int(await box.output("pid"))
                keeper = psutil.Process(pid).ppid()
                psutil.Process(pid).kill()
                await box.offers(lambda tools: not tools)
                await box.offers()
                assert not psutil.pid_exists(keeper)
            children = psutil.Process().children(recursive=True)
            assert len([child for child in children if "raw_server.py" in " ".join(child.cmdline())]) == 2

    run(test())


def test_a_call_that_takes_too_long_is_cancelled_at_the_server(notes: Path) -> None:
    async def test() -> None:
        settings = raw_server(notes=notes, timeout_s=0.3)
        async with box_of(settings) as box:
            with pytest.raises(
                ToolTimeout, match=r"'hang' of 'raw' did not answer within 0.3 s \(`timeout_s`\)"
            ) as error:
                await box.call("hang")
            assert error.value.code == "tool_timeout"
            assert await box.output("echo", text="hi") == "hi"
            await until(lambda: "cancelled" in notes.read_text())

    run(test())


def test_a_call_that_is_cancelled_is_cancelled_at_the_server(notes: Path) -> None:
    async def test() -> None:
        async with box_of(raw_server(notes=notes)) as box:
            call = asyncio.create_task(box.call("hang"))
            await until(lambda: "call hang" in notes.read_text())
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await box.output("echo", text="hi") == "hi"
            await until(lambda: "cancelled" in notes.read_text())

    run(test())


def test_a_server_that_reads_no_more_is_ended_and_started_again(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.chat.tools.kept_process.WRITE_S", 0.3)

    async def test() -> None:
        async with box_of(raw_server(notes=notes, timeout_s=5)) as box:
            deaf = asyncio.create_task(box.call("deaf"))
            await until(lambda: "call deaf" in notes.read_text())
            with pytest.raises(ToolError):
                await box.call("echo", text="x" * 1_000_000)
            with pytest.raises(ToolError):
                await deaf
            await box.offers()
            assert await box.output("echo", text="hi") == "hi"

    run(test())


def test_a_flood_of_progress_is_thinned_out(notes: Path) -> None:
    async def test() -> None:
        async with box_of(raw_server(notes=notes)) as box:
            began = asyncio.get_running_loop().time()
            assert await box.output("flood", count=20_000) == "flooded"
            took_s = asyncio.get_running_loop().time() - began
            assert 1 <= len(box.told) <= 2 + 4 * took_s
            assert box.told[0] == {"progress": 0, "message": "mmmmmmmmmm"}

    run(test())


def test_an_error_of_the_protocol_is_an_answer(notes: Path) -> None:
    async def test() -> None:
        async with box_of(raw_server(notes=notes)) as box:
            result = await box.call("error")
            assert (result.error_text, bytes(result.output)) == ("no such argument", b'"no such argument"')

    run(test())


def test_a_slow_start_is_waited_for_and_a_failed_one_is_told(notes: Path) -> None:
    async def test() -> None:
        missing = McpSettings(name="missing", command=["/no/such/program"])
        async with box_of(missing, raw_server("slow", notes=notes), waits=False) as box:
            assert box.tools == {}
            await box.offers()
            assert await box.output("echo", text="hi") == "hi"
            one, _ = box.toolbox._servers
            assert one.failure == "it ended with status 127: /no/such/program: No such file or directory"
            assert set(tool.name for tool in box.toolbox.offered("alice")) == {f"raw__{name}" for name in box.tools}

    run(test())


def test_a_tool_of_a_server_that_does_not_start_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECT_WAIT_S", 0.2)

    async def test() -> None:
        tools = {"echo": ToolSettings()}
        async with box_of(McpSettings(name="raw", command=["false"], tools=tools), waits=False) as box:
            [one] = box.toolbox._servers
            await one.tried.wait()
            with pytest.raises(ToolUnreachable, match="'echo' of 'raw': it ended with status 1") as error:
                await box.call("echo", tool=fake_tool("raw__echo"))
            assert error.value.code == "tool_unreachable"
            with pytest.raises(ToolUnreachable, match="'raw__no' is not in the settings"):
                await box.call("no", tool=fake_tool("raw__no"))

    run(test())


def test_two_servers_do_not_end_one_another(notes: Path) -> None:
    async def test() -> None:
        async with box_of(raw_server(notes=notes), raw_server(notes=notes, name="other")) as box:
            await box.offers(lambda tools: len(box.toolbox.offered("alice")) == 18)
            other = next(tool for tool in box.toolbox.offered("alice") if tool.name == "other__hang")
            hanging = asyncio.create_task(box.call("hang", tool=other))
            crash = next(tool for tool in box.toolbox.offered("alice") if tool.name == "raw__crash")
            with pytest.raises(ToolError):
                await box.call("crash", tool=crash)
            await asyncio.sleep(0.2)
            assert not hanging.done()
            hanging.cancel()
            await asyncio.wait([hanging])

    run(test())


def test_calls_at_once_get_their_own_answers(notes: Path) -> None:
    async def test() -> None:
        async with box_of(raw_server(notes=notes)) as box:
            calls = [box.output("echo", key=f"r:{n}", text=str(n)) for n in range(200)]
            assert await asyncio.gather(*calls) == [str(n) for n in range(200)]

    run(test())


def test_what_is_known_waits_for_a_slow_server_and_not_for_a_dead_one(notes: Path) -> None:
    async def test() -> None:
        dead = McpSettings(name="dead", command=["false"], tools={"echo": ToolSettings()})
        async with box_of(dead, raw_server("slow", notes=notes), waits=False) as box:
            await box.toolbox.known("alice")
            assert await box.output("echo", text="hi") == "hi"

    run(test())


def test_what_is_known_waits_for_a_server_that_hangs_in_bounded_time(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.chat.tools.mcp_toolbox.KNOWN_S", 0.2)

    async def test() -> None:
        silent = McpSettings(name="silent", command=["sleep", "600"], env={"PATH": "/bin:/usr/bin"})
        async with box_of(silent, waits=False) as box:
            await box.toolbox.known("alice")
            assert box.tools == {}

    run(test())
