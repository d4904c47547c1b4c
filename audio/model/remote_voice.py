"""Implements `Voice` with a server that has OpenAI's `/v1/audio/speech`, which the operator names.

It is asked for one clause at a time as `pcm`, which there is 16 bits, mono, at 24 kHz. Nothing says whether two answers
have the same bits, so such a voice is not repeatable. Its key and its words of refusal stay out of what clients see.
"""

import asyncio
from collections.abc import Sequence

import httpx2
import numpy as np
import structlog

from audio.model.transcriber import Samples
from audio.model.voice import MIN_SPEED, VOICE_RATE, SpeechTask
from gateway.errors import TrilaneError

TIMEOUT_S = 30.0
"""Maximum seconds for one clause."""
MAX_BYTES = 2 * VOICE_RATE * round(120 / MIN_SPEED)
"""Maximum bytes of one answer: two minutes, at the lowest speed."""
WORKERS = 8

log = structlog.get_logger("audio")


class RemoteVoice:
    """The voices of one server."""

    is_repeatable = False
    workers = WORKERS

    def __init__(self, url: str, key: str, model: str, names: Sequence[str] = (), default: str = "") -> None:
        """`url` ends before `/audio/speech`. `names` are its voices; where there are none, `default` is the first."""
        self.model = model
        self.names = names
        self._default = names[0] if names else default
        self._url = url.rstrip("/") + "/audio/speech"
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client: httpx2.AsyncClient | None = None

    async def open(self) -> None:
        limits = httpx2.Limits(max_connections=WORKERS)
        self._client = httpx2.AsyncClient(timeout=TIMEOUT_S, limits=limits, headers=self._headers)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def can_say(self, text: str) -> bool:
        return any(letter.isalnum() for letter in text)

    async def speak(self, task: SpeechTask) -> Samples:
        body: dict[str, object] = {"model": self.model, "voice": task.voice or self._default, "input": task.text}
        body |= {"response_format": "pcm", "speed": task.speed}
        if task.instructions:
            body["instructions"] = task.instructions
        try:
            async with asyncio.timeout(TIMEOUT_S):
                pcm = await self._post(body)
        except (httpx2.HTTPError, OSError) as err:
            log.warning("the voice's server cannot be reached", reason=type(err).__name__)
            raise TrilaneError("the voice cannot be reached", code="voice_failed", status=502) from err
        if len(pcm) < 2:
            raise TrilaneError("the voice's server answers without sound", code="voice_failed", status=502)
        return np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)

    async def _post(self, body: dict[str, object]) -> bytes:
        assert self._client is not None, "it is open"
        async with self._client.stream("POST", self._url, json=body) as answer:
            if answer.status_code != 200:
                log.warning("the voice's server refuses", status=answer.status_code)
                raise TrilaneError(
                    f"the voice's server answers {answer.status_code}",
                    code="voice_failed",
                    status=503 if answer.status_code in (429, 503) else 502,
                    retry_after=answer.headers.get("retry-after"),
                )
            pcm = bytearray()
            async for piece in answer.aiter_bytes():
                pcm += piece
                if len(pcm) > MAX_BYTES:
                    raise TrilaneError("the voice's server does not end its answer", code="voice_failed", status=502)
        return bytes(pcm)
