"""A sign-in is one user's, is good once and in time, and what is kept of it is one topic of the user's own."""

import asyncio

import pytest

from events.log.memory import MemoryLog
from gateway.chat.tools import sign_ins
from gateway.chat.tools.sign_ins import BegunSignIn, SignInAnswer, SignIns, UserSignIn
from gateway.core.personal import personal_topics
from gateway.errors import BadRequest, Gone, ToolUnreachable
from gateway.tool_settings import McpSettings

CRM = McpSettings(name="crm", url="https://crm.example/mcp", auth="oauth")


class Stage:
    """The sign-ins of two processes on one log, to a server that says yes to everybody."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.exchanged: list[tuple[str, str]] = []
        self.changed: list[str] = []
        self.one, self.other = self._process(), self._process()
        self._count = 0

    def _process(self) -> SignIns:
        made = SignIns(CRM, "https://gw.example/", self.log)

        async def begin_at(sub: str) -> BegunSignIn | None:
            if await made.is_signed_in(sub):
                return None
            self._count += 1
            state = f"state-{self._count}"
            return BegunSignIn(url=f"https://id.example/?state={state}", state=state, verifier="v")

        async def exchange(sub: str, begun: BegunSignIn, answer: SignInAnswer) -> None:
            self.exchanged.append((sub, answer.code))
            tokens: dict[str, object] = {"access_token": answer.code}
            await made.change(sub, lambda known: UserSignIn(tokens=tokens, begun=known.begun))

        made.begin_at, made.exchange, made.on_change = begin_at, exchange, self.changed.append
        return made


async def staged() -> Stage:
    stage = Stage()
    await stage.log.open()
    return stage


def back(state: str, code: str = "c1", error: str = "") -> SignInAnswer:
    return SignInAnswer(state=state, code="" if error else code, error=error)


async def refusal(sign_in: SignIns, sub: str, answer: SignInAnswer) -> str:
    with pytest.raises((BadRequest, Gone)) as error:
        await sign_in.finish(sub, answer)
    return error.value.code


def test_a_sign_in_that_one_process_begins_another_ends_once() -> None:
    async def test() -> None:
        stage = await staged()
        assert await stage.one.begin("alice", "c") == "https://id.example/?state=state-1"
        assert await stage.other.finish("alice", back("state-1")) == "c"
        assert await refusal(stage.one, "alice", back("state-1")) == "bad_state"
        assert stage.exchanged == [("alice", "c1")]
        assert stage.changed == ["alice"]
        assert await stage.one.begin("alice", "c") == "", "she is signed in"

    asyncio.run(test())


def test_of_two_answers_at_once_one_is_taken() -> None:
    async def test() -> None:
        stage = await staged()
        await stage.one.begin("alice", "c")
        both = [one.finish("alice", back("state-1")) for one in (stage.one, stage.other)]
        results = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["BadRequest", "str"]
        assert len(stage.exchanged) == 1

    asyncio.run(test())


def test_nobody_ends_the_sign_in_of_another() -> None:
    async def test() -> None:
        stage = await staged()
        await stage.one.begin("alice", "c")
        assert await refusal(stage.one, "bob", back("state-1")) == "bad_state"
        assert await refusal(stage.one, "alice", back("")) == "bad_state"
        await stage.one.finish("alice", back("state-1"))
        assert (await stage.one.is_signed_in("alice"), await stage.one.is_signed_in("bob")) == (True, False)

    asyncio.run(test())


def test_an_answer_that_is_late_or_says_no_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        stage = await staged()
        await stage.one.begin("alice", "c")
        assert await refusal(stage.one, "alice", back("state-1", error="access_denied")) == "sign_in_refused"
        assert await refusal(stage.one, "alice", back("state-1")) == "bad_state"
        monkeypatch.setattr(sign_ins, "SIGN_IN_S", -1.0)
        await stage.one.begin("alice", "c")
        assert await refusal(stage.one, "alice", back("state-2")) == "sign_in_expired"
        assert not stage.exchanged

    asyncio.run(test())


def test_a_second_sign_in_takes_the_place_of_the_first_and_a_failed_one_can_be_begun_again() -> None:
    async def test() -> None:
        stage = await staged()
        await stage.one.begin("alice", "c1")
        await stage.one.begin("alice", "c2")
        assert await refusal(stage.one, "alice", back("state-1")) == "bad_state"

        async def fail(sub: str, begun: BegunSignIn, answer: SignInAnswer) -> None:
            raise ToolUnreachable("crm: away")

        works, stage.one.exchange = stage.one.exchange, fail
        with pytest.raises(ToolUnreachable):
            await stage.one.finish("alice", back("state-2"))
        stage.one.exchange = works
        await stage.one.begin("alice", "c2")
        assert await stage.one.finish("alice", back("state-3")) == "c2"

    asyncio.run(test())


def test_what_is_kept_is_the_users_own() -> None:
    async def test() -> None:
        stage = await staged()
        await stage.one.begin("alice", "c")
        await stage.one.finish("alice", back("state-1"))
        await stage.one.keep_client({"client_id": "gateway"})
        [topic] = await personal_topics(stage.log, "alice")
        assert topic.topic.startswith("mcp/")
        assert await personal_topics(stage.log, "bob") == []
        await stage.log.delete(topic.topic)
        assert not await stage.one.is_signed_in("alice")
        assert await stage.other.client() == {"client_id": "gateway"}

    asyncio.run(test())
