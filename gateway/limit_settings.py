"""Declares the settings of limits: of one process, of everyone together, and of each user."""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.environment import prefixed

Count = Annotated[int, Meta(ge=0)]
Bound = Annotated[int, Meta(ge=0)] | None
"""A limit; None is none."""

RUNS, STREAMS, SESSIONS = 2000, 10_000, 2000
"""Maximum answers, event streams and audio sessions of one process, where no limit is set."""


class Limits(Struct, frozen=True, kw_only=True, rename=prefixed("TRILANE_LIMIT_")):
    """Bounds of one process, and of everyone together. Past any of them a request is refused; nothing waits in a queue.

    Those that may be None count all processes that share the log.
    """

    body_bytes: Annotated[Count, Meta(description="Bytes of one request body")] = 16_777_216
    bodies_bytes: Annotated[
        Count, Meta(description="Bytes of all request bodies in memory at once; one body is always taken")
    ] = 134_217_728
    messages: Annotated[Count, Meta(description="Messages in one request")] = 1000
    chat_bytes: Annotated[
        Count, Meta(description="Bytes that one chat may have in the log, edits and deleted messages included")
    ] = 33_554_432
    tool_bytes: Annotated[Count, Meta(description="Bytes of one tool's output; a larger one is cut, and says so")] = (
        262_144
    )
    output_tokens: Annotated[Count, Meta(description="Largest `max_tokens` of one request")] = 32_768
    replay: Annotated[
        Count, Meta(description="Missed events replayed to one stream; past that, `hello` says how many it missed")
    ] = 100_000
    voices: Annotated[
        Count,
        Meta(description="Audio sessions with speech at once; 0: as many as the loaded model was measured to carry"),
    ] = 0
    uploads: Annotated[Count, Meta(description="Files being transcribed at once")] = 32
    file_seconds: Annotated[
        Count,
        Meta(description="Seconds of one file to be transcribed; fewer where it has more than two channels of 48 kHz"),
    ] = 14_400
    upload_bytes: Annotated[
        Count, Meta(description="Bytes of one file to be transcribed, kept unnamed in `TMPDIR` meanwhile")
    ] = 1_073_741_824
    memory_bytes: Annotated[
        Count,
        Meta(description="Memory of a process past which it takes no new work; 0: 90 % of its cgroup's or machine's"),
    ] = 0
    connections_per_address: Annotated[
        Count, Meta(description="Connections of one address to one process at once; 0: any number")
    ] = 0
    runs: Annotated[
        Bound, Meta(description=f"Answers being written at once, in all processes; unset: {RUNS} in each")
    ] = None
    streams: Annotated[
        Bound,
        Meta(
            description="Event streams open at once, in all processes, which count each together; unset: "
            "`TRILANE_LIMIT_PROCESS_STREAMS` in each"
        ),
    ] = None
    process_streams: Annotated[Count, Meta(description="Event streams open at once in one process")] = STREAMS
    sessions: Annotated[
        Bound,
        Meta(description=f"Audio sessions open at once, most of them silent, in all; unset: {SESSIONS} in each"),
    ] = None
    requests_per_minute: Annotated[Bound, Meta(description="Requests of all users that start work")] = None
    tokens_per_minute: Annotated[Bound, Meta(description="Tokens of all users, prompt and answer")] = None
    audio_seconds_per_day: Annotated[Bound, Meta(description="Seconds of speech of all users in 24 hours")] = None
    tickets_per_minute: Annotated[Bound, Meta(description="Tickets of all users")] = None
    daily_tokens: Annotated[Bound, Meta(description="Tokens of all users in 24 hours")] = None
    topics: Annotated[
        Bound, Meta(description="Chats and topics of events in the log, those of transcripts and users included")
    ] = None
    stored_bytes: Annotated[Bound, Meta(description="Bytes of all events in the log, those of usage included")] = None

    @property
    def local_runs(self) -> int:
        return RUNS if self.runs is None else self.runs

    @property
    def local_streams(self) -> int:
        return self.process_streams if self.streams is None else self.streams

    @property
    def local_sessions(self) -> int:
        return SESSIONS if self.sessions is None else self.sessions


class UserLimits(Struct, frozen=True, kw_only=True, rename=prefixed("TRILANE_LIMIT_USER_")):
    """Limits of each user, in all processes that share the log. A token or a key may carry narrower ones."""

    runs: Annotated[
        Bound, Meta(description="Answers of one user being written at once; unset: half of what a process takes")
    ] = None
    streams: Annotated[
        Bound, Meta(description="Event streams and sockets of one user; unset: half of what a process takes")
    ] = None
    sessions: Annotated[
        Bound, Meta(description="Audio sessions of one user at once; unset: half of what a process takes")
    ] = None
    requests_per_minute: Annotated[Bound, Meta(description="Requests of one user that start work")] = None
    tokens_per_minute: Annotated[Bound, Meta(description="Tokens of one user, prompt and answer")] = None
    audio_seconds_per_day: Annotated[Bound, Meta(description="Seconds of speech of one user in 24 hours")] = None
    tickets_per_minute: Annotated[Bound, Meta(description="Tickets of one user")] = 120
    daily_tokens: Annotated[Bound, Meta(description="Tokens of one user in 24 hours")] = None
    topics: Annotated[Bound, Meta(description="Chats of one user, and topics they were the first to publish to")] = None
    stored_bytes: Annotated[
        Bound, Meta(description="Bytes that the log keeps of one user: chats, answers, transcripts, and those topics")
    ] = None
    monthly_cost: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Cost of one user in 30 days, in the currency of the prices"),
    ] = None
