"""A Speaker says a speech at its pace over one connection or several, and reports what was found.

A person goes on speaking while the connection is gone; what was not acknowledged and what was said since is sent at
once when it is back. A connection that the server or a proxy ends is resumed too, and is a fault unless the server said
`drain`. Session and cursor go in the query: the contract allows it, and so a proxy that drops queries is found out.
"""

import random
import time
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import STATE_CLEANUP, STATE_STOPPED, STATE_STOPPING

from loadtests.bench.audio.client import FRAME_S, START
from loadtests.users.audio_listener import AudioListener
from loadtests.users.audio_session import AudioSession, Message
from loadtests.users.audio_socket import AudioSocket, NotConnected
from loadtests.users.fault import Fault
from loadtests.users.speech import BYTES_PER_S, Speech
from loadtests.users.verdict import fault, note_measure

LANE = "audio"
ENDING = (STATE_STOPPING, STATE_CLEANUP, STATE_STOPPED)
FRAME_BYTES = int(FRAME_S * BYTES_PER_S)
AWAY_S = (0.1, 1.0)
"""Seconds that a connection stays cut, from and to."""
READY_S = 30.0
"""Seconds from `start` to `ready`: a process loads its model with its first session."""
END_S = 60.0
"""Seconds from `stop` to `done`."""
CLOSE_S = 2.0
"""Seconds from a refusal to the close that should follow it."""
RETRY_S = 1.0
RETRIES = 20
"""Times that a lost session tries to come back, RETRY_S apart: a process that restarts takes some seconds."""
LOSSES = 3
"""Connections lost by nobody's wish in one session, after which it is given up."""
REFUSED_S = 5.0
"""Seconds until a user who was not let in tries again."""


class Speaker:
    """Runs one session, from its first connection to `done` or until it is given up."""

    def __init__(self, environment: Environment, token: str, speech: Speech) -> None:
        self._environment = environment
        self._options: Any = environment.parsed_options
        self._token = token
        self._speech = speech
        self._session = AudioSession()
        self._cut_at = self._choose_cut()
        self._began = 0.0
        """Time at which the first sample was spoken."""
        self._losses = 0
        self._is_whole = True
        """Whether all of the speech was said: the run did not end in the middle."""

    def _choose_cut(self) -> int | None:
        """Returns a byte of the speech, neither at its very beginning nor in the silence at its end."""
        if random.random() >= self._options.cut:
            return None
        return int(random.uniform(0.1, 0.85) * len(self._speech.pcm))

    def run(self) -> None:
        """Speaks until the session is over, or there is no getting on with it."""
        while not self._is_over():
            asked_at = time.monotonic()
            socket = self._connect()
            if socket is None:
                break
            try:
                self._converse(socket, asked_at)
            finally:
                socket.close()
        if self._session.is_done and self._is_whole:
            self._session.judge(self._speech.text, self._options.words_wrong)
            self._report()
        if not self._session.is_done:
            gevent.sleep(REFUSED_S)

    def _is_over(self) -> bool:
        return self._session.is_done or self._session.is_refused or self._losses >= LOSSES

    def _connect(self) -> AudioSocket | None:
        """Opens or resumes; a resume is tried for a while. Returns None when it was in vain."""
        session = self._session
        query = {"session": session.name, "cursor": session.cursor} if session.name else {}
        host = self._environment.host or ""
        for tries_left in reversed(range(RETRIES if query else 1)):
            try:
                return AudioSocket(host, query, self._token, insecure=self._options.insecure)
            except NotConnected as err:
                if tries_left and err.fault in (Fault.UNREACHABLE, Fault.REFUSED):
                    gevent.sleep(RETRY_S)
                    continue
                fault(self._environment, err.fault, str(err))
                break
        return None

    def _converse(self, socket: AudioSocket, asked_at: float) -> None:
        """Says and hears all that one connection carries."""
        measure = "resume gap" if self._session.name else "ready"
        socket.say(**START, words=True)
        listener = AudioListener(socket, self._hear)
        try:
            if listener.is_ready(READY_S) and not self._session.is_refused:
                note_measure(self._environment, LANE, measure, (time.monotonic() - asked_at) * 1000)
                self._began = self._began or time.monotonic()
                self._play(socket, listener)
                listener.finish(END_S)
            listener.finish(CLOSE_S)
            self._part(socket, listener)
        finally:
            listener.kill()

    def _play(self, socket: AudioSocket, listener: AudioListener) -> None:
        """Sends from where the server wants it: at once what is spoken already, then at the pace of speech."""
        at, size = listener.first_byte, len(self._speech.pcm)
        while at < size and not listener.is_over:
            end = min(at + FRAME_BYTES, size)
            gevent.sleep(max(0.0, end / BYTES_PER_S - self._now()))
            if self._cut_at is not None and at >= self._cut_at:
                self._cut_at = None
                listener.is_cut = True
                socket.cut()
                gevent.sleep(random.uniform(*AWAY_S))
                return
            if not self._may_go_on():
                self._is_whole = False
                break
            if not socket.hear(self._speech.pcm[at:end]):
                return
            at = end
        socket.say(type="stop")

    def _may_go_on(self) -> bool:
        """Returns whether there is time for the rest of the speech: users have some to finish when the run is over.

        Half of it is for the answer. A run shorter than a speech would judge no words otherwise.
        """
        runner = self._environment.runner
        if runner is None or runner.state not in ENDING:
            return True
        return self._speech.seconds - self._now() <= (self._environment.stop_timeout or 0.0) / 2

    def _part(self, socket: AudioSocket, listener: AudioListener) -> None:
        """Judges whether the connection ended as it should."""
        session = self._session
        if session.is_done:
            if socket.close_code != 1000:
                self._fault(Fault.ERROR, f"closed with {socket.close_code} after `done`, not 1000")
            return
        session.lose_connection()
        if session.is_refused or listener.is_cut or listener.is_drained:
            return
        self._losses += 1
        how = f"closed with {socket.close_code}" if listener.is_over else "fell silent"
        self._fault(Fault.NO_END, f"{how} before `done`, {self._now():.1f} s after its first sample")

    def _hear(self, message: Message) -> None:
        self._session.hear(message, self._now())
        self._report()

    def _now(self) -> float:
        """Returns seconds since the first sample was spoken; 0 before."""
        return time.monotonic() - self._began if self._began else 0.0

    def _fault(self, kind: Fault, detail: str) -> None:
        fault(self._environment, kind, f"audio session {self._session.name or '(new)'}: {detail}")

    def _report(self) -> None:
        """Reports what the session found and measured so far."""
        session = self._session
        for finding in session.findings:
            fault(self._environment, *finding)
        for measure in session.measures:
            note_measure(self._environment, LANE, *measure)
        session.findings.clear()
        session.measures.clear()
