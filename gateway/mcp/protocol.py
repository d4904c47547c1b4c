"""The messages of the Model Context Protocol over Streamable HTTP, and the rules for their headers. Pure.

Two eras are served. Since 2026-07-28 each request stands for itself: it says its version and the client's capabilities,
headers repeat what a proxy may route by, and to close a stream is to cancel. Before, a handshake agrees on a version.
Neither needs a memory here: a session is a name that tells the requests of two clients apart, and is kept nowhere.
"""

from enum import IntEnum
from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType, field

from gateway.errors import BadRequest

STATELESS_VERSIONS = ("2026-07-28",)
"""Versions without a handshake."""
HANDSHAKE_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
"""Versions with a handshake, the newest first."""
ASSUMED_VERSION = "2025-03-26"
"""The version of a request that names none (Streamable HTTP, "Protocol Version Header")."""
PRIMED_SINCE = "2025-11-25"
"""The version since which clients take an empty event for the id that it carries."""
MAX_NAME = 128
"""Maximum characters of a session, of a request's id, and of a progress token."""
ENVELOPE = "io.modelcontextprotocol/"
"""What begins the names of the fields that each request without a handshake carries."""

RequestId = int | str


class Code(IntEnum):
    """Every code of an error that is sent (JSON-RPC 2.0, and MCP's own)."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    HEADER_MISMATCH = -32020
    UNSUPPORTED_VERSION = -32022


class RequestMeta(msgspec.Struct, frozen=True):
    """The fields of `_meta` that we read."""

    progress_token: RequestId | UnsetType = field(default=UNSET, name="progressToken")
    version: str | UnsetType = field(default=UNSET, name=f"{ENVELOPE}protocolVersion")
    capabilities: Raw | UnsetType = field(default=UNSET, name=f"{ENVELOPE}clientCapabilities")


class Params(msgspec.Struct, frozen=True, rename="camel"):
    """The parameters that we read, of any method."""

    meta: RequestMeta = field(default=RequestMeta(), name="_meta")
    name: str | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    protocol_version: str = ""
    request_id: RequestId | UnsetType = UNSET


class RpcMessage(msgspec.Struct, frozen=True):
    """One JSON-RPC message: a request, a notification without an id, or a response without a method."""

    jsonrpc: Literal["2.0"]
    method: str = ""
    id: RequestId | UnsetType = UNSET
    params: Params = Params()


class RpcHeaders(NamedTuple):
    """The headers of a request that the protocol gives a meaning; empty where one is missing."""

    version: str = ""
    session: str = ""
    method: str = ""
    name: str = ""
    key: str = ""
    """The key of the request, by which it is known when it is sent again."""

    @property
    def is_stateless(self) -> bool:
        """Returns whether the request belongs to the era without a handshake."""
        return bool(self.version) and self.version not in HANDSHAKE_VERSIONS


class RpcError(Exception):
    """A request that is answered with a JSON-RPC error."""

    def __init__(self, code: Code, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


def check_message(headers: RpcHeaders, message: RpcMessage) -> None:
    """Raises RpcError for a request whose version is not served, or whose headers say something else than it does."""
    if len(str(message.id)) > MAX_NAME or len(headers.session) > MAX_NAME:
        raise RpcError(Code.INVALID_REQUEST, f"an id or a session has more than {MAX_NAME} characters")
    if not headers.is_stateless:
        return
    params, envelope = message.params, message.params.meta
    if message.id is not UNSET:
        missing = [name for name in ("version", "capabilities") if getattr(envelope, name) is UNSET]
        if missing:
            names = {"version": "protocolVersion", "capabilities": "clientCapabilities"}
            listed = ", ".join(f"{ENVELOPE}{names[name]}" for name in missing)
            raise RpcError(Code.INVALID_PARAMS, f"params._meta lacks {listed}")
        pairs = [("mcp-protocol-version", headers.version, envelope.version)]
        pairs += [("mcp-method", headers.method, message.method)]
        pairs += [("mcp-name", headers.name, params.name)] if message.method == "tools/call" else []
        for header, said, meant in pairs:
            if said != meant and meant is not UNSET:
                raise RpcError(Code.HEADER_MISMATCH, f"the header {header} is {said[:80]!r}, not as in the body")
    if headers.version not in STATELESS_VERSIONS:
        supported = [*STATELESS_VERSIONS, *HANDSHAKE_VERSIONS]
        data = {"supported": supported, "requested": headers.version[:80]}
        raise RpcError(Code.UNSUPPORTED_VERSION, "this protocol version is not served", data)


def name_of_call(headers: RpcHeaders, request_id: RequestId | UnsetType) -> str:
    """Returns the name by which every process knows a call, when it is sent again or cancelled; empty without one.

    An id is unique in its session only, so a request of no session needs a key of its own.
    """
    if headers.key:
        words: list[object] = ["key", headers.key]
    elif headers.session and not isinstance(request_id, UnsetType):
        words = ["session", headers.session, request_id]
    else:
        return ""
    return sha256(msgspec.json.encode(words)).hexdigest()[:32]


# What is sent


def result(request_id: RequestId, headers: RpcHeaders, fields: dict[str, object]) -> bytes:
    """Returns the response with a result, which says since 2026-07-28 that it is the whole of it."""
    whole = {"resultType": "complete", **fields} if headers.is_stateless else fields
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "result": whole})


def error(request_id: RequestId | UnsetType, failure: RpcError) -> bytes:
    """Returns the response with an error; the id is null when the request had none that could be read."""
    described = {"code": int(failure.code), "message": failure.message, "data": failure.data}
    if failure.data is None:
        del described["data"]
    known_id = None if isinstance(request_id, UnsetType) else request_id
    return msgspec.json.encode({"jsonrpc": "2.0", "id": known_id, "error": described})


def progress(token: RequestId, amount: float, message: str, total: float | None = None) -> bytes:
    """Returns the notification that a call has got on; `amount` grows from each to the next."""
    params: dict[str, object] = {"progressToken": token, "progress": amount, "message": message}
    if total is not None:
        params["total"] = total
    return msgspec.json.encode({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def frame(message: bytes, cursor: bytes = b"") -> bytes:
    """Returns a message as one event of a stream; with a cursor, a client can come back after it."""
    return b"data: %b\nid: %b\n\n" % (message, cursor) if cursor else b"data: %b\n\n" % message


def text_result(text: str, *, is_error: bool = False, structured: object = None) -> dict[str, object]:
    """Returns the result of a tool: a text for a model, and what a program can read of it.

    An error of a tool is a result, too: the model that called it shall see why.
    """
    fields: dict[str, object] = {"content": [{"type": "text", "text": text}], "isError": is_error}
    return {**fields, "structuredContent": structured} if structured is not None else fields


def check_key(key: str) -> str:
    """Returns the key of a request unchanged; raises BadRequest when it is too long."""
    if len(key) > MAX_NAME:
        raise BadRequest(f"the Idempotency-Key has {len(key)} characters: at most {MAX_NAME} are allowed")
    return key
