"""Each user has a session of their own with a server that wants it so, bounded in number and in time."""

import asyncio
import json
from pathlib import Path

import psutil
import pytest
from msgspec import Raw

from gateway.chat.tools import user_servers
from gateway.chat.tools.mcp_toolbox import McpToolbox
from gateway.errors import ToolError, ToolUnreachable
from gateway.tool_settings import McpSettings
from tests.gateway.chat.tools.boxes import box_of, raw_server, run, until


@pytest.fixture
def settings(tmp_path: Path) -> McpSettings:
    return raw_server(notes=tmp_path / "notes", session="user")


async def call(toolbox: McpToolbox, sub: str, name: str, **arguments: object) -> object:
    await toolbox.known(sub)
    tool = next(tool for tool in toolbox.offered(sub) if tool.name == f"raw__{name}")
    result = await toolbox.call(
        tool, Raw(json.dumps(arguments).encode()), key=f"{sub}:k", sub=sub, on_progress=lambda progress: None
    )
    return json.loads(bytes(result.output))


def test_no_two_users_are_served_in_one_session(settings: McpSettings) -> None:
    async def test() -> None:
        async with box_of(settings, waits=False) as box:
            assert box.toolbox.offered("alice") == []
            pids = [await call(box.toolbox, sub, "pid") for sub in ("alice", "bob", "alice", "bob")]
            assert pids[:2] == pids[2:]
            assert pids[0] != pids[1]
            assert box.toolbox.offered("carol") == []

    run(test())


def test_the_session_that_was_used_longest_ago_makes_room(
    settings: McpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_servers, "MAX_USERS", 2)

    async def test() -> None:
        async with box_of(settings, waits=False) as box:
            alice, bob = [int(str(await call(box.toolbox, sub, "pid"))) for sub in ("alice", "bob")]
            await call(box.toolbox, "alice", "echo", text="still here")
            await call(box.toolbox, "carol", "pid")
            await until(lambda: not psutil.pid_exists(bob))
            assert psutil.pid_exists(alice)

    run(test())


def test_a_session_in_which_a_call_is_made_makes_no_room(
    settings: McpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_servers, "MAX_USERS", 1)

    async def test() -> None:
        async with box_of(settings, waits=False) as box:
            await call(box.toolbox, "alice", "pid")
            hanging = asyncio.create_task(call(box.toolbox, "alice", "hang"))
            [of_users] = box.toolbox._of_users
            await until(lambda: of_users._sessions["alice"].in_use)
            await box.toolbox.known("bob")
            assert box.toolbox.offered("bob") == []
            with pytest.raises(ToolUnreachable, match="called by 1 users already"):
                of_users._session("bob")
            hanging.cancel()
            await asyncio.wait([hanging])
            assert await call(box.toolbox, "bob", "echo", text="now") == "now"

    run(test())


def test_a_session_that_nobody_uses_is_ended(settings: McpSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_servers, "LOOK_S", 0.05)
    monkeypatch.setattr(user_servers, "IDLE_S", 0.3)

    async def test() -> None:
        async with box_of(settings, waits=False) as box:
            pid = int(str(await call(box.toolbox, "alice", "pid")))
            await until(lambda: not psutil.pid_exists(pid))
            assert len(box.toolbox._of_users[0]) == 0
            assert await call(box.toolbox, "alice", "echo", text="again") == "again"

    run(test())


def test_a_server_that_hangs_keeps_a_user_waiting_once(settings: McpSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_servers, "KNOWN_S", 0.2)
    silent = McpSettings(name="silent", command=["sleep", "600"], env={"PATH": "/bin:/usr/bin"}, session="user")

    async def test() -> None:
        async with box_of(silent, waits=False) as box:
            await box.toolbox.known("alice")
            began = asyncio.get_running_loop().time()
            await box.toolbox.known("alice")
            assert asyncio.get_running_loop().time() - began < 0.1

    run(test())


def test_the_crash_of_one_users_session_leaves_the_others(settings: McpSettings) -> None:
    async def test() -> None:
        async with box_of(settings, waits=False) as box:
            bob = await call(box.toolbox, "bob", "pid")
            with pytest.raises(ToolError):
                await call(box.toolbox, "alice", "crash")
            assert await call(box.toolbox, "bob", "pid") == bob

    run(test())
