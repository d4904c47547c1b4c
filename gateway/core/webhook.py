"""Posts signed messages to the operator's webhook, as the Standard Webhooks specification 1.0 has them.

https://github.com/standard-webhooks/standard-webhooks: the signature is over id, time and body, so nobody else can send
or repeat one. The id is made of the body: a message that is sent again has the same. Redirects are not followed.
"""

import asyncio
import base64
import hmac
import time
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

import httpx2

TIMEOUT_S = 10.0
Post = Callable[[bytes], Coroutine[Any, Any, None]]
"""Delivers one body; raises DeliveryError when it must be delivered again."""


class DeliveryError(Exception):
    """The receiver has not taken a message."""


class Webhook:
    """One receiver, and the key that it knows us by."""

    def __init__(self, url: str, key: bytes, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970."""
        self._url = url
        self._key = key
        self._clock = clock
        self._client = httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)

    async def post(self, body: bytes) -> None:
        """Posts one message. Raises DeliveryError, which repeats neither address nor answer."""
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._client.stream("POST", self._url, content=body, headers=self.headers(body)) as answer,
            ):
                status = answer.status_code
        except (httpx2.HTTPError, OSError) as err:
            raise DeliveryError(f"the webhook cannot be reached: {type(err).__name__}") from err
        if not 200 <= status < 300:
            raise DeliveryError(f"the webhook answers {status}")

    def headers(self, body: bytes) -> dict[str, str]:
        message_id, timestamp = f"msg_{sha256(body).hexdigest()[:32]}", int(self._clock())
        signature = hmac.digest(self._key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
        return {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }

    async def aclose(self) -> None:
        await self._client.aclose()
