"""A run with tools whose process dies is gone on with by another, and no tool acts twice that must not."""

import asyncio
from typing import Any, cast

import pytest

from events.log.memory import MemoryLog
from events.log.port import Append, Appended, EventLog
from gateway.chat.abandoned import RunSoFar
from gateway.chat.history import History
from gateway.chat.records.chat_record import ParkedRequest, RunInfo, RunStarted
from gateway.chat.recovery import recovery_of
from gateway.chat.tools.fake import FakeCall, FakeToolbox, fake_tool
from gateway.chat.tools.toolbox import Effect
from gateway.errors import LogError, ToolTimeout
from tests.support.chats import fold, user
from tests.support.tool_stage import ToolStage, calls, says, staged
from tests.support.virtual_time import simulated

CALL = ("k1", "crm__refund", {"order": 7})
RECOVERED_S = 40.0
EFFECTS: list[Effect] = ["read", "idempotent", "once"]


class Door:
    """A log as one process sees it, which is stopped at one of its appends, before that counts or after."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._left = 1 << 30
        self._is_lost = False
        self._waiting: list[
            tuple[tuple[Append, ...] | asyncio.Future[list[Appended]], asyncio.Future[list[Appended]]]
        ] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def stop(self, at: int, *, is_lost: bool) -> None:
        """Stops at the append of this number from now on; `is_lost` when it does not come to the log meanwhile."""
        self._left, self._is_lost = at, is_lost

    def append(self, *appends: Append, patient: bool = False) -> "asyncio.Future[list[Appended]]":
        self._left -= 1
        if self._left > 0:
            return self._log.append(*appends, patient=patient)
        answer: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        is_written = self._left == 0 and not self._is_lost
        self._waiting.append((self._log.append(*appends) if is_written else appends, answer))
        return answer

    async def wake(self) -> None:
        """Lets the process go on as if it had been stopped: what it wrote comes to the log only now."""
        self._left = 1 << 30
        for written, answer in self._waiting:
            try:
                done = await (self._log.append(*written) if isinstance(written, tuple) else written)
                if not answer.done():
                    answer.set_result(done)
            except LogError as err:
                if not answer.done():
                    answer.set_exception(err)
            await asyncio.sleep(0)


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("is_lost", [False, True], ids=["written", "lost"])
@pytest.mark.parametrize("stops_at", range(1, 9))
def test_wherever_a_process_stops_no_call_acts_twice_and_the_chat_is_never_stuck(
    effect: Effect, stops_at: int, *, is_lost: bool
) -> None:
    acted: list[str] = []

    async def refund(call: FakeCall) -> object:
        call.act()
        acted.append(call.key)
        await asyncio.sleep(0.1)
        return {"ok": True}

    @simulated
    async def play() -> None:
        toolbox = FakeToolbox((fake_tool("crm__refund", approve="auto", effect=effect), refund))
        log = MemoryLog()
        door = Door(log)
        answers = [calls(CALL), says("Done."), says("Again.")]
        async with (
            asyncio.timeout(300),
            staged(toolbox, *answers, log=cast(EventLog, door)) as stopped,
            staged(toolbox, log=log) as stage,
        ):
            stage.upstream.answers = stopped.upstream.answers
            door.stop(stops_at, is_lost=is_lost)
            sending = asyncio.ensure_future(stopped.say("refund 7"))
            try:
                await asyncio.sleep(RECOVERED_S)
                await check(stage, toolbox)
            finally:
                await door.wake()
            async with asyncio.timeout(RECOVERED_S):
                await stopped.lane.drain()
            await check(stage, toolbox)
            sending.cancel()

    async def check(stage: ToolStage, toolbox: FakeToolbox) -> None:
        events = [data for name, data in await stage.chat_events() if name == "run-finished"]
        if not events and is_lost and stops_at == 1:
            return  # nothing was begun
        snapshot = await stage.snapshot()
        assert snapshot.active_run is None, "the chat is stuck"
        assert len(events) == 1, "a run ends once"
        assert len(acted) <= 1 or effect != "once"
        assert len(set(acted)) <= 1, "a call that is made again has its key"
        assert all(count == 1 for count in toolbox.effects.values())
        if events[0]["outcome"] == "finish":
            [part] = await stage.parts()
            assert part["state"] == ("approval-requested" if snapshot.pending else "output-available")
            assert [ask.kind for ask in snapshot.pending] in ([], ["doubt"])
        else:
            assert events[0]["code"] == "interrupted"

    play()


@pytest.mark.parametrize(
    ("answer", "calls_made", "state"),
    [
        ({"output": {"by": "hand"}}, 1, "output-available"),
        ({"approved": True}, 2, "output-available"),
        ({"approved": False, "reason": "the bank says no"}, 1, "output-error"),
    ],
    ids=["its result", "once more", "not done"],
)
@simulated
async def test_a_call_of_which_nobody_knows_is_a_question_to_a_person(
    answer: dict[str, Any], calls_made: int, state: str
) -> None:
    async def refund(call: FakeCall) -> object:
        if len(toolbox.calls) == 1:
            raise ToolTimeout("no answer within 60 s")
        return {"ok": True}

    toolbox = FakeToolbox((fake_tool("crm__refund", approve="auto", effect="idempotent"), refund))
    async with staged(toolbox, calls(CALL), says("Done.")) as stage:
        await stage.say("refund 7")
        [ask] = (await stage.snapshot()).pending
        assert (ask.kind, ask.key) == ("doubt", f"{ask.run_id}:k1")
        result = await stage.approve(ask.approval_id, **{"approved": None, **answer})
        assert result.active_run is not None
        await stage.lane.drain()
        [part] = await stage.parts()
        assert part["state"] == state
        assert toolbox.keys == [ask.key] * calls_made
        request, _ = stage.upstream.requests[1]
        [result_told] = [message["content"] for message in request["messages"] if message["role"] == "tool"]  # type: ignore
        assert ("by" in result_told, "not made: the bank says no" in result_told) == (
            "output" in answer,
            "reason" in answer,
        )


@simulated
async def test_what_a_person_has_changed_is_what_is_made_once_more() -> None:
    async def refund(call: FakeCall) -> object:
        if len(toolbox.calls) == 1:
            raise ToolTimeout("no answer within 60 s")
        return {"ok": True}

    toolbox = FakeToolbox((fake_tool("crm__refund", approve="ask", effect="idempotent", editable=True), refund))
    async with staged(toolbox, calls(CALL), says("Done.")) as stage:
        await stage.say("refund 7")
        [ask] = (await stage.snapshot()).pending
        await stage.approve(ask.approval_id, input={"order": 1})
        await stage.lane.drain()
        stage.lane.runs.draining = False
        [doubt] = (await stage.snapshot()).pending
        assert (doubt.kind, bytes(doubt.input)) == ("doubt", b'{"order":1}')
        await stage.approve(doubt.approval_id)
        await stage.lane.drain()
        assert [bytes(call.arguments) for call in toolbox.calls] == [b'{"order":1}'] * 2
        assert len(set(toolbox.keys)) == 1


@simulated
async def test_a_tool_that_goes_on_for_ever_ends_with_its_run() -> None:
    async def find(call: FakeCall) -> object:
        return {}

    toolbox = FakeToolbox((fake_tool("crm__find", approve="auto", effect="read"), find))
    async with staged(toolbox, *[calls((f"k{n}", "crm__find", {})) for n in range(3)], max_steps=3) as stage:
        records = await stage.say("find")
        assert records[-1]["type"] == "error"
        assert "TRILANE_MAX_STEPS" in records[-1]["errorText"]
        assert len(toolbox.calls) == 3


@pytest.mark.parametrize("is_agents", [True, False])
def test_no_other_process_makes_the_calls_of_an_agent(is_agents: bool) -> None:
    info = RunInfo(run_id="r", sub="u", message_id="m", chat_id="c")
    history = History(chat_id="c", active=RunStarted(run_id="r", message_id="m"))
    run = RunSoFar(info=info, request=ParkedRequest(is_agents=is_agents))
    assert (recovery_of(run, history) is None) == is_agents


def test_an_agent_that_nobody_has_asked_yet_is_asked_by_another_process() -> None:
    info = RunInfo(run_id="r", sub="u", message_id="m", chat_id="c")
    started = RunStarted(run_id="r", message_id="m")
    history = fold(History(chat_id="c"), [user("u1", "hello"), started])
    tool = {"type": "function", "function": {"name": "find"}}
    request = ParkedRequest(is_agents=True, system="be kind", fields={"tools": [tool]})
    recovery = recovery_of(RunSoFar(info=info, request=request, is_left=True), history)
    assert recovery is not None
    assert recovery.prompt is not None
    assert (recovery.prompt.system, recovery.prompt.functions) == ("be kind", [tool])
    assert [message.id for message in recovery.prompt.messages] == ["u1"]
