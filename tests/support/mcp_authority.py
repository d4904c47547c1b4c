"""A server of tools that wants its callers signed in, and the authorization server for it, made with the package `mcp`.

It is a program, `python -m tests.support.mcp_authority PORT`. Its authorization server signs in whoever a browser names
in its cookie `who`. Its tools tell who calls. `POST /revoke?who=W&what=access` (or `all`) ends W's tokens.
"""

import secrets
import sys
import time
from base64 import b64encode
from collections import Counter

import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

LASTS_S = 3600
MACHINE = b"machine:secret-of-the-machine"
"""Its id and its secret."""


class Provider(OAuthAuthorizationServerProvider[AuthorizationCode, RefreshToken, AccessToken]):
    """Remembers everything in this process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.asked: dict[str, tuple[OAuthClientInformationFull, AuthorizationParams]] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.access: dict[str, AccessToken] = {}
        self.refresh: dict[str, RefreshToken] = {}
        self.counts: Counter[str] = Counter()

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.counts["registered"] += 1
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        number = secrets.token_hex(8)
        self.asked[number] = client, params
        return f"{self.url}/consent?asked={number}"

    def consent(self, number: str, who: str) -> str:
        client, params = self.asked.pop(number)
        back = str(params.redirect_uri)
        if not who:
            return construct_redirect_uri(back, error="access_denied", state=params.state)
        code = AuthorizationCode(
            code=secrets.token_hex(16),
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
            subject=who,
        )
        self.codes[code.code] = code
        return construct_redirect_uri(back, code=code.code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self.codes[authorization_code.code]
        self.counts["exchanged"] += 1
        return self._given(client.client_id, authorization_code.subject or "", authorization_code.resource)

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        return self.refresh.get(refresh_token)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        del self.refresh[refresh_token.token]  # each is good once
        self.counts["refreshed"] += 1
        return self._given(client.client_id, refresh_token.subject or "", refresh_token.resource)

    async def load_access_token(self, token: str) -> AccessToken | None:
        return self.access.get(token)

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        self.access.pop(token.token, None)
        self.refresh.pop(token.token, None)

    def revoke(self, who: str, what: str) -> None:
        self.access = {key: one for key, one in self.access.items() if one.subject != who}
        if what == "all":
            self.refresh = {key: one for key, one in self.refresh.items() if one.subject != who}

    def given_to_machine(self, resource: str | None) -> dict[str, object]:
        self.counts["machine"] += 1
        return self._given("machine", "the machine", resource).model_dump(exclude={"refresh_token"}, exclude_none=True)

    def _given(self, client_id: str, who: str, resource: str | None) -> OAuthToken:
        access, refresh = f"access-{secrets.token_hex(16)}", f"refresh-{secrets.token_hex(16)}"
        about = {"client_id": client_id, "scopes": [], "resource": resource, "subject": who}
        self.access[access] = AccessToken(token=access, expires_at=int(time.time()) + LASTS_S, **about)
        self.refresh[refresh] = RefreshToken(token=refresh, **about)
        return OAuthToken(access_token=access, refresh_token=refresh, expires_in=LASTS_S)


def authority_of(port: int) -> tuple[MCPServer, Provider]:
    """Returns a server for this port, and its authorization server."""
    url = f"http://127.0.0.1:{port}"
    provider = Provider(url)
    auth = AuthSettings(
        issuer_url=AnyHttpUrl(url),
        resource_server_url=AnyHttpUrl(f"{url}/mcp"),
        client_registration_options=ClientRegistrationOptions(enabled=True),
        validate_token_resource=True,
    )
    server = MCPServer("signed", log_level="ERROR", auth_server_provider=provider, auth=auth)

    @server.tool()
    def whoami() -> str:
        token = get_access_token()
        return (token.subject if token is not None else None) or "nobody"

    @server.custom_route("/consent", methods=["GET"])
    async def consent(request: Request) -> Response:
        return RedirectResponse(provider.consent(request.query_params["asked"], request.cookies.get("who", "")), 302)

    @server.custom_route("/revoke", methods=["POST"])
    async def revoke(request: Request) -> Response:
        provider.revoke(request.query_params["who"], request.query_params["what"])
        return Response()

    @server.custom_route("/counts", methods=["GET"])
    async def counts(request: Request) -> Response:
        return JSONResponse(provider.counts)

    return server, provider


class MachineTokens:
    """An ASGI application before that of a server: its `/token` knows one machine, too, which the package does not."""

    def __init__(self, app: ASGIApp, provider: Provider) -> None:
        self._app = app
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/token":
            return await self._app(scope, receive, send)
        request = Request(scope, receive)
        form = dict(await request.form())
        if request.headers.get("authorization") != f"Basic {b64encode(MACHINE).decode()}":
            answer = JSONResponse({"error": "invalid_client"}, 401)
        elif form.get("grant_type") != "client_credentials":
            answer = JSONResponse({"error": "unsupported_grant_type"}, 400)
        else:
            answer = JSONResponse(self._provider.given_to_machine(str(form.get("resource") or "") or None))
        return await answer(scope, receive, send)


if __name__ == "__main__":
    at = int(sys.argv[1])
    uvicorn.run(authority_of(at)[0].streamable_http_app(), port=at, log_level="error")
