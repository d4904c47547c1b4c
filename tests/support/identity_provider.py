"""An identity provider for tests: its key set, its discovery document, and every way in which they can go wrong."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.support.loop_thread import LoopThread

MAKERS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
WRITERS: dict[str, Any] = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}
LATER_S = 3600


class ProviderKey:
    """One key pair of a provider, and what its tokens look like."""

    def __init__(self, key_id: str = "k1", algorithm: str = "ES256") -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        self.private = MAKERS[algorithm]()

    def public(self, **changes: Any) -> dict[str, Any]:
        """Returns its entry in a key set; None removes a field."""
        writer = OKPAlgorithm if self.algorithm == "EdDSA" else WRITERS[self.algorithm[0]]
        fields = {**writer.to_jwk(self.private.public_key(), as_dict=True), "kid": self.key_id, "use": "sig", **changes}
        return {name: value for name, value in fields.items() if value is not None}

    def token(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Returns a token of this key; None removes a claim or a header."""
        stated = {"sub": "ann", "exp": int(time.time()) + LATER_S, **claims}
        stated = {name: value for name, value in stated.items() if value is not None}
        named = {"kid": self.key_id, **(headers or {})}
        named = {name: value for name, value in named.items() if value is not None}
        return jwt.encode(stated, self.private, algorithm=self.algorithm, headers=named)


def key_set(*keys: ProviderKey | dict[str, Any]) -> bytes:
    return json.dumps({"keys": [key.public() if isinstance(key, ProviderKey) else key for key in keys]}).encode()


class FakeProvider:
    """Answers `/keys` and the discovery document over HTTP on loopback; a test changes what it answers."""

    def __init__(self) -> None:
        self.answer = b""
        """The body of `/keys`."""
        self.head = b"HTTP/1.1 200 OK\r\n"
        self.issuer: str | None = None
        """The issuer that the discovery document names; None: its own address."""
        self.delay_s = 0.0
        self.is_away = False
        """Whether it hangs up on everyone."""
        self.asked: list[str] = []
        """The paths of all requests."""
        self.port = 0
        self._serving: set[asyncio.Task[Any]] = set()
        self._thread = LoopThread(self._open)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "FakeProvider":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.stop()

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        yield
        server.close()
        tasks = list(self._serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            self.asked.append(path)
            await asyncio.sleep(self.delay_s)
            if not self.is_away:
                body = self.answer if path == "/keys" else self._discovery()
                writer.write(b"%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (self.head, len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    def _discovery(self) -> bytes:
        issuer = self.url if self.issuer is None else self.issuer
        return json.dumps({"issuer": issuer, "jwks_uri": f"{self.url}/keys"}).encode()
