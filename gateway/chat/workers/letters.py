"""What processes of one log write to each other about runs that workers have: which wait, requests, and replies. Pure.

Each process has a topic of its own, its box, to which the others append their letters. All follow the topic of the runs
that wait.
"""

import msgspec
from msgspec import Raw

from events.log.port import Append
from gateway.errors import TrilaneError

WAITING = "waiting/workers"
"""The topic of the runs for which no worker waits where they are written."""
BOXES = "work/"
WAITS, LETTER, REPLY = "waits", "letter", "reply"
"""Names of the events: runs that wait, a letter, and its reply."""


class WaitingRuns(msgspec.Struct, frozen=True, rename="camel"):
    """The runs of one process that wait for a worker."""

    process: str
    runs: dict[str, list[str]]
    """Ids of runs, by agent."""


class _AboutRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    """The base of what the process of a run is asked, on behalf of a worker that has come to another."""

    n: int
    """Its number, which the reply names."""
    sender: str
    """The process that waits for the reply."""
    run_id: str


class AskRun(_AboutRun, frozen=True, tag="claim"):
    """Asks for a run that waits."""

    agent: str


class SendChunks(_AboutRun, frozen=True, tag="post"):
    lease: str
    expect: int
    chunks: list[Raw]


class AskCommands(_AboutRun, frozen=True, tag="commands"):
    lease: str
    after: int


class GiveBack(_AboutRun, frozen=True, tag="give-back"):
    """Gives back a run for which no worker waits any more."""

    lease: str


Letter = AskRun | SendChunks | AskCommands | GiveBack


class ReplyProblem(msgspec.Struct, frozen=True):
    """An error, as another process tells it."""

    detail: str
    code: str
    status: int
    retryable: bool

    @classmethod
    def of(cls, error: TrilaneError) -> "ReplyProblem":
        return cls(error.detail, error.code, error.status, error.retryable)

    def error(self) -> TrilaneError:
        return TrilaneError(self.detail, code=self.code, status=self.status, retryable=self.retryable)


class WorkReply(msgspec.Struct, frozen=True):
    """What comes of a letter."""

    n: int
    value: Raw = Raw(b"null")
    """The JSON of its result."""
    problem: ReplyProblem | None = None


_encode = msgspec.json.Encoder().encode
decode_letter = msgspec.json.Decoder[Letter](Letter).decode
decode_reply = msgspec.json.Decoder(WorkReply).decode
decode_waiting = msgspec.json.Decoder(WaitingRuns).decode


def box_of(process: str) -> str:
    """Returns the topic of what other processes write to one."""
    return BOXES + process


def telling(runs: WaitingRuns) -> Append:
    """Returns the append that tells all processes of runs that wait."""
    return Append(topic=WAITING, name=WAITS, data=[_encode(runs)])


def sending(letter: Letter, process: str) -> Append:
    """Returns the append that sends a letter to a process."""
    data = _encode(letter)
    if b"\n" in data or b"\r" in data:  # between the tokens of a chunk, as its worker has posted it
        data = msgspec.json.format(data, indent=-1)
    return Append(topic=box_of(process), name=LETTER, data=[data])


def replying(reply: WorkReply, process: str) -> Append:
    return Append(topic=box_of(process), name=REPLY, data=[_encode(reply)])
