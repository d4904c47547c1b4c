"""The port to a room above the lane, for which a session is one half of a conversation."""

from collections.abc import Sequence
from typing import Protocol

from audio.options import Output


class SessionCompanion(Protocol):
    """Hears along with a session, in the same process. No method may raise, or take long."""

    def hear(self, output: Output) -> None:
        """Takes what the session has put out, once it is queued for its client."""

    def listen(self, probabilities: Sequence[float]) -> None:
        """Takes the probability of speech of each frame that has come."""

    def detach(self) -> None:
        """Notes that the session has no client any more."""

    def end(self) -> None:
        """Notes that this process has the session no more."""
