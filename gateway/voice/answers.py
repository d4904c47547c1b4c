"""The port to whatever answers: a turn becomes a message of a chat, and its run is read as text.

A unit that has both lanes asks the chat lane of its own process (`gateway.voice.chat_answers`). This room knows only
this port otherwise, so that an audio unit of its own loads nothing of the chat lane.
"""

from collections.abc import AsyncIterator, Callable
from typing import Literal, NamedTuple, Protocol

from gateway.access.grants import Principal
from gateway.voice.messages import ReplyState


class Question(NamedTuple):
    """A user's turn, as a message of the chat."""

    message_id: str
    """The id of the message: the same turn, heard again after a drop, has the same one."""
    text: str
    session: str = ""
    """The audio session in which it was said; empty where it was typed."""
    first: int = 0
    end: int = 0
    """The samples between which it was said, at 16 kHz."""


class PartEnd(NamedTuple):
    """The end of one text of an answer: the next does not go on with its sentence."""


class AnswerEnd(NamedTuple):
    """The end of an answer's run."""

    outcome: Literal["finish", "waiting", "stopped", "failed"]
    """How: `waiting` is for a person, who is asked something."""
    code: str = ""
    """The code of the failure, or the reason of the stop."""


AnswerPiece = str | PartEnd | AnswerEnd


class SpokenState(NamedTuple):
    """What the chat is told of an answer that is spoken."""

    run_id: str
    state: ReplyState
    chars: int
    """The end of the last word that was heard, in code points of the answer."""


class AnswerText(Protocol):
    """The answer to one question. To be closed."""

    run_id: str
    """The id of its run; empty until it has begun."""
    on_stop: Callable[[], None]
    """Called when somebody stops it; its user sets it."""

    @property
    def cursor(self) -> str:
        """Returns the cursor before its first chunk."""
        ...

    async def begin(self) -> None:
        """Returns when its run has begun: another answer may be written in the chat. Raises TrilaneError."""
        ...

    def pieces(self) -> AsyncIterator[AnswerPiece]:
        """Yields the text of the answer, from its first character, as it is written, and its end. To be called once."""
        ...

    def close(self) -> None: ...


class Answers(Protocol):
    """Asks in the chats of users.

    The caller has checked nothing: the implementer asks for every right. What is raised is TrilaneError.
    """

    async def admit(self, who: Principal, chat_id: str) -> None:
        """Raises Forbidden (`chat_forbidden`), NotFound (`chat_unknown`) where a user may not ask in a chat."""
        ...

    async def ask(self, who: Principal, chat_id: str, question: Question, model: str) -> AnswerText:
        """Asks a question, once, however often this is called with its id."""
        ...

    async def open(self, who: Principal, chat_id: str, run_id: str) -> AnswerText:
        """Returns an answer that was asked for before."""
        ...

    async def tell(self, who: Principal, chat_id: str, session: str, spoken: SpokenState, *, stops: bool) -> None:
        """Tells a chat how far an answer is spoken; `stops`: and has its run stopped."""
        ...
