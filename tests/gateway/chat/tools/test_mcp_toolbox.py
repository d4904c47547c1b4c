"""Tools of servers made with the package `mcp` are offered and called, over stdio and Streamable HTTP alike."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Coroutine, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest

from gateway.chat.tools.mcp_toolbox import open_toolbox
from gateway.chat.tools.toolbox import NoTools
from gateway.errors import ToolError, ToolUnreachable
from gateway.settings import Settings
from gateway.tool_settings import McpSettings, ToolSettings
from loadtests.ports import free_port
from tests.gateway.chat.tools.boxes import PACKAGE_TOOLS, Box, box_of, http_server, package_server, until

T = TypeVar("T")


class Real(NamedTuple):
    """A toolbox of one server made with the package, and the loop that it lives in."""

    box: Box
    runner: asyncio.Runner
    notes: Path
    port: int
    """Its port, or 0 where it speaks stdio."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def in_time() -> T:
            async with asyncio.timeout(110):
                return await work

        return self.runner.run(in_time())

    def output(self, name: str, **arguments: object) -> Any:
        return self.run(self.box.output(name, **arguments))


def settings_of(notes: Path, port: int) -> McpSettings:
    settings = package_server(notes, f"http://127.0.0.1:{port}/mcp" if port else "")
    return msgspec.structs.replace(settings, tools={**settings.tools, "key": ToolSettings(approve="auto")})


@pytest.fixture(scope="module", params=["stdio", "http"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Real]:
    """Opens the toolbox before there is a server over HTTP: it is found once it is there."""
    notes = tmp_path_factory.mktemp("tools") / "notes"
    port = free_port() if request.param == "http" else 0
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        box = runner.run(stack.enter_async_context(box_of(settings_of(notes, port), waits=False)))
        real = Real(box, runner, notes, port)
        if port:
            [server] = box.toolbox._servers
            real.run(server.tried.wait())
            assert (server.failure, box.tools) == ("ConnectError: All connection attempts failed", {})
            stack.enter_context(http_server(port, notes))
        real.run(box.offers())
        yield real
        real.run(stack.aclose())


def test_what_is_listed_is_offered_with_its_schema(real: Real) -> None:
    tools = real.box.tools
    assert list(tools) == PACKAGE_TOOLS
    assert tools["echo"].name == "real__echo"
    assert tools["echo"].description == "Says it back."
    schema = msgspec.json.decode(tools["add"].parameters)
    assert schema["required"] == ["a", "b"]
    assert (tools["add"].approve, tools["add"].effect) == ("ask", "once")


def test_a_tool_that_says_it_destroys_asks_though_the_operator_wrote_auto(real: Real) -> None:
    assert real.box.tools["key"].approve == "ask"


def test_structure_text_and_pictures_become_output(real: Real) -> None:
    assert real.output("add", a=1, b=2) == {"sum": 3}
    text, picture = real.output("picture")
    assert (text["text"], picture["mimeType"], picture["type"]) == ("a dot", "image/png", "image")


def test_an_error_of_the_tool_is_its_answer(real: Real) -> None:
    result = real.run(real.box.call("fail", text="no"))
    assert "fail" in result.error_text
    result = real.run(real.box.call("add", a="x"))
    assert "add" in result.error_text


def test_a_call_carries_its_key(real: Real) -> None:
    key = real.run(real.box.call("key", key="r7:call-1"))
    assert json.loads(bytes(key.output)) == {"meta": "r7:call-1", "header": "r7:call-1" if real.port else None}


def test_a_program_has_no_more_of_our_environment_than_it_was_given(real: Real) -> None:
    if not real.port:
        given = real.output("environment")
        assert given.keys() - {"LC_CTYPE"} == {"PATH", "NOTES"}  # Python sets the one by itself


def test_progress_is_told(real: Real) -> None:
    real.box.told.clear()
    assert real.output("work", steps=3, seconds=0.3) == {"result": "worked"}
    assert [(one["progress"], one["total"], one["message"]) for one in real.box.told] == [
        (step, 3, f"step {step}") for step in (1, 2, 3)
    ]


def test_a_large_result_is_cut_and_says_so(real: Real) -> None:
    for count in (2000, 10_000_000):
        text = real.output("big", count=count)
        assert "TRILANE_LIMIT_TOOL_BYTES" in text
        assert "xxxxx" in text


def test_a_call_that_is_cancelled_is_cancelled_at_the_server(real: Real) -> None:
    async def cancel() -> None:
        call = asyncio.create_task(real.box.call("hang", seconds=60))
        await until(lambda: "begun" in real.notes.read_text())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: "cancelled" in real.notes.read_text())

    real.run(cancel())


def test_another_description_is_another_tool_and_the_old_one_is_not_called(real: Real) -> None:
    old = real.box.tools["echo"]
    real.output("change", description="Says something else.")
    real.run(until(lambda: real.box.tools["echo"].digest != old.digest))
    assert real.box.tools["echo"].description == "Says something else."
    with pytest.raises(ToolUnreachable, match="no longer the tool that was offered"):
        real.run(real.box.call("echo", tool=old, text="hi"))
    assert real.output("echo", text="hi") == {"result": "hi"}


def test_a_server_that_goes_in_the_middle_of_a_call_is_found_again(real: Real) -> None:
    """It is the last test of this server."""

    async def crash() -> None:
        add = real.box.tools["add"]
        hanging = asyncio.create_task(real.box.call("hang", seconds=60))
        await until(lambda: real.notes.read_text().count("begun") == 2)
        with pytest.raises(ToolError, match="'crash' of 'real'") as error:
            await real.box.call("crash")
        assert error.value.code == "tool_failed"
        with pytest.raises(ToolError):
            await hanging
        assert real.notes.read_text().count("crash") == 1
        await until(lambda: not real.box.tools)
        if real.port:
            with pytest.raises(ToolUnreachable):
                await real.box.call("add", tool=add, a=1, b=2)

    real.run(crash())
    if real.port:
        with http_server(real.port, real.notes):
            real.run(real.box.offers())
            assert real.output("add", a=1, b=2) == {"sum": 3}


# Without servers


def test_there_are_no_tools_without_servers_and_the_package_is_not_loaded() -> None:
    program = (
        "import asyncio, sys\n"
        "from gateway.chat.tools.mcp_toolbox import open_toolbox\n"
        "from gateway.settings import Settings\n"
        "async def main(): return open_toolbox(Settings()).offered('alice')\n"
        "heavy = {'mcp', 'mcp_types', 'pydantic', 'httpx2'}\n"
        "print(asyncio.run(main()), heavy & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "() set()"
    assert isinstance(open_toolbox(Settings()), NoTools)
