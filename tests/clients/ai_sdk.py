"""The AI SDK's own client runs in a Node process for each version, and takes one JSON command per line.

Owns the process and what a user would see of a chat. The client is not touched: `js/driver.mjs` calls its public
methods, behind a TCP proxy that can cut its connections.
"""

import itertools
import subprocess
import threading
from concurrent.futures import Future
from typing import IO, Any

import msgspec

from tests.clients.node import JS, tool

ANSWER_S = 20.0


class Message(msgspec.Struct):
    id: str
    role: str
    parts: list[dict[str, Any]]
    metadata: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def reasoning(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "reasoning")

    @property
    def tools(self) -> list[dict[str, Any]]:
        return [part for part in self.parts if part["type"].startswith("tool-")]

    @property
    def contents(self) -> tuple[str, str, list[Any]]:
        """Returns what must be the same wherever this message is shown: ids and contents, without what only a client
        keeps.
        """
        parts = [
            (p["type"], p.get("text") or [p.get(field) for field in ("toolCallId", "state", "input", "output", "data")])
            for p in self.parts
            if p["type"] != "step-start"
        ]
        return self.id, self.role, parts


class View(msgspec.Struct):
    """A chat as one client shows it."""

    status: str
    messages: list[Message]
    error: str | None = None
    errors: list[str] = []
    posts: int = 0
    """Number of requests that have posted something."""
    received: int = 0
    """Bytes that have come of the server, heads of responses and all."""

    @property
    def answers(self) -> list[Message]:
        return [message for message in self.messages if message.role == "assistant"]

    @property
    def answer(self) -> Message:
        """Returns the only answer."""
        [only] = self.answers
        return only


class AISDK:
    """Runs one version of the package `ai` in a process of its own."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._process = subprocess.Popen(
            [tool("node"), str(JS / "driver.mjs"), version], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._pending: dict[int, Future[Any]] = {}
        self._ids = itertools.count(1)
        self._clients = itertools.count(1)
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def open(self, url: str, chat_id: str, messages: list[Message] | None = None, **how: Any) -> "ChatClient":
        """Opens a client of that chat with the messages that it had kept; it connects only when told to."""
        client = ChatClient(self, f"client-{next(self._clients)}", chat_id)
        client.call("open", url=url, chatId=chat_id, messages=msgspec.to_builtins(messages or []), **how)
        return client

    def schema_errors(self, chunks: list[dict[str, Any]]) -> list[str]:
        """Returns what this version's schema has against any of the chunks."""
        verdicts = self.begin("validate", chunks=chunks).result(ANSWER_S)
        return [f"{chunk}: {why}" for chunk, why in zip(chunks, verdicts, strict=True) if why]

    def begin(self, command: str, **arguments: Any) -> "Future[Any]":
        number, answer = next(self._ids), Future[Any]()
        self._pending[number] = answer
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(msgspec.json.encode({"id": number, "command": command, **arguments}) + b"\n")
        stdin.flush()
        return answer

    def _listen(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            reply = msgspec.json.decode(line)
            pending = self._pending.pop(reply["id"])
            if "failed" in reply:
                pending.set_exception(AssertionError(reply["failed"]))
            else:
                pending.set_result(reply.get("result"))
        for pending in self._pending.values():
            pending.set_exception(AssertionError(f"{self.version}: the driver has ended"))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._listener.join(5)
        self._process.stdout.close()


class Call:
    """A command under way; `view()` waits for the client's promise and returns what it then shows."""

    def __init__(self, answer: "Future[Any]") -> None:
        self._answer = answer

    @property
    def done(self) -> bool:
        return self._answer.done()

    def view(self) -> View:
        return msgspec.convert(self._answer.result(ANSWER_S), View)


class ChatClient:
    """One device in one chat."""

    def __init__(self, sdk: AISDK, name: str, chat_id: str) -> None:
        self._sdk = sdk
        self._name = name
        self.chat_id = chat_id

    def begin(self, command: str, **arguments: Any) -> Call:
        return Call(self._sdk.begin(command, client=self._name, **arguments))

    def call(self, command: str, **arguments: Any) -> View:
        return self.begin(command, **arguments).view()

    def begin_send(self, text: str, message_id: str | None = None, **body: Any) -> Call:
        """Calls `sendMessage`; `message_id` edits that message, `body` is what an application adds to the request."""
        message = {"text": text, "messageId": message_id} if message_id else {"text": text}
        return self.begin("send", message=message, body=body)

    def send(self, text: str, message_id: str | None = None, **body: Any) -> View:
        return self.begin_send(text, message_id, **body).view()

    def send_again(self) -> View:
        """Calls `sendMessage()` without a message, as an application's "try again" does."""
        return self.call("send")

    def regenerate(self, message_id: str | None = None, **body: Any) -> View:
        arguments = {"messageId": message_id} if message_id else {}
        return self.call("regenerate", body=body, **arguments)

    def show(self, ids: list[str], **texts: str) -> View:
        """Calls `setMessages` with the messages of these ids; `texts` replaces the texts of some of them."""
        return self.call("show", ids=ids, texts=texts)

    def resume(self) -> View:
        return self.call("resume")

    def until(self, **conditions: Any) -> View:
        """Waits for `status`, `messages` (how many), `parts` (of the last one), `chars` (of the last answer's text)."""
        return self.call("until", **conditions)

    def view(self) -> View:
        return self.call("view")

    def cut(self) -> None:
        """Resets its connections."""
        self.call("cut")

    def cut_after(self, count: int) -> None:
        """Ends the connection once so many further bytes have arrived."""
        self.call("cutAfter", bytes=count)

    def close(self) -> None:
        self._sdk.begin("close", client=self._name).result(ANSWER_S)
