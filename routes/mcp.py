"""The route at which agents call the gateway's tools, by the Model Context Protocol."""

from litestar import get, post
from litestar.types import ASGIApp

from gateway.errors import BadRequest, TooLarge
from gateway.mcp.protocol import RpcHeaders, RpcMessage, check_key
from gateway.mcp.server import McpServer
from routes.operation import CURSOR_INPUTS, IDEMPOTENCY_KEY, Input, Schema, described
from routes.requests import AnyRequest, check_event_stream, cursor, decode, header, read_body
from routes.streams import headers_only, is_head

STREAM_EXAMPLE = """: ok
data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":5,"message":"Hello"}}
id: 9f2c.5tB1.4

data: {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"Hello"}],"isError":false}}
id: 9f2c.5tB1.7

"""
ANSWER_SCHEMA: Schema = {"title": "JSONRPCResponse", "type": "object", "required": ["jsonrpc", "id"]}
INPUTS = (
    Input("MCP-Protocol-Version", "The version that the client speaks", "header"),
    Input("Mcp-Session-Id", "What `initialize` has answered with: the name of this client's requests", "header"),
)
EXAMPLES = {
    "list": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    "call": {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "ask", "arguments": {"question": "Hello!"}, "_meta": {"progressToken": 2}},
    },
}


@post(
    "/mcp",
    status_code=200,
    summary="One message of the Model Context Protocol",
    opt=described(
        body=RpcMessage,
        examples=EXAMPLES,
        answer=ANSWER_SCHEMA,
        stream=STREAM_EXAMPLE,
        inputs=(*INPUTS, IDEMPOTENCY_KEY),
        statuses={
            202: "A notification was taken",
            400: "The body is no message: a JSON-RPC error",
            413: "The body is larger than the limit: a JSON-RPC error",
        },
        errors=(404, 406),
    ),
)
async def call(request: AnyRequest, mcp: McpServer) -> ASGIApp:
    headers = _headers(request)
    with mcp.bodies.hold() as body:
        try:
            message = decode(await read_body(request, body), RpcMessage)
        except (BadRequest, TooLarge) as err:
            is_list = body.data.lstrip()[:1] == b"["  # a batch, which the protocol has no more
            return mcp.refuse(err, is_json=is_list or isinstance(err, TooLarge))
        if message.method == "tools/call":
            check_event_stream(request)
        return await mcp.answer(request.user, headers, message, body)


@get(
    "/mcp",
    summary="Continue the stream of a call strictly after a cursor",
    opt=described(
        stream=STREAM_EXAMPLE,
        inputs=(*INPUTS, *CURSOR_INPUTS),
        statuses={405: "Without a cursor: nothing is sent that no call has asked for"},
        errors=(404, 406, 410),
    ),
)
async def resume(request: AnyRequest, mcp: McpServer) -> ASGIApp:
    check_event_stream(request)
    after = cursor(request)
    if after is None:
        err = BadRequest("nothing is sent here that no call has asked for", status=405, code="no_stream")
        err.headers = {"allow": "POST"}
        raise err
    if is_head(request.scope):
        return headers_only()
    return await mcp.resume(request.user, after, _headers(request))


def _headers(request: AnyRequest) -> RpcHeaders:
    names = (b"mcp-protocol-version", b"mcp-session-id", b"mcp-method", b"mcp-name", b"idempotency-key")
    version, session, method, name, key = (header(request, name) or "" for name in names)
    return RpcHeaders(version, session, method, name, check_key(key))


ROUTES = [call, resume]
