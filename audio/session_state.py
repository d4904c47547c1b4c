"""Defines what the log keeps of a session, or of a file: where it stands, and what its user is still to be charged."""

from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw, UnsetType

from audio.model.transcriber import SAMPLE_RATE
from gateway.core.leases import AUDIO_SECONDS, COST, Reservation, Reserved
from gateway.core.usage import UsageKind, UsageOutcome, UsageRow, now_ms


class ChannelState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one channel of a session is whose channels are heard apart."""

    settled: int = 0
    segments: int = 0
    language: str | None = None


class SessionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state with which a process continues a session. The newest event of its log has all of it."""

    settled: int = 0
    """The sample, at 16 kHz, before which everything is settled."""
    heard: int | None = None
    """Number of samples before `settled` that the client sent: all but the silence that filled up frames.

    None in a session of an earlier release, and in a file: all of them.
    """
    segments: int = 0
    language: str | None = None
    channels: tuple[ChannelState, ...] = ()
    """The channels that are heard apart; none where they are mixed."""
    notes: str = ""
    """The dialect's own notes: what a client asked for and does not ask for again when it comes back."""
    companion: Raw | UnsetType = UNSET
    """What its companion keeps with the session, where it has one."""
    replayed_after: int = 0
    """The offset that the client held when it came back last."""
    replayed_head: int = 0
    """The newest offset when the client came back last."""
    replayed_seq: int = 0
    """The number of the message before the first that was sent again when the client came back last."""
    kind: UsageKind = "session"
    started_ms: int = 0
    """The time of its admission, in milliseconds since 1970; 0 in a session of an earlier release: it has no row."""
    model: str = ""
    key: str = ""
    """The id of the API key that its caller signed in with."""
    ending: UsageOutcome = "interrupted"
    """The outcome in its usage row, should nobody continue it."""
    reserved: list[Reservation] = []
    """What its admission took of its user's budget, where there is one."""
    charged: int = 0
    """Number of samples of `audio` that its user is charged for by whoever appends this state, or was before."""
    portions: list[list[Reservation]] = []
    """What the process that has it took of the seconds of a day, portion by portion, for what comes after `since`.

    Whoever appends the next state without them puts what was heard in their place.
    """
    since: int = 0
    """Number of samples of `audio` that were heard elsewhere, before."""

    @property
    def audio(self) -> int:
        """Returns the number of samples, at 16 kHz, that were heard and are settled."""
        return self.settled if self.heard is None else self.heard

    def parted(self, ending: UsageOutcome) -> "SessionState":
        """Returns the state in which a process leaves a session without a client: all that was heard is charged."""
        return msgspec.structs.replace(self, ending=ending).paid()

    def holding(self, taken: Reserved) -> "SessionState":
        """Returns the state of what has begun with so much taken of rates."""
        return msgspec.structs.replace(self, reserved=taken.get(COST, []), portions=portions_of(taken))

    def paid(self) -> "SessionState":
        """Returns the state in which nothing is left to be charged."""
        return msgspec.structs.replace(self, charged=self.audio, portions=[])

    def row(self, session: str, outcome: UsageOutcome) -> UsageRow:
        """Returns the usage row of a session, or of a file that is kept as one, which ends now in this state."""
        return UsageRow(
            id=session,
            lane="audio",
            kind=self.kind,
            outcome=outcome,
            model=self.model,
            key=self.key,
            started_ms=self.started_ms,
            ended_ms=now_ms(),
            quantities={"spokenMs" if self.kind == "speech" else "audioMs": audio_ms(self.audio)},
            estimated=self.kind != "session" and outcome == "interrupted",
        )


ChargeAudio = Callable[[str, SessionState, SessionState], None]
"""Charges a user for what the second state says that the first does not, and settles the portions that it has left."""


def portions_of(taken: Reserved) -> list[list[Reservation]]:
    """Returns what was taken of seconds of audio, as one portion; none where nothing counts them."""
    return [taken[AUDIO_SECONDS]] if AUDIO_SECONDS in taken else []


def audio_ms(samples: int) -> int:
    """Returns the milliseconds that samples last, as a session's `done` says them in seconds."""
    return round(samples * 1000 / SAMPLE_RATE)
