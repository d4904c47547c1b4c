"""Describes the routes of one unit as an OpenAPI 3.1 document, which `/openapi.json` gives and `/docs` shows.

Departs from the framework's own: handlers here read their bodies and write their streams themselves, so each says what
it takes and answers in its options (`routes.operation`), and schemas come from the very types that decode and encode.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, cast, get_origin

import msgspec
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler

from gateway.access.signin import COOKIE
from gateway.access.tickets import takes_tickets
from gateway.settings import Settings
from routes.operation import OPERATION, Input, Operation, Schema

REF = "#/components/schemas/{name}"
PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
PROBLEM_TYPE = "application/problem+json"
PROBLEM_SCHEMA: Schema = {
    "title": "Problem",
    "description": "An error as RFC 9457 has it. On `/v1` it also has OpenAI's `error` object.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "`about:blank`, or what the model's provider calls the error"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong, the limit, and what to do"},
        "code": {"type": "string", "description": "The error's name, for programs"},
        "retryable": {"type": "boolean", "description": "Whether the same request may work later"},
        "request_id": {"type": "string"},
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        },
    },
    "required": ["type", "title", "status", "detail", "code", "retryable", "request_id"],
}
REQUEST_ID: Schema = {
    "description": "The request's id: the client's own `x-request-id`, when that is a sane token",
    "schema": {"type": "string"},
}
RETRY_AFTER: Schema = {"description": "Seconds after which to try again", "schema": {"type": "string"}}


class ApiDescription:
    """The document of one unit, made when it is first asked for."""

    def __init__(self, handlers: Sequence[Any], settings: Settings) -> None:
        self._handlers = handlers
        self._settings = settings

    @cached_property
    def document(self) -> Schema:
        """The document, as JSON values."""
        operations = [*self._operations()]
        types = [*dict.fromkeys(_types(operation for *_, operation in operations))]
        schemas, components = msgspec.json.schema_components(types, ref_template=REF)
        writer = _OperationWriter(dict(zip(types, schemas, strict=True)), self._settings)
        paths: dict[str, dict[str, Schema]] = {}
        for path, method, handler, operation in operations:
            item = paths.setdefault(PATH_PARAMETER.sub(r"{\1}", path), {})
            item[method] = writer.operation(path, method, handler, operation)
        return _portable(
            {
                "openapi": "3.1.0",
                "info": {
                    "title": "Trilane",
                    "version": version("trilane"),
                    "summary": "The real-time gateway for AI products: chat, events and audio",
                    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                },
                "servers": [{"url": "/"}],
                "paths": paths,
                "components": {
                    "schemas": {**components, "Problem": PROBLEM_SCHEMA},
                    "headers": {"x-request-id": REQUEST_ID, "retry-after": RETRY_AFTER},
                    "securitySchemes": _security_schemes(),
                },
            }
        )

    @cached_property
    def encoded(self) -> bytes:
        """The document, as `/openapi.json` answers with it."""
        return msgspec.json.encode(self.document)

    def _operations(self) -> Iterator[tuple[str, str, Any, Operation]]:
        """Yields path, method, handler and description of every route that is to be seen."""
        for handler in self._handlers:
            if isinstance(handler, HTTPRouteHandler) and handler.include_in_schema is not False:
                methods = sorted(handler.http_methods - {"HEAD", "OPTIONS"})
            elif isinstance(handler, WebsocketRouteHandler):
                methods = ["GET"]
            else:
                continue
            operation = handler.opt.get(OPERATION) or Operation()
            if operation.answer is None and isinstance(handler, HTTPRouteHandler):
                operation = operation._replace(answer=_answer_type(handler.fn.__annotations__.get("return")))
            for path in sorted(handler.paths):
                for method in methods:
                    yield path, method.lower(), handler, operation


class _OperationWriter:
    """Writes operations; `schemas` holds the schema of every type."""

    def __init__(self, schemas: Mapping[Any, Schema], settings: Settings) -> None:
        self._schemas = schemas
        self._settings = settings
        self._ids: set[str] = set()

    def operation(self, path: str, method: str, handler: Any, operation: Operation) -> Schema:
        is_open = bool(handler.opt.get("open"))
        described: Schema = {
            "operationId": self._id(f"{handler.fn.__name__}_{handler.fn.__module__.rpartition('.')[2]}"),
            "tags": [_tag(path)],
            "summary": getattr(handler, "summary", None) or (handler.fn.__doc__ or "").strip().partition("\n")[0],
            "parameters": [*map(_path_parameter, PATH_PARAMETER.findall(path)), *map(_parameter, operation.inputs)],
            "security": [] if is_open or not self._settings.requires_sign_in else _security(path),
        }
        if isinstance(handler, WebsocketRouteHandler):
            return described | self._websocket(operation)
        if operation.body is not None:
            described["requestBody"] = self._body(operation)
        described["responses"] = self._responses(
            handler, operation, is_open=is_open, has_inputs=bool(described["parameters"])
        )
        return described

    def _id(self, name: str) -> str:
        names = (name if number == 1 else f"{name}_{number}" for number in range(1, 1000))
        unique = next(unique for unique in names if unique not in self._ids)
        self._ids.add(unique)
        return unique

    def _body(self, operation: Operation) -> Schema:
        content: Schema = {"schema": self._schema(operation.body)}
        if operation.examples:
            content["examples"] = {name: {"value": value} for name, value in operation.examples.items()}
        return {"required": operation.is_body_required, "content": {operation.media_type: content}}

    def _responses(self, handler: Any, operation: Operation, *, is_open: bool, has_inputs: bool) -> Schema:
        content: Schema = {}
        if operation.stream:
            content["text/event-stream"] = {"schema": {"type": "string"}, "example": operation.stream}
        if operation.answer is not None:
            content[operation.answer_media_type] = {"schema": self._schema(operation.answer)}
        success: Schema = {"description": handler.summary or "Success", "headers": _headers("x-request-id")}
        responses = {str(handler.status_code): success | ({"content": content} if content else {})}
        if operation.accepted is not None:
            answer = {"application/json": {"schema": self._schema(operation.accepted)}}
            responses["202"] = success | {"description": "It goes on by itself", "content": answer}
        for status, meaning in operation.statuses.items():
            responses[str(status)] = {"description": meaning, "headers": _headers("x-request-id")}
        errors = {*operation.errors, 503}
        errors |= set() if is_open else {401, 403, 429}
        errors |= {400, 413} if operation.body is not None else {400} if has_inputs else set[int]()
        errors -= operation.statuses.keys()
        return responses | {str(status): _error(status) for status in sorted(errors)} | {"default": _error(None)}

    def _websocket(self, operation: Operation) -> Schema:
        described: Schema = {
            "description": "A WebSocket: connect with `Upgrade: websocket`.",
            "responses": {"101": {"description": "The connection is a WebSocket"}, "default": _error(None)},
        }
        if operation.body is not None:
            described["x-client-messages"] = self._schema(operation.body)
        if operation.answer is not None:
            described["x-server-messages"] = self._schema(operation.answer)
        return described

    def _schema(self, kind: Any) -> Schema:
        return cast("Schema", kind) if isinstance(kind, dict) else self._schemas[kind]


def _answer_type(annotation: Any) -> Any:
    """Returns what a handler is annotated to answer with, when that is JSON of a declared type."""
    kind: Any = annotation
    is_struct = isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)
    return kind if is_struct or get_origin(annotation) in (dict, list) else None


def _types(operations: Iterable[Operation]) -> Iterator[Any]:
    for operation in operations:
        yield from (
            kind
            for kind in (operation.body, operation.answer, operation.accepted)
            if kind is not None and not isinstance(kind, dict)
        )


def _tag(path: str) -> str:
    """Returns the family of a route: the lane, `openai`, or `operations`."""
    first, _, rest = path.strip("/").partition("/")
    if first in ("v1", "mcp"):
        return "openai" if first == "v1" else first
    return rest.partition("/")[0].replace("chats", "chat") if first == "api" else "operations"


def _path_parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _parameter(given: Input) -> Schema:
    return {
        "name": given.name,
        "in": given.place,
        "required": given.is_required,
        "description": given.description,
        "schema": given.schema,
    }


def _headers(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _error(status: int | None) -> Schema:
    names = ("x-request-id", "retry-after") if status in (429, 503) else ("x-request-id",)
    return {
        "description": HTTPStatus(status).phrase if status is not None else "Any other error",
        "headers": _headers(*names),
        "content": {PROBLEM_TYPE: {"schema": {"$ref": REF.format(name="Problem")}}},
    }


def _security_schemes() -> Schema:
    return {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a JWT"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
        "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "From `POST /api/tickets`, once"},
    }


def _security(path: str) -> list[dict[str, list[str]]]:
    names = ["bearer", "cookie", *(["ticket"] if takes_tickets(PATH_PARAMETER.sub("x", path)) else [])]
    return [{name: []} for name in names]


def _portable(schema: Schema) -> Schema:
    r"""Replaces Python's `\Z` at the end of patterns by `$`, which is what ends a text in JSON Schema."""
    return {key: _portable_value(key, value) for key, value in schema.items()}


def _portable_value(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return _portable(cast("Schema", value))
    if isinstance(value, list):
        return [_portable_value("", inner) for inner in cast("list[Any]", value)]
    return value.replace("\\Z", "$") if key == "pattern" and isinstance(value, str) else value
