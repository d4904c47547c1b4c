"""The audio lane: which sessions there are in this process, who may have one, and what they cost."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from audio.attachment import Attachment
from audio.live_session import LiveSession, SessionTerms
from audio.messages import Start
from audio.model.models import Models
from audio.model.transcriber import Transcriber
from audio.model.vad import Ear
from audio.options import SessionOptions
from audio.session_log import SessionLog, is_owner, new_session
from audio.upload import Uploads
from events.log.topics import check_topic
from gateway.access.auth import Principal
from gateway.core.process import Core
from gateway.errors import BadRequest, Forbidden, NotFound, Overloaded

TICK_S = 0.25
KEPT_S = 60.0
"""How long a session that lost its connection is kept as it is."""
REPEATED_S = 120.0
"""To a client that comes back and does not say what it holds, so much audio is said again: any that it may have missed
in the KEPT_S seconds that it may have been away, with what may be sent ahead of them."""
PRESUMED_S = 10.0
"""A new session counts as one that speaks for so long: who opens one is about to."""


Dialect = Callable[[str], SessionTerms]
"""From the notes that were left in a session's record (none: a new one), what is asked of it."""


class AudioLane:
    """What the routes of the audio lane work with."""

    def __init__(self, core: Core, load: Callable[[], Awaitable[Models]], *, at_once: bool = False) -> None:
        """`load` is called once: when the lane opens if `at_once`, else with the first session."""
        self.settings = core.settings
        self._load = load
        self._at_once = at_once
        self._core = core
        self._models: Models | None = None
        self.uploads = Uploads(core.settings.limits.uploads)
        self._sessions: dict[str, LiveSession] = {}
        self._speaking: set[LiveSession] = set()
        self._presumed: dict[LiveSession, float] = {}
        """Until when a session counts as speaking."""
        self._loading = asyncio.Lock()
        self._resuming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By session: two connections that resume one at once do it one after the other."""
        self._ticking: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._is_draining = False
        core.metrics.gauge("audio_sessions", "Audio sessions in this process", lambda: len(self._sessions))
        core.metrics.gauge("audio_speaking", "Of them, those with speech in them", lambda: len(self._speaking))
        core.metrics.gauge("audio_busy", "Share of the transcriber's time in use", self._busy)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        self._tick()
        try:
            if self._at_once:
                await self.load()
            yield
        finally:
            if self._ticking is not None:
                self._ticking.cancel()
            if self._models is not None:
                await self._models.transcriber.close()

    async def load(self) -> Models:
        """The models, loaded once. Raises ConfigurationError."""
        async with self._loading:
            if self._models is None:
                self._models = await self._load()
            return self._models

    def _busy(self) -> float:
        return self._models.desk.busy if self._models is not None else 0.0

    # Sessions

    async def open(
        self, who: Principal, start: Start, *, resends: bool = True, dialect: Dialect | None = None
    ) -> tuple[LiveSession, Attachment]:
        """A new session, or the one that `start` names, with a connection attached. `dialect`: for one with own terms.

        Raises BadRequest, Forbidden, NotFound, Overloaded, LogError.
        """
        if not who.grants.audio:
            raise Forbidden("this token does not allow the audio lane")
        models = await self.load()
        self._check(who, start, models.transcriber)
        if start.session is None:
            return await self._create(who, start, resends, dialect)
        if not is_owner(start.session, who.sub):
            raise NotFound(f"there is no session {start.session[:40]!r} of yours", code="session_unknown")
        return await self._resume(who, start, start.session, resends, dialect)

    def speaks(self, language: str) -> bool:
        """Whether the model knows a language, by its ISO 639-1 code. To be asked of a session's dialect only."""
        return self._models is not None and self._models.transcriber.speaks(language)

    def _check(self, who: Principal, start: Start, transcriber: Transcriber) -> None:
        if start.language is not None and not transcriber.speaks(start.language):
            raise BadRequest(f"the model does not know the language {start.language!r}", code="bad_language")
        if start.topic is not None and not who.may_publish(check_topic(start.topic)):
            raise Forbidden(f"this token does not allow to publish to {start.topic!r}", code="topic_forbidden")

    async def _create(
        self, who: Principal, start: Start, resends: bool, dialect: Dialect | None
    ) -> tuple[LiveSession, Attachment]:
        self._admit()
        record = SessionLog(self._core.log, new_session(who.sub), who.sub, start.topic)
        terms = dialect("") if dialect is not None else terms_of(start)
        live = self._live(record, terms)  # counts from now on, while the log is asked
        try:
            cursor = await record.create()
        except BaseException:
            self.over(live)
            raise
        live.watch(self._core.hub)
        attachment = live.attach(*terms, 0, resends=resends)
        live.welcome(cursor, [])
        return live, attachment

    async def _resume(
        self, who: Principal, start: Start, session: str, resends: bool, dialect: Dialect | None
    ) -> tuple[LiveSession, Attachment]:
        lock = self._resuming.setdefault(session, asyncio.Lock())
        async with lock:
            live = self._sessions.get(session)
            if live is None:
                record = SessionLog(self._core.log, session, who.sub, start.topic)
                await record.load()
                if not record.is_over:
                    self._admit()
                live = self._live(record, terms_of(start))
                live.watch(self._core.hub)
            record = live.record
            terms = dialect(record.where.notes) if dialect is not None else terms_of(start)
            attachment: Attachment | None = None
            try:
                held = start.cursor if start.cursor or resends else await record.recent(REPEATED_S)
                seq = await record.seq_at(held)
                attachment = live.attach(*terms, seq, resends=resends)
                await live.recorded()  # what is said from here on waits in the attachment
                cursor, missed = await record.since(held)
            except BaseException:
                if attachment is not None:
                    live.detach(attachment)
                raise
            live.welcome(cursor, missed)
            if record.is_over:
                live.say_done()
            else:
                live.came_back(held, seq, len(missed))
            return live, attachment

    def _live(self, record: SessionLog, terms: SessionTerms) -> LiveSession:
        assert self._models is not None
        loop = asyncio.get_running_loop()
        live = LiveSession(self, record, Ear(self._models.voice), terms.asked, loop.time)
        self._sessions[record.session] = live
        self._presumed[live] = loop.time() + PRESUMED_S
        return live

    def _admit(self) -> None:
        """Raises Overloaded when one more session could not be served as it should."""
        if self._is_draining:
            raise Overloaded("this process is shutting down", code="draining", retry_after="1")
        limits = self.settings.limits
        if len(self._sessions) >= limits.sessions:
            raise Overloaded(f"{len(self._sessions)} sessions are open already", retry_after="5")
        models = self._models
        speaking = len(self._speaking | self._presumed.keys())
        voices = limits.voices or (models.voices if models is not None else speaking + 1)
        if speaking >= voices:
            raise Overloaded(f"{speaking} people are speaking already", retry_after="5")
        if not limits.voices and models is not None and models.desk.is_full:  # the machine has other work as well
            raise Overloaded(f"{speaking} people speak, and more than that is too much now", retry_after="5")

    # What sessions ask

    def ask(self, live: LiveSession) -> None:
        if live.session.is_speaking:
            self._speaking.add(live)
        if self._models is not None:
            self._models.desk.ask(live)

    def over(self, live: LiveSession) -> None:
        self._sessions.pop(live.record.session, None)
        self._speaking.discard(live)
        self._presumed.pop(live, None)
        if self._models is not None:
            self._models.desk.leave(live)
        self._empty.set()

    # Time

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for live in list(self._speaking):
            live.tick(now)
            if not live.session.is_speaking:
                self._speaking.discard(live)
        for live in [live for live, until in self._presumed.items() if until < now]:
            del self._presumed[live]
        for live in list(self._sessions.values()):
            if live.attachment is None and now - live.detached_at > KEPT_S:
                live.expire()
        self._ticking = loop.call_later(TICK_S, self._tick)

    async def drain(self) -> None:
        """Sends everyone elsewhere, after their last finals."""
        self._is_draining = True
        for live in list(self._sessions.values()):
            live.drain()
        uploads = asyncio.ensure_future(self.uploads.drain())
        while self._sessions:
            self._empty.clear()
            await self._empty.wait()
        await uploads


def terms_of(start: Start) -> SessionTerms:
    asked = SessionOptions(
        interim_results=start.interim_results,
        words=start.words,
        endpointing_s=start.endpointing_ms / 1000,
        language=start.language,
        prompt=start.prompt,
    )
    return SessionTerms(start.sample_rate, asked)
