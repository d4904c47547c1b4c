"""Keeps who is signed in to one server of tools, by OAuth, and lets users sign in.

What is kept of a user is one topic that the user owns: the tokens are the user's alone, go with everything else of the
user, and are encrypted as the log is. A sign-in is begun and ended by the same user, whichever processes take the two
requests: its state is good for that user, once, and for SIGN_IN_S.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TypeVar

import msgspec

from events.log.port import NO_EVENTS, Append, EventLog
from gateway.errors import BadRequest, Gone, LogConflict
from gateway.tool_settings import McpSettings

SIGN_IN_S = 900.0
"""Seconds in which a sign-in that was begun has to come back."""
TOPICS = "mcp/"
DIGEST_CHARS = 40
CONFLICT_TRIES = 5
T = TypeVar("T")


class BegunSignIn(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in that a user was sent to the authorization server for."""

    url: str
    state: str
    verifier: str
    """The secret of the request (RFC 7636), which comes with the code."""
    until: float = 0.0
    """Seconds since 1970 after which it is too late."""
    chat_id: str = ""
    """The chat that waits for it."""
    client: dict[str, object] = {}
    """The gateway's registration that it was begun with."""


class UserSignIn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one user."""

    tokens: dict[str, object] | None = None
    """The tokens as the authorization server gave them; None for a user who is not signed in."""
    expires_at: float = 0.0
    """Seconds since 1970 when the access token ends; 0 where that is not known."""
    client: dict[str, object] | None = None
    """The registration that the tokens were given to."""
    begun: BegunSignIn | None = None


class SignInAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an authorization server sends a browser back with."""

    state: str
    code: str = ""
    issuer: str | None = None
    error: str = ""


class SignIns:
    """The sign-ins to one server."""

    def __init__(self, settings: McpSettings, public_url: str, event_log: EventLog) -> None:
        self.settings = settings
        base = f"{public_url.rstrip('/')}/api/mcp/{settings.name}"
        self.address = f"{base}/sign-in"
        self.callback = f"{base}/callback"
        self.begin_at: Callable[[str], Awaitable[BegunSignIn | None]]
        """Asks the server where a user signs in; None for one who is signed in. Raises ToolUnreachable."""
        self.exchange: Callable[[str, BegunSignIn, SignInAnswer], Awaitable[None]]
        """Gets the tokens for an answer, and keeps them. Raises ToolUnreachable."""
        self.on_change: Callable[[str], None] = lambda sub: None
        """Called with a user whose tokens are other ones now."""
        self._log = event_log

    async def is_signed_in(self, sub: str) -> bool:
        return (await self.read(sub)).tokens is not None

    async def begin(self, sub: str, chat_id: str) -> str:
        """Returns the address to send a user's browser to; empty for one who is signed in."""
        begun = await self.begin_at(sub)
        if begun is None:
            return ""
        begun = msgspec.structs.replace(begun, until=time.time() + SIGN_IN_S, chat_id=chat_id)
        await self.change(sub, lambda known: msgspec.structs.replace(known, begun=begun))
        return begun.url

    async def finish(self, sub: str, answer: SignInAnswer) -> str:
        """Signs a user in, and returns the id of the chat that waits for that.

        Raises BadRequest (`bad_state`, `sign_in_refused`), Gone (`sign_in_expired`).
        """
        taken: list[BegunSignIn] = []

        def take(known: UserSignIn) -> UserSignIn:
            begun = known.begun
            if begun is None or not secrets.compare_digest(begun.state.encode(), answer.state.encode()):
                raise BadRequest("this sign-in was not begun here, or is over: begin it again", code="bad_state")
            taken[:] = [begun]
            return msgspec.structs.replace(known, begun=None)

        await self.change(sub, take)
        [begun] = taken
        if time.time() > begun.until:
            raise Gone("this sign-in took too long: begin it again", code="sign_in_expired")
        if answer.error or not answer.code:
            raise BadRequest(f"{self.settings.name} did not sign you in: {answer.error[:80]!r}", code="sign_in_refused")
        await self.exchange(sub, begun, answer)
        self.on_change(sub)
        return begun.chat_id

    # What is kept

    async def read(self, sub: str) -> UserSignIn:
        return (await self._read(self._topic(sub), UserSignIn))[0] or UserSignIn()

    async def change(self, sub: str, change: Callable[[UserSignIn], UserSignIn]) -> None:
        """Keeps what `change` makes of what is known of a user; it is called again where another change was first."""
        topic = self._topic(sub)
        for _ in range(CONFLICT_TRIES):
            known, head = await self._read(topic, UserSignIn)
            data = [msgspec.json.encode(change(known or UserSignIn()))]
            try:
                await self._log.append(Append(topic=topic, owner=sub, data=data, name="sign-in", expect=head + 1))
                return
            except LogConflict:
                continue
        raise LogConflict(topic, None, -1)

    async def client(self) -> dict[str, object] | None:
        """Returns the gateway's own registration, which new sign-ins are made with."""
        return (await self._read(self._client_topic, dict[str, object]))[0]

    async def keep_client(self, client: dict[str, object]) -> None:
        await self._log.append(Append(topic=self._client_topic, data=[msgspec.json.encode(client)], name="client"))

    async def _read(self, topic: str, kind: type[T]) -> tuple[T | None, int]:
        head = (await self._log.read(topic, NO_EVENTS, max_events=1)).head
        newest = (await self._log.read(topic, head - 1, max_events=1)).blocks if head else ()
        return (msgspec.json.decode(newest[-1].data[-1], type=kind) if newest else None), head

    def _topic(self, sub: str) -> str:
        name = f"{self.settings.name}\0{self.settings.url}\0{sub}".encode("utf-8", "surrogatepass")
        return TOPICS + sha256(name).hexdigest()[:DIGEST_CHARS]

    @property
    def _client_topic(self) -> str:
        name = f"{self.settings.name}\0{self.settings.url}\0{self.callback}".encode()
        return f"{TOPICS}client-{sha256(name).hexdigest()[:DIGEST_CHARS]}"
