"""A user signs in to a real server by its real authorization server, and what waits for that goes on."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import uvicorn

from events.log.memory import MemoryLog
from gateway.chat.tools.fake import FakeToolbox
from gateway.chat.tools.mcp_toolbox import McpToolbox, open_toolbox
from gateway.chat.tools.sign_ins import SignInAnswer
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.tool_settings import McpSettings, ToolServers, ToolSettings
from loadtests.ports import free_port
from tests.conftest import eventually
from tests.support.followers import LOCAL
from tests.support.mcp_authority import MachineTokens, Provider, authority_of
from tests.support.scripted_upstream import ScriptedBody
from tests.support.tool_stage import ToolStage, calls, says, staged

SIGN_IN, WHOAMI = ("k1", "crm__sign_in", {}), ("k2", "crm__whoami", {})
Play = Callable[[ToolStage], Awaitable[None]]


@pytest.fixture(scope="module")
def provider() -> Generator[Provider]:
    port = free_port()
    server, provider = authority_of(port)
    with serving_at(port, server.streamable_http_app()):
        yield provider


@contextmanager
def serving_at(port: int, app: Any) -> Generator[None]:
    serving = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=serving.run)
    thread.start()
    eventually(lambda: serving.started, what="the server listens")
    yield
    serving.should_exit = True
    thread.join()


def settings_of(provider: Provider) -> Settings:
    whoami = ToolSettings(approve="auto", effect="read")
    crm = McpSettings(name="crm", url=f"{provider.url}/mcp", auth="oauth", session="user", tools={"whoami": whoami})
    return Settings(tools=ToolServers(mcp=[crm]), log="memory:", public_url="http://127.0.0.1:9")


def play(provider: Provider, scene: Play, *answers: ScriptedBody) -> None:
    play_with(settings_of(provider), scene, *answers)


def play_with(settings: Settings, scene: Play, *answers: ScriptedBody) -> None:
    async def whole() -> None:
        log = MemoryLog()
        toolbox = open_toolbox(settings, log)
        assert isinstance(toolbox, McpToolbox)
        async with asyncio.timeout(100), staged(cast(FakeToolbox, toolbox), *answers, log=log) as stage:
            await scene(stage)

    asyncio.run(whole())


async def come_back(address: str, who: str = "ann") -> SignInAnswer:
    """Returns what the authorization server sends the browser of `who` back with."""
    async with httpx2.AsyncClient() as browser:
        asked = await browser.get(address)
        consented = await browser.get(asked.headers["location"], headers={"cookie": f"who={who}"})
    query = parse_qs(urlsplit(consented.headers["location"]).query)
    return SignInAnswer(state=query["state"][0], code=query.get("code", [""])[0], error=query.get("error", [""])[0])


async def sign_in(stage: ToolStage, who: str = "ann") -> None:
    address = await stage.lane.tool_sign_in.begin(LOCAL, "crm", "c")
    await stage.lane.tool_sign_in.finish(LOCAL, "crm", await come_back(address, who))


async def whoami(stage: ToolStage) -> object:
    """Returns what the tool has answered last, once nothing runs."""
    while (await stage.snapshot()).active_run is not None:  # noqa: ASYNC110 a run goes on in steps
        await asyncio.sleep(0.02)
    return [part for part in await stage.parts() if part["toolName"] == "crm__whoami"][-1].get("output")


def offered(stage: ToolStage, number: int) -> list[str]:
    request, _ = stage.upstream.requests[number]
    return [tool["function"]["name"] for tool in request["tools"]]  # type: ignore[union-attr]


def test_a_call_waits_for_its_user_to_sign_in_and_then_goes_on(provider: Provider) -> None:
    async def scene(stage: ToolStage) -> None:
        await stage.say("who am I?")
        assert offered(stage, 0) == ["crm__sign_in"]
        [ask] = (await stage.snapshot()).pending
        assert (ask.kind, ask.url) == ("approval", "http://127.0.0.1:9/api/mcp/crm/sign-in?chat=c")
        [told] = await stage.parts("data-approval")
        assert (told["data"]["note"], told["data"]["url"]) == ("sign_in", ask.url)
        await sign_in(stage)
        assert await whoami(stage) == {"result": "ann"}
        assert offered(stage, 1) == ["crm__whoami"]

    play(provider, scene, calls(SIGN_IN), calls(WHOAMI), says("You are Ann."))


def test_an_access_token_that_is_revoked_is_refreshed_and_no_call_is_lost(provider: Provider) -> None:
    async def scene(stage: ToolStage) -> None:
        await sign_in(stage)
        await stage.say("who am I?")
        provider.revoke("ann", "access")
        refreshed = provider.counts["refreshed"]
        await stage.say("and now?")
        assert await whoami(stage) == {"result": "ann"}
        assert provider.counts["refreshed"] == refreshed + 1

    play(provider, scene, calls(WHOAMI), says("Ann."), calls(WHOAMI), says("Ann."))


def test_a_call_of_one_whose_tokens_are_revoked_asks_again(provider: Provider) -> None:
    async def scene(stage: ToolStage) -> None:
        await sign_in(stage)
        await stage.say("who am I?")
        provider.revoke("ann", "all")
        await stage.say("and now?")
        [ask] = (await stage.snapshot()).pending
        assert ask.tool_name == "crm__whoami"
        await sign_in(stage, "eve")
        assert await whoami(stage) == {"result": "eve"}

    play(provider, scene, calls(WHOAMI), says("Ann."), calls(WHOAMI), says("Eve."))


@pytest.mark.parametrize("secret", ["secret-of-the-machine", "wrong"])
def test_the_gateway_signs_itself_in_by_its_credentials(secret: str) -> None:
    port = free_port()
    server, provider = authority_of(port)
    app = MachineTokens(server.streamable_http_app(), provider)
    crm = McpSettings(
        name="crm",
        url=f"{provider.url}/mcp",
        auth="client-credentials",
        client_id="machine",
        client_secret=secret,
        issuer=provider.url,
        tools={"whoami": ToolSettings(approve="auto", effect="read")},
    )
    settings = Settings(tools=ToolServers(mcp=[crm]), log="memory:")

    async def scene(stage: ToolStage) -> None:
        await stage.say("who am I?")
        if secret == "wrong":
            assert "tools" not in stage.upstream.requests[0][0]
            assert not provider.counts["machine"]
        else:
            assert await whoami(stage) == {"result": "the machine"}
            assert provider.counts["machine"] == 1

    with serving_at(port, app):
        play_with(settings, scene, *([says("No.")] if secret == "wrong" else [calls(WHOAMI), says("A machine.")]))


def test_what_signing_in_needs_is_asked_for_at_the_start(provider: Provider) -> None:
    settings = settings_of(provider)
    for lacking, words in ((Settings(tools=settings.tools), "TRILANE_PUBLIC_URL"),):
        with pytest.raises(ConfigurationError, match=words):
            open_toolbox(lacking, MemoryLog())
    with pytest.raises(ConfigurationError, match="TRILANE_ENCRYPTION_KEY"):
        open_toolbox(Settings(tools=settings.tools, public_url="https://gw.example"), MemoryLog())
