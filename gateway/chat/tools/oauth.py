"""Signs requests to a server of tools, by the OAuth client of the package `mcp`.

The package's flow waits for a person in the middle of a request. Here it ends there, with the address where the user
signs in, and goes on with another request once the user is back. It runs below a session, so that a sign-in that is
missing is an answer to one request; and only when the token that is known does not do, because the package lets one
request of a session wait for the other while it runs.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NoReturn
from urllib.parse import urlencode

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, PKCEParameters
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.auth.utils import validate_authorization_response_iss
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl, ValidationError

from gateway.chat.tools.sign_ins import BegunSignIn, SignInAnswer, SignIns, UserSignIn
from gateway.errors import ToolUnreachable, TrilaneError
from gateway.tool_settings import McpSettings

FLOW_S = 30.0
"""Seconds for all requests to an authorization server that one request of a session needs."""
MAX_BYTES = 1 << 20
"""Bytes that an authorization server may answer."""
PING = b'{"jsonrpc":"2.0","id":0,"method":"ping"}'


class SignInNeeded(httpx2.ConnectError):
    """A request was not taken, and its user has to sign in."""

    def __init__(self, begun: BegunSignIn) -> None:
        super().__init__("its user has to sign in")
        self.begun = begun


class OtherTokens(httpx2.ConnectError):
    """A request was not taken, and there are other tokens by now: another process has refreshed them."""


class _UserTokens:
    """What the package's client reads and writes of one user (its `TokenStorage`)."""

    def __init__(self, sign_ins: SignIns, sub: str) -> None:
        self._sign_ins = sign_ins
        self._sub = sub
        self.known = UserSignIn()

    async def get_tokens(self) -> OAuthToken | None:
        self.known = await self._sign_ins.read(self._sub)
        return OAuthToken.model_validate(self.known.tokens) if self.known.tokens else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        given = tokens.model_dump(mode="json", exclude_none=True)
        expires_at = time.time() + tokens.expires_in if tokens.expires_in else 0.0
        client = self.known.client

        def keep(known: UserSignIn) -> UserSignIn:
            return UserSignIn(tokens=given, expires_at=expires_at, client=client, begun=known.begun)

        await self._sign_ins.change(self._sub, keep)
        self.known = UserSignIn(tokens=given, expires_at=expires_at, client=client)

    async def drop_tokens(self) -> None:
        """Signs the user out. Raises OtherTokens when there are others by now than those that are of no use."""
        useless = self.known.tokens

        def drop(known: UserSignIn) -> UserSignIn:
            if known.tokens not in (None, useless):
                raise OtherTokens("it has other tokens")
            return UserSignIn(begun=known.begun)

        if useless is not None:
            await self._sign_ins.change(self._sub, drop)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        settings = self._sign_ins.settings
        if settings.client_id:
            method = "client_secret_basic" if settings.client_secret else "none"
            return OAuthClientInformationFull(
                client_id=settings.client_id,
                client_secret=settings.client_secret or None,
                redirect_uris=[AnyUrl(self._sign_ins.callback)],
                token_endpoint_auth_method=method,
            )
        known = self.known.client or await self._sign_ins.client()
        self.known = UserSignIn(tokens=self.known.tokens, expires_at=self.known.expires_at, client=known)
        return OAuthClientInformationFull.model_validate(known) if known else None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        client = client_info.model_dump(mode="json", exclude_none=True)
        self.known = UserSignIn(tokens=self.known.tokens, expires_at=self.known.expires_at, client=client)
        await self._sign_ins.keep_client(client)


class UserClient(OAuthClientProvider):
    """The package's client for one user; it goes on with an answer, or else stops where a person is needed."""

    def __init__(self, sign_ins: SignIns, sub: str, answer: tuple[BegunSignIn, SignInAnswer] | None = None) -> None:
        metadata = OAuthClientMetadata(
            redirect_uris=[AnyUrl(sign_ins.callback)], client_name="Trilane", application_type="web"
        )
        self.kept = _UserTokens(sign_ins, sub)
        self._answer = answer
        super().__init__(sign_ins.settings.url, metadata, self.kept)

    async def _initialize(self) -> None:
        await super()._initialize()
        self.context.token_expiry_time = self.kept.known.expires_at or None
        if self._answer is not None:
            self.context.clear_tokens()
            self.kept.known = UserSignIn(client=self._answer[0].client)
            self.context.client_info = OAuthClientInformationFull.model_validate(self._answer[0].client)

    async def _perform_authorization_code_grant(self) -> tuple[str, str]:
        """Departs from the package's, which waits here: see there for the parameters."""
        if self._answer is None:
            await self._need_sign_in()
        begun, answer = self._answer
        validate_authorization_response_iss(answer.issuer, self.context.oauth_metadata)
        return answer.code, begun.verifier

    async def _need_sign_in(self) -> NoReturn:
        context = self.context
        if context.client_info is None or context.oauth_metadata is None:
            raise OAuthFlowError("it names no authorization server")
        pkce, state = PKCEParameters.generate(), secrets.token_urlsafe(32)
        asked = {
            "response_type": "code",
            "client_id": context.client_info.client_id,
            "redirect_uri": str((context.client_metadata.redirect_uris or [""])[0]),
            "state": state,
            "code_challenge": pkce.code_challenge,
            "code_challenge_method": "S256",
        }
        if context.should_include_resource_param(context.protocol_version):
            asked["resource"] = context.get_resource_url()
        if scope := context.client_metadata.scope:
            asked["scope"] = scope
            if "offline_access" in scope.split():
                asked["prompt"] = "consent"
        url = f"{context.oauth_metadata.authorization_endpoint}?{urlencode(asked)}"
        await self.kept.drop_tokens()
        client = context.client_info.model_dump(mode="json", exclude_none=True)
        raise SignInNeeded(BegunSignIn(url=url, state=state, verifier=pkce.code_verifier, client=client))

    async def ready(self) -> None:
        """Reads what is known of the user, if that was not read yet."""
        async with self.context.lock:
            if not self._initialized:
                await self._initialize()

    async def look_again(self) -> bool:
        """Returns whether there are other tokens than before: another process has refreshed them."""
        async with self.context.lock:
            before = self.context.current_tokens
            await self._initialize()
            return self.context.current_tokens != before and self.context.is_token_valid()


class SignedWay(httpx2.AsyncBaseTransport):
    """A transport whose requests are those of one user, or of the gateway itself."""

    def __init__(self, way: httpx2.AsyncBaseTransport, client: OAuthClientProvider) -> None:
        self._way = way
        self._client = client
        self._requests = httpx2.AsyncClient(transport=_BoundedWay(way), trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if isinstance(self._client, UserClient):
            await self._client.ready()
        if self._client.context.is_token_valid():
            response = await self._signed(request)
            if response.status_code not in (401, 403):
                return response
            if response.status_code == 403 and "insufficient_scope" not in response.headers.get("www-authenticate", ""):
                return response
            await response.aclose()
            if isinstance(self._client, UserClient) and await self._client.look_again():
                return await self._signed(request)
            if response.status_code == 401:
                self._client.context.token_expiry_time = 1.0  # so that it is refreshed
        try:
            async with asyncio.timeout(FLOW_S):
                return await self._in_flow(request)
        except OtherTokens:
            if isinstance(self._client, UserClient) and await self._client.look_again():
                return await self._signed(request)
            raise
        except (OAuthFlowError, ValidationError, TrilaneError, TimeoutError) as err:
            raise httpx2.ConnectError(f"nobody can be signed in to it: {type(err).__name__}") from err

    async def _signed(self, request: httpx2.Request) -> httpx2.Response:
        tokens = self._client.context.current_tokens
        assert tokens is not None
        request.headers["authorization"] = f"Bearer {tokens.access_token}"
        return await self._way.handle_async_request(request)

    async def _in_flow(self, request: httpx2.Request) -> httpx2.Response:
        request.headers.pop("authorization", None)
        async with aclosing(self._client.async_auth_flow(request)) as flow:
            asked = await anext(flow)
            while True:
                response = await self._response(asked, request)
                try:
                    asked = await flow.asend(response)
                except StopAsyncIteration:
                    return response
                await response.aclose()

    async def _response(self, asked: httpx2.Request, request: httpx2.Request) -> httpx2.Response:
        if asked is not request:
            return await self._requests.send(asked, stream=True, follow_redirects=False)
        response = await self._way.handle_async_request(request)
        response.request = request
        return response

    async def aclose(self) -> None:
        await self._requests.aclose()


class _BoundedWay(httpx2.AsyncBaseTransport):
    """The way to authorization servers."""

    def __init__(self, way: httpx2.AsyncBaseTransport) -> None:
        self._way = way

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._way.handle_async_request(request)
        return httpx2.Response(response.status_code, headers=response.headers, stream=_BoundedBody(response))

    async def aclose(self) -> None:
        await self._way.aclose()


class _BoundedBody(httpx2.AsyncByteStream):
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_BYTES
        async for piece in self._response.aiter_raw():
            left -= len(piece)
            if left < 0:
                raise httpx2.ReadError(f"an authorization server answers with more than {MAX_BYTES} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


# The gateway itself


class _InMemory:
    """The tokens of this process (the package's `TokenStorage`), which gets others when it starts again."""

    def __init__(self) -> None:
        self._tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keeps none: the settings name it."""


def gateways_client(settings: McpSettings) -> OAuthClientProvider:
    """Returns the client that signs the gateway itself in, by its credentials."""
    return ClientCredentialsOAuthProvider(
        settings.url,
        _InMemory(),
        settings.client_id,
        settings.client_secret,
        scope=settings.scope or None,
        issuer=settings.issuer,
    )


# Signing in


async def begin(way: httpx2.AsyncBaseTransport, sign_ins: SignIns, sub: str) -> BegunSignIn | None:
    """Asks a server where a user signs in; returns None for one who is signed in. Raises ToolUnreachable."""
    try:
        await _ping(SignedWay(way, UserClient(sign_ins, sub)), sign_ins.settings)
    except SignInNeeded as err:
        return err.begun
    except httpx2.TransportError as err:
        raise ToolUnreachable(f"{sign_ins.settings.name}: {err or type(err).__name__}") from err
    return None


async def exchange(
    way: httpx2.AsyncBaseTransport, sign_ins: SignIns, sub: str, begun: BegunSignIn, answer: SignInAnswer
) -> None:
    """Gets and keeps the tokens for an answer. Raises ToolUnreachable."""
    client = UserClient(sign_ins, sub, (begun, answer))
    try:
        await _ping(SignedWay(way, client), sign_ins.settings)
    except httpx2.TransportError as err:
        raise ToolUnreachable(f"{sign_ins.settings.name}: {err or type(err).__name__}") from err
    if client.context.current_tokens is None:
        raise ToolUnreachable(f"{sign_ins.settings.name} gave no token")


async def _ping(way: SignedWay, settings: McpSettings) -> None:
    headers: dict[str, Any] = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    request = httpx2.Request("POST", settings.url, headers={**settings.headers, **headers}, content=PING)
    try:
        response = await way.handle_async_request(request)
        await response.aclose()
    finally:
        await way.aclose()
