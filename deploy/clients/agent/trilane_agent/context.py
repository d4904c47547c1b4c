"""What an agent's function is given: the conversation, and the calls that the gateway logs.

A function may be entered several times for one answer. Its calls are numbered in the order in which it makes them, and
the gateway answers those that the log has at once; see the README for what that asks of a function.
"""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

Message = Mapping[str, Any]
"""A UI message, `{"id","role","parts"}`; for `Context.model` also `{"role","content"}`."""
Chunk = Mapping[str, Any]
"""A chunk of the AI SDK's UI Message Stream, such as `{"type": "data-step", "id": "search", "data": {...}}`."""
Effect = Literal["read", "idempotent", "once"]
"""What a step does: nothing; the same however often it is made with one key; or something anew each time."""
Say = Callable[[Mapping[str, Any]], None]


class AgentError(Exception):
    """Raise this to end an answer with a text that its user may read; that of any other exception stays with you."""


class CallFailed(Exception):
    """A tool or a step has failed; the text says why."""


class Denied(CallFailed):
    """Somebody did not allow the call; the text is their reason."""


class ModelFailed(Exception):
    """A model has failed; the text says why."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class Parked(BaseException):
    """Somebody is asked, so the function is left; it is entered again with the answer. Do not catch it."""


@dataclass(frozen=True)
class User:
    """The user whose answer this is."""

    sub: str


class Context:
    """One answer, as its agent sees it."""

    def __init__(self, job: Mapping[str, Any], say: Say, room: Callable[[], Awaitable[None]]) -> None:
        """Is made by the worker that runs the agent."""
        self.run_id = str(job["runId"])
        self.chat_id = str(job["chatId"])
        self.user = User(str(job["user"]["sub"]))
        self.messages: list[Message] = list(job["messages"])
        """The conversation, which ends with what is to be answered."""
        self.system = str(job.get("system", ""))
        """What the operator and the client say to the model itself."""
        self.extra: Mapping[str, Any] = job.get("extra", {})
        """Fields of the client's request that are not the gateway's."""
        self.cancelled = asyncio.Event()
        """Set once somebody has stopped the answer; the function is cancelled too."""
        self._say = say
        self._room = room
        self._calls = 0
        self._models = 0
        self._waits: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._answers: dict[str, asyncio.Queue[Mapping[str, Any]]] = {}
        self._steered: list[tuple[str, Message]] = [(str(one["id"]), one["message"]) for one in job.get("steers", ())]
        self._steps: set[asyncio.Future[Any]] = set()

    @property
    def text(self) -> str:
        """Returns the text of the last message."""
        parts: Sequence[Mapping[str, Any]] = self.messages[-1]["parts"] if self.messages else ()
        return "".join(str(part["text"]) for part in parts if part.get("type") == "text")

    def steers(self) -> list[Message]:
        """Returns the messages that the user has sent meanwhile, each of them once."""
        steered, self._steered = self._steered, []
        if steered:
            self._say({"type": "took", "ids": [steer_id for steer_id, _ in steered]})
        return [message for _, message in steered]

    # Logged calls

    async def tool(self, name: str, input: Mapping[str, Any] | None = None) -> Any:
        """Calls a tool of the gateway's and returns its output. Raises Denied, CallFailed."""
        number, answer = await self._call("tool", name, input)
        return _output(name, answer, number)

    async def approve(self, name: str, input: Mapping[str, Any] | None = None) -> bool:
        """Asks a person whether `name` may be done with `input`, which is what they are shown."""
        number, answer = await self._call("approve", name, input)
        if answer.get("denied"):
            return False
        return bool(_output(name, answer, number))

    async def step(
        self,
        name: str,
        function: Callable[[str], Any],
        *,
        effect: Effect = "once",
        input: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls `function(key)`, and returns what it returns, which has to be JSON; it may be a coroutine function.

        Each try of the step has the same `key`. Raises CallFailed when it raised, also where the log has that alone.
        """
        number, answer = await self._call("step", name, input, effect)
        cause: BaseException | None = None
        if answer["type"] == "make":
            waiting = self._waiting(number)
            made = asyncio.ensure_future(self._make(number, function, str(answer["key"])))
            self._steps.add(made)
            made.add_done_callback(self._steps.discard)
            cause = await asyncio.shield(made)
            answer = await self._answered(number, waiting)
        return _output(name, answer, number, cause)

    async def _make(self, number: int, function: Callable[[str], Any], key: str) -> BaseException | None:
        """Makes a step and tells what came of it; returns what it raised."""
        try:
            made = function(key)
            output: Any = await made if inspect.isawaitable(made) else made
            json.dumps(output)
        except Exception as err:
            self._say({"type": "result", "n": number, "errorText": f"{type(err).__name__}: {err}"[:2000]})
            return err
        self._say({"type": "result", "n": number, "output": output})
        return None

    async def _call(
        self, kind: str, name: str, input: Mapping[str, Any] | None, effect: Effect = "once"
    ) -> tuple[int, Mapping[str, Any]]:
        self._calls += 1
        number = self._calls
        waiting = self._waiting(number)
        call = {"type": "call", "n": number, "kind": kind, "name": name, "input": dict(input or {}), "effect": effect}
        self._say(call)
        return number, await self._answered(number, waiting)

    def _waiting(self, number: int) -> "asyncio.Future[Mapping[str, Any]]":
        waiting = self._waits[number] = asyncio.get_running_loop().create_future()
        return waiting

    async def _answered(self, number: int, waiting: "asyncio.Future[Mapping[str, Any]]") -> Mapping[str, Any]:
        answer = await waiting
        if answer["type"] == "parked":
            raise Parked
        return answer

    # Models

    async def model(
        self, messages: Sequence[Message], *, model: str = "", options: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[str, None]:
        """Yields the pieces of a model's answer. `model` is a name that the gateway knows; empty: its default.

        It is not logged: put it into a step where what it says decides on a later call. Raises ModelFailed.
        """
        self._models += 1
        model_id = f"m{self._models}"
        answer: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._answers[model_id] = answer
        asked = {"type": "model", "id": model_id, "messages": list(messages), "model": model}
        self._say({**asked, "options": dict(options or {})})
        has_ended = False
        try:
            while True:
                command = await answer.get()
                if command["type"] == "model-end":
                    has_ended = True
                    if "errorText" in command:
                        raise ModelFailed(str(command["errorText"]), str(command.get("code", "")))
                    return
                if command["kind"] == "text":
                    yield str(command["text"])
        finally:
            del self._answers[model_id]
            if not has_ended:
                self._say({"type": "model-stop", "id": model_id})

    # Of the worker

    def take(self, command: Mapping[str, Any]) -> None:
        """Hands on a command of the gateway's."""
        kind = command["type"]
        if kind in ("make", "result", "parked"):
            waiting = self._waits.pop(int(command["call"]), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(command)
        elif kind in ("delta", "model-end"):
            answer = self._answers.get(str(command["id"]))
            if answer is not None:
                answer.put_nowait(command)
        elif kind == "steer":
            self._steered.append((str(command["id"]), command["message"]))
        elif kind == "steer-gone":
            self._steered = [one for one in self._steered if one[0] != str(command["id"])]

    async def run(self, function: "AgentFunction") -> None:
        """Enters the function, and says what it yields."""
        result: Any = function(self)
        if inspect.isawaitable(result):
            await self._yielded(await result)
        elif hasattr(result, "__aiter__"):
            async for piece in cast("AsyncIterator[Any]", result):
                await self._yielded(piece)
        else:
            raise TypeError(f"an agent is an async generator or a coroutine function, not one that returns {result!r}")

    async def steps_over(self) -> None:
        """Waits for the steps that are being made: what comes of them is to be in the log."""
        while self._steps:
            await asyncio.wait(set(self._steps))

    def cancel_steps(self) -> None:
        for step in self._steps:
            step.cancel()

    async def _yielded(self, piece: Any) -> None:
        if isinstance(piece, str):
            if piece:
                self._say({"type": "text-delta", "id": "t", "delta": piece})
        elif isinstance(piece, Mapping):
            self._say(cast("Chunk", piece))
        elif piece is not None:
            raise TypeError(f"an agent yields str, or chunks as dict, not {type(piece).__name__}")
        await self._room()


AgentFunction = Callable[[Context], AsyncIterator[str | Chunk] | Awaitable[str | None]]
"""An agent: an async generator of pieces of its answer, or a coroutine function that returns all of it."""


def _output(name: str, answer: Mapping[str, Any], number: int, cause: BaseException | None = None) -> Any:
    if answer.get("denied"):
        raise Denied(str(answer.get("reason", "")) or f"{name} was not allowed")
    if "errorText" in answer:
        raise CallFailed(f"{name}: {answer['errorText']}") from cause
    return answer.get("output")
