"""An AudioListener is the ears of one connection, and tells the mouth what it must know."""

from collections.abc import Callable

import gevent
from gevent.event import Event

from loadtests.users.audio_session import Message
from loadtests.users.audio_socket import AudioSocket
from loadtests.users.speech import BYTES_PER_SAMPLE


class AudioListener:
    """Runs a greenlet that passes each message to `hear` until the connection is closed."""

    def __init__(self, socket: AudioSocket, hear: Callable[[Message], None]) -> None:
        self.first_byte = 0
        """The byte of the speech from which the server wants it."""
        self.is_cut = False
        """Whether we cut the connection."""
        self.is_drained = False
        """Whether the server ended the connection because it drains, and said so."""
        self._socket, self._hear = socket, hear
        self._is_ready = Event()
        self._greenlet = gevent.spawn(self._listen)

    @property
    def is_over(self) -> bool:
        return self._greenlet.ready()

    def is_ready(self, within_s: float) -> bool:
        """Waits for `ready`, or the end."""
        return self._is_ready.wait(within_s) and not self.is_over

    def finish(self, within_s: float) -> None:
        """Waits until the connection is closed."""
        self._greenlet.join(within_s)

    def kill(self) -> None:
        self._greenlet.kill()

    def _listen(self) -> None:
        try:
            for message in self._socket.messages():
                self._hear(message)
                if message["type"] == "ready":
                    self.first_byte = BYTES_PER_SAMPLE * message["resumeFrom"]
                    self._is_ready.set()
                elif message["type"] == "drain":
                    self.is_drained = True
        finally:
            self._is_ready.set()
