"""The audio lane: which sessions there are in this process, who may open one, and when the process is full."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple
from weakref import WeakValueDictionary

from audio.allowance import AudioAllowance, Portion, take_portion
from audio.attachment import Attachment
from audio.figures import AudioFigures, ListeningSpan
from audio.ledger import BEATS, AbandonedSessions, AudioCharges, FileEntry
from audio.live_session import Greeting, LiveSession
from audio.messages import Gap
from audio.model.models import Models
from audio.options import SessionTerms
from audio.session_log import SessionLog
from audio.upload import Uploads
from events.log.topics import check_topic, is_owner, new_session
from gateway.access.grants import Principal
from gateway.core.leases import NO_LEASE, Lease
from gateway.core.limits import RESUMED, SESSION, UPLOAD
from gateway.core.process import Core
from gateway.errors import Forbidden, NotFound, Overloaded, TrilaneError
from gateway.serving.client_socket import REVOKED

TICK_S = 0.25
KEPT_S = 60.0
"""Maximum seconds for which a session that lost its connection is kept as it is."""
REPEATED_S = 120.0
"""Seconds of audio whose messages are repeated to a client that comes back and does not say what it holds.

They cover the KEPT_S seconds that it may have been away, with the audio that may be sent ahead of them.
"""
PRESUMED_S = 10.0
"""Seconds for which a new session counts as speaking: whoever opens one is about to speak."""

TermsOfNotes = Callable[[str], SessionTerms]
"""A function that returns a session's terms from the notes that were left in its log; a new session has no notes."""


class SessionRequest(NamedTuple):
    """A connection's request for a session: a new one, or the one that it names."""

    terms: TermsOfNotes
    """A function that is called once the session is known. Raises BadRequest when the dialect cannot serve it."""
    session: str | None = None
    cursor: str | None = None
    """The cursor of the last message that the client holds."""
    topic: str | None = None
    """A topic to which finals are published, too."""
    resends: bool = True
    """Whether the client keeps what is not acknowledged, and can send it again to another process."""
    greet: Greeting | None = None


class AudioLane:
    """The part of a unit that the routes of the audio lane call."""

    def __init__(self, core: Core, load: Callable[[], Awaitable[Models]], *, at_once: bool = False) -> None:
        """`load` is called once: when the lane opens if `at_once`, else with the first session."""
        self.settings = core.settings
        self.streams = core.streams.of("audio")
        self.callers = core.callers
        self.uploads = Uploads(core.settings.limits.uploads)
        self._load = load
        self._at_once = at_once
        self._core = core
        self._charge = AudioCharges(core.limiter, core.prices).charge
        self._limiter = core.limiter
        self._models: Models | None = None
        self._sessions: dict[str, LiveSession] = {}
        self._speaking: set[LiveSession] = set()
        self._presumed_until: dict[LiveSession, float] = {}
        """The time until which a new session counts as speaking."""
        self._allowances: dict[LiveSession, AudioAllowance] = {}
        """What sessions hold of limits, where any counts them."""
        self._spans: dict[LiveSession, ListeningSpan] = {}
        self._loading = asyncio.Lock()
        self._resume_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A lock for each session: two connections that resume it at once do so one after the other."""
        self._kept_s = min(KEPT_S, core.settings.session_kept_s)
        self._beat_s = core.settings.session_kept_s / BEATS
        self._timer: asyncio.TimerHandle | None = None
        self._release = asyncio.Event()
        self._is_draining = False
        core.on_failure.append(self._fail)
        core.keys.on_revoke.append(self._revoke)
        core.fleet.sessions = self._sessions.__len__
        self.figures = AudioFigures(core.metrics)
        core.metrics.gauges(
            "audio_open_sessions",
            "Audio sessions in this process, by whether a client is attached",
            ["state"],
            self._states,
        )
        core.metrics.gauge("audio_speaking_sessions", "Of them, those with speech in them", lambda: len(self._speaking))
        core.metrics.gauge("audio_voices_limit", "As many as can have speech in them at once", self._max_voices)
        core.metrics.gauge("audio_open_uploads", "Files being transcribed", lambda: len(self.uploads))
        core.metrics.gauge("audio_busy_ratio", "Share of the transcriber's time in use", self._busy, is_largest=True)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        self._tick()
        kept_s, is_here = self.settings.session_kept_s, self._sessions.__contains__
        abandoned = AbandonedSessions(self._core.log, kept_s, is_here, self._charge)
        sweeper = asyncio.get_running_loop().create_task(abandoned.sweep(), name="sweep open audio sessions")
        try:
            if self._at_once:
                await self.load()
            yield
        finally:
            sweeper.cancel()
            await asyncio.gather(sweeper, return_exceptions=True)
            if self._timer is not None:
                self._timer.cancel()
            for live, span in self._spans.items():
                span.end(live.position, outcome="interrupted")
            if self._models is not None:
                await self._models.close()

    async def load(self) -> Models:
        """Returns the models, which are loaded once. Raises ConfigurationError."""
        async with self._loading:
            if self._models is None:
                self._models = await self._load()
                self.figures.watch(self._models)
            return self._models

    async def models_of(self, name: str) -> Models:
        """Returns the models with the one of this name. Raises BadRequest, TrilaneError, ConfigurationError."""
        return await (await self.load()).of(name)

    def _busy(self) -> float:
        return self._models.desk.busy if self._models is not None else 0.0

    def _states(self) -> dict[tuple[str, ...], float]:
        attached = sum(live.attachment is not None for live in list(self._sessions.values()))
        return {("attached",): attached, ("detached",): len(self._sessions) - attached}

    def _max_voices(self) -> int:
        """Returns how many sessions may speak at once; 0 while the model that was measured is not loaded."""
        return self.settings.limits.voices or (self._models.voices if self._models is not None else 0)

    # Sessions

    async def open(self, who: Principal, request: SessionRequest) -> tuple[LiveSession, Attachment]:
        """Returns a new session, or the one that `request` names, with a connection attached.

        Raises BadRequest, Forbidden, NotFound, Overloaded, LogError.
        """
        who.require_audio()
        live, attachment = await self._open(who, request)
        attachment.key_id = who.key_id
        if self._core.keys.is_revoked(who.key_id):  # meanwhile
            attachment.end(REVOKED)
        return live, attachment

    async def _open(self, who: Principal, request: SessionRequest) -> tuple[LiveSession, Attachment]:
        if request.topic is not None and not who.may_publish(check_topic(request.topic)):
            raise Forbidden(f"this token does not allow to publish to {request.topic!r}", code="topic_forbidden")
        if request.session is None:
            return await self._create(who, request)
        try:
            if not is_owner(request.session, who.sub):
                raise NotFound(f"there is no session {request.session[:40]!r} of yours", code="session_unknown")
            return await self._resume(who, request, request.session)
        except TrilaneError as err:
            self.figures.note_resume("session_unknown" if isinstance(err, NotFound) else "refused")
            raise

    async def admit_upload(self, who: Principal) -> Lease:
        """Admits one file of a user. Raises RateLimited, Overloaded, LogUnavailable."""
        return await self._limiter.admit(who, UPLOAD)

    def file_entry(self, who: Principal, models: Models, lease: Lease) -> FileEntry:
        """Returns the entry in the log of one more file, not opened yet, which `lease` has admitted."""
        return FileEntry(self._core.log, who, models.name, self._beat_s, lease, self._charge, self._core.tracer)

    async def _agree(self, request: SessionRequest, notes: str) -> tuple[SessionTerms, Models]:
        """Returns the terms of a session, and what hears it. Raises BadRequest for a model or language unknown here."""
        terms = request.terms(notes)
        models = await self.models_of(terms.options.model)
        models.check_language(terms.options.language)
        return terms, models

    async def _create(self, who: Principal, request: SessionRequest) -> tuple[LiveSession, Attachment]:
        terms, models = await self._agree(request, "")
        await self._limiter.keep(who, topics=0, stored_bytes=0)
        portion = await take_portion(self._limiter, who, SESSION)
        try:
            self._admit(terms)
        except BaseException:
            portion.lease.cancel()
            raise
        session_log = SessionLog(self._core.log, new_session(who.sub), who.sub, request.topic, self._charge)
        live = self._add(session_log, terms, models)  # it counts from now on, while the log is written
        self._allow(live, who, portion)
        try:
            cursor = await session_log.create(models.name, who.key_id, portion.lease.reserved)
        except BaseException:
            self.release(live)
            raise
        live.watch(self._core.hub)
        attachment = live.attach(*terms, 0, resends=request.resends)
        live.welcome(cursor, [], request.greet)
        return live, attachment

    async def _resume(self, who: Principal, request: SessionRequest, session: str) -> tuple[LiveSession, Attachment]:
        lock = self._resume_locks.setdefault(session, asyncio.Lock())
        async with lock:
            live = self._sessions.get(session) or await self._load_session(who, request, session)
            return live, await self._reattach(live, request)

    async def _load_session(self, who: Principal, request: SessionRequest, session: str) -> LiveSession:
        """Continues a session that another process has left."""
        session_log = SessionLog(self._core.log, session, who.sub, request.topic, self._charge)
        await session_log.load()
        (terms, models), portion = await self._agree(request, session_log.state.notes), None
        if not session_log.is_over:
            portion = await take_portion(self._limiter, who, RESUMED)
            try:
                self._admit(terms)
                await session_log.claim(portion.lease.reserved, request.cursor)
            except BaseException:
                portion.lease.cancel()
                raise
        live = self._add(session_log, terms, models)
        self._allow(live, who, portion)
        live.watch(self._core.hub)
        return live

    async def _reattach(self, live: LiveSession, request: SessionRequest) -> Attachment:
        session_log = live.session_log
        terms, _ = await self._agree(request, session_log.state.notes)
        attachment: Attachment | None = None
        try:
            cursor = request.cursor
            if cursor is None and not request.resends:
                cursor = await session_log.recent(REPEATED_S)
            seq = await session_log.seq_at(cursor)
            attachment = live.attach(*terms, seq, resends=request.resends)
            await live.recording.wait()  # what is put out from here on waits in the attachment
            first, missed = await session_log.replay(cursor)
        except BaseException:
            if attachment is not None:
                live.detach(attachment)
            raise
        live.welcome(first, missed, request.greet)
        self.figures.note_resume("recovered", len(missed))
        if session_log.is_over:
            live.report_done()
        else:
            live.record_replay(cursor, seq, len(missed))
        return attachment

    def _add(self, session_log: SessionLog, terms: SessionTerms, models: Models) -> LiveSession:
        loop = asyncio.get_running_loop()
        live = LiveSession(self, session_log, models, terms.options, loop.time)
        self._sessions[session_log.session] = live
        if self._core.tracer is not None:
            self._spans[live] = ListeningSpan(self._core.tracer, "session", models.name, live.position)
        self._presumed_until[live] = loop.time() + PRESUMED_S
        return live

    def _allow(self, live: LiveSession, who: Principal, portion: Portion | None) -> None:
        if portion is not None and portion.lease is not NO_LEASE:
            extend = live.session_log.extend
            self._allowances[live] = AudioAllowance(self._limiter, who, portion, live.position, extend)

    def _admit(self, terms: SessionTerms) -> None:
        """Raises Overloaded when one more session could not be served as it should."""
        if self._is_draining:
            raise Overloaded("this process is shutting down", code="draining", retry_after="1")
        limits = self.settings.limits
        if len(self._sessions) >= limits.local_sessions:
            raise Overloaded(f"{len(self._sessions)} sessions are open already", retry_after="5")
        models = self._models
        speaking = sum(live.session.options.voices for live in self._speaking | self._presumed_until.keys())
        voices = self._max_voices()
        if voices and speaking and speaking + terms.options.voices > voices:
            raise Overloaded(f"{speaking} people are speaking already", retry_after="5")
        if not limits.voices and models is not None and models.desk.is_full:  # the machine has other work as well
            raise Overloaded(f"{speaking} people speak, and more than that is too much now", retry_after="5")

    # What sessions tell their lane

    def note_gap(self, gap: Gap) -> None:
        self.figures.note_gap(gap.reason, gap.end - gap.start)

    def note_activity(self, live: LiveSession) -> None:
        if live.session.is_speaking:
            self._speaking.add(live)

    def _fail(self, failure: TrilaneError) -> None:
        """Ends every session here, because the log has failed under it."""
        for live in list(self._sessions.values()):
            live.fail(failure)

    def _revoke(self, key_id: str) -> None:
        """Closes every connection of a key that was revoked; the sessions wait for their clients as ever."""
        for live in list(self._sessions.values()):
            if live.attachment is not None and live.attachment.key_id == key_id:
                live.attachment.end(REVOKED)

    def release(self, live: LiveSession, failure: BaseException | None = None) -> None:
        self._sessions.pop(live.session_log.session, None)
        self._speaking.discard(live)
        self._presumed_until.pop(live, None)
        if (allowance := self._allowances.pop(live, None)) is not None:
            allowance.end()
            live.session_log.release()
        if (span := self._spans.pop(live, None)) is not None:
            span.end(live.position, failure)
        self._release.set()

    # Time

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for live in list(self._speaking):
            live.spoken_at = now
            live.tick(now)
            if not live.session.is_speaking:
                self._speaking.discard(live)
        for live in [live for live, until in self._presumed_until.items() if until < now]:
            del self._presumed_until[live]
        for live in list(self._sessions.values()):
            if live.attachment is None:
                if now - live.detached_at > self._kept_s:
                    live.expire()
            elif now - live.spoken_at > self.settings.session_idle_s:
                live.rest(self.settings.session_idle_s)
            elif now - live.recording.recorded_at > self._beat_s:
                live.beat()
        for live, allowance in list(self._allowances.items()):
            allowance.look(live.position, live.fail)
        self._timer = loop.call_later(TICK_S, self._tick)

    async def drain(self) -> None:
        """Sends every client elsewhere, after its last finals, and waits for the files that were accepted."""
        self._is_draining = True
        for live in list(self._sessions.values()):
            live.drain()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.uploads.drain())
            while self._sessions:
                self._release.clear()
                await self._release.wait()
