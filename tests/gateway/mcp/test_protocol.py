"""Messages are checked as their era wants it, and calls are named so that every process finds them."""

import json
from typing import Any

import msgspec
import pytest

from gateway.core.leniency import lenient_decoder
from gateway.mcp.protocol import (
    Code,
    RpcError,
    RpcHeaders,
    RpcMessage,
    check_message,
    error,
    frame,
    name_of_call,
    progress,
    result,
)

VERSION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
HEADERS = RpcHeaders(VERSION, "", "tools/call", "ask")
decode = lenient_decoder(RpcMessage)


def message(method: str = "tools/call", request_id: Any = 1, **params: Any) -> RpcMessage:
    fields = {"jsonrpc": "2.0", "method": method, "params": params}
    return decode(json.dumps(fields if request_id is None else {**fields, "id": request_id}))


STATELESS = message(name="ask", _meta=META)


@pytest.mark.parametrize(
    ("headers", "sent", "code"),
    [
        (HEADERS, STATELESS, None),
        (RpcHeaders(), message(name="ask"), None),
        (RpcHeaders("2025-06-18", method="other"), message(name="ask"), None),
        (HEADERS._replace(method="tools/list"), STATELESS, Code.HEADER_MISMATCH),
        (HEADERS._replace(name="publish"), STATELESS, Code.HEADER_MISMATCH),
        (HEADERS._replace(name=""), STATELESS, Code.HEADER_MISMATCH),
        (HEADERS._replace(version="2027-01-01"), STATELESS, Code.HEADER_MISMATCH),
        (HEADERS, message(name="ask"), Code.INVALID_PARAMS),
        (HEADERS, message(name="ask", _meta={next(iter(META)): VERSION}), Code.INVALID_PARAMS),
        (HEADERS, message("notifications/cancelled", None), None),
        (HEADERS._replace(version="1999"), message("notifications/cancelled", None), Code.UNSUPPORTED_VERSION),
        (
            HEADERS._replace(version="1999"),
            message(name="ask", _meta={**META, "io.modelcontextprotocol/protocolVersion": "1999"}),
            Code.UNSUPPORTED_VERSION,
        ),
        (RpcHeaders(session="s" * 129), message(name="ask"), Code.INVALID_REQUEST),
        (RpcHeaders(session="s" * 128), message(name="ask", request_id="i" * 128), None),
        (RpcHeaders(), message(name="ask", request_id="i" * 129), Code.INVALID_REQUEST),
    ],
)
def test_a_request_says_the_same_in_headers_and_body(headers: RpcHeaders, sent: RpcMessage, code: Code | None) -> None:
    if code is None:
        check_message(headers, sent)
    else:
        with pytest.raises(RpcError) as refusal:
            check_message(headers, sent)
        assert refusal.value.code == code


def test_a_version_that_is_not_served_is_answered_with_those_that_are() -> None:
    meta = {**META, "io.modelcontextprotocol/protocolVersion": "1999"}
    with pytest.raises(RpcError) as refusal:
        check_message(HEADERS._replace(version="1999"), message(name="ask", _meta=meta))
    assert refusal.value.data == {
        "supported": ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"],
        "requested": "1999",
    }


def test_a_call_has_one_name_in_its_session_and_none_without() -> None:
    in_session = RpcHeaders(session="s")
    names = [name_of_call(in_session, 1), name_of_call(in_session, "1"), name_of_call(RpcHeaders(session="t"), 1)]
    names += [name_of_call(RpcHeaders(key="s"), 1), name_of_call(RpcHeaders(session="t", key="k"), 1)]
    assert len(set(names)) == 5
    assert name_of_call(in_session, 1) == names[0]
    assert name_of_call(RpcHeaders(key="s"), 2) == names[3], "a key is the client's own name for the request"
    assert name_of_call(RpcHeaders(), 1) == name_of_call(in_session, msgspec.UNSET) == ""


def test_messages_are_written_as_json_rpc_has_them() -> None:
    assert json.loads(result("a", RpcHeaders(), {"x": 1})) == {"jsonrpc": "2.0", "id": "a", "result": {"x": 1}}
    assert json.loads(result(1, HEADERS, {"x": 1}))["result"] == {"resultType": "complete", "x": 1}
    failure = json.loads(error(msgspec.UNSET, RpcError(Code.PARSE_ERROR, "no JSON")))
    assert failure == {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "no JSON"}}
    told = json.loads(progress(7, 3, "abc", 10))
    assert told["params"] == {"progressToken": 7, "progress": 3, "message": "abc", "total": 10}
    assert "id" not in told
    assert [frame(b"{}"), frame(b"{}", b"r.e.1")] == [b"data: {}\n\n", b"data: {}\nid: r.e.1\n\n"]
