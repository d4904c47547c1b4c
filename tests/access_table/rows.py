"""The table: what each route answers to each credential, on HTTP, SSE and WebSocket.

A route that is added to a unit needs a row here, and a credential a column: `test_access_table` runs every cell. An
outcome is a status; of a socket that was opened, 101 or the code with which it was closed at once.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.support.sse_client import chat_body

CREDENTIALS = (
    "none",  # no credential at all
    "wrong",  # a key that nobody has
    "expired",  # a token of Alice's that was good
    "revoked",  # a key of Alice's that was ended
    "ticket twice",  # a ticket of Alice's that was used
    "foreign page",  # Alice's cookie, sent by a browser for a page of another site
    "narrow",  # a token of Alice's without lanes and topics
    "other user",  # Bob's key, where what is asked for is Alice's
    "operator",  # a token with the grant `operator`
    "right",  # Alice's key
)
"""The columns, in the order in which they are tried: what only the right one may remove is there until then."""


class Row(NamedTuple):
    """One request, and the outcome for each credential."""

    request: str
    """Method and target; WS for a WebSocket."""
    route: str
    """The route as the application declares it; empty: the target itself."""
    outcomes: Mapping[str, int]
    body: Any = None
    headers: Mapping[str, str] = {}

    @property
    def method(self) -> str:
        return self.request.partition(" ")[0]

    @property
    def target(self) -> str:
        return self.request.partition(" ")[2]

    @property
    def key(self) -> tuple[str, str]:
        """The method and the route, as they are compared with an application's own list."""
        return self.method, self.route or self.target.partition("?")[0]


STRANGERS = dict.fromkeys(("none", "wrong", "expired", "revoked", "ticket twice"), 401) | {"foreign page": 403}
"""Those who are not signed in, whatever they ask for."""


def guarded(right: int, *, narrow: int = 403, other: int | None = None, operator: int | None = None) -> dict[str, int]:
    """Returns the outcomes of a route for signed-in users; `other` and `operator` default to `right`."""
    signed_in = {
        "narrow": narrow,
        "other user": right if other is None else other,
        "operator": right if operator is None else operator,
        "right": right,
    }
    return STRANGERS | signed_in


def everyone(status: int = 200) -> dict[str, int]:
    return dict.fromkeys(CREDENTIALS, status)


CHAT = "/api/chat/{chat_id:str}"
RESPONSE = "/v1/responses/{response_id:str}"
QUESTION = {"messages": [{"role": "user", "content": "T=1 I=0 B=ok"}]}
ASK = {"method": "tools/call", "params": {"name": "ask", "arguments": {"question": "T=1 I=0 B=ok"}}}
FROM_ELSEWHERE = {"x-forwarded-for": "192.0.2.1"}
"""Has a proxy before the gateway, so that nobody counts as a program on this machine."""

ROWS = [
    # Open to everybody
    Row("GET /healthz", "", everyone()),
    Row("GET /readyz", "", everyone()),
    Row("GET /openapi.json", "", everyone()),
    Row("GET /docs", "", everyone()),
    Row("GET /", "", everyone()),
    Row("GET /static/main.js", "/static/{name:path}", everyone()),
    # For operators
    Row(
        "GET /metrics",
        "",
        guarded(403, operator=200) | {"foreign page": 403},
        headers=FROM_ELSEWHERE,
    ),
    # Of the signed-in user
    Row("POST /api/session", "", guarded(204, narrow=204)),
    Row("DELETE /api/session", "", everyone(204) | {"foreign page": 403}),
    Row("POST /api/tickets", "", guarded(200, narrow=200), {"route": "/api/events"}),
    Row("GET /api/usage?sub=alice", "", guarded(200, narrow=200, other=403)),
    # Chat
    Row("POST /api/chat", "", guarded(200), chat_body("table", "T=1 I=0 B=ok")),
    Row("GET /api/chats", "", guarded(200)),
    Row("GET /api/chat/alices", CHAT, guarded(200, other=404, operator=404)),
    Row("GET /api/chat/alices/stream", f"{CHAT}/stream", guarded(204)),
    Row("WS /api/chat/alices/live", f"{CHAT}/live", guarded(101, narrow=1008)),
    Row(
        "POST /api/chat/alices/approvals/ap-none-1",
        f"{CHAT}/approvals/{{approval_id:str}}",
        guarded(404),  # nothing is asked in it; of another's chat nobody learns that much
        {"approved": True},
    ),
    Row(
        "POST /api/chat/alices/steer",
        f"{CHAT}/steer",
        guarded(202, other=404, operator=404),
        {"message": {"id": "steer-1", "role": "user", "parts": [{"type": "text", "text": "T=1 I=0 B=ok"}]}},
    ),
    Row("POST /api/chat/alices/queue/resume", f"{CHAT}/queue/resume", guarded(200, other=404, operator=404)),
    Row(
        "DELETE /api/chat/alices/queue/m-none",
        f"{CHAT}/queue/{{message_id:str}}",
        guarded(404),  # nothing waits in it
    ),
    Row(
        "PUT /api/chat/alices/members/alice",
        f"{CHAT}/members/{{sub:str}}",
        guarded(200, other=404, operator=404),
        {"role": "owner"},
    ),
    Row("DELETE /api/chat/alices/members/zoe", f"{CHAT}/members/{{sub:str}}", guarded(204, other=404, operator=404)),
    Row(
        "PUT /api/chat/alices/members?sub=alice",
        f"{CHAT}/members",
        guarded(200, other=404, operator=404),
        {"role": "owner"},
    ),
    Row("DELETE /api/chat/alices/members?sub=zoe", f"{CHAT}/members", guarded(204, other=404, operator=404)),
    Row("POST /api/chat/alices/typing", f"{CHAT}/typing", guarded(204, other=404, operator=404)),
    Row(
        "POST /api/chat/alices/schedules",
        f"{CHAT}/schedules",
        guarded(200),  # in a chat of one's own, whatever others call theirs
        {"message": {"id": "m", "role": "user", "parts": [{"type": "text", "text": "hi"}]}, "every": 3600},
    ),
    Row("GET /api/chat/alices/schedules", f"{CHAT}/schedules", guarded(200)),
    Row("DELETE /api/chat/alices/schedules/none", f"{CHAT}/schedules/{{schedule_id:str}}", guarded(404)),
    Row("POST /api/chat/alices/stop", f"{CHAT}/stop", guarded(200, other=404, operator=404), {}),
    Row(
        "DELETE /api/chat/alices/messages/m-alices",
        f"{CHAT}/messages/{{message_id:str}}",
        guarded(204, other=404, operator=404),
    ),
    Row("DELETE /api/chat/alices", CHAT, guarded(204, other=404, operator=404)),
    # Workers: no key of a user's lets anybody claim another's run
    Row("POST /api/agents/helper/claim", "/api/agents/{name:str}/claim", guarded(403), {}),
    Row("POST /api/runs/r1/chunks", "/api/runs/{run_id:str}/chunks", guarded(403), {"lease": "x", "expect": 1}),
    Row("GET /api/runs/r1/commands?lease=x", "/api/runs/{run_id:str}/commands", guarded(403)),
    # Of servers of tools, of which this gateway has none that anybody signs in to
    Row("GET /api/mcp/crm/sign-in", "/api/mcp/{name:str}/sign-in", guarded(404)),
    Row("GET /api/mcp/crm/callback?state=s", "/api/mcp/{name:str}/callback", guarded(404)),
    Row("POST /v1/chat/completions", "", guarded(200), QUESTION),
    Row("POST /v1/responses", "", guarded(200), {"input": "T=1 I=0 B=ok"}),
    Row("GET /v1/responses/resp_none", RESPONSE, guarded(404)),  # of another's, too, nobody learns more than that
    Row("POST /v1/responses/resp_none/cancel", f"{RESPONSE}/cancel", guarded(404)),
    Row("GET /v1/responses/resp_none/input_items", f"{RESPONSE}/input_items", guarded(404)),
    Row("DELETE /v1/responses/resp_none", RESPONSE, guarded(404)),
    Row("POST /v1/messages", "", guarded(200), {**QUESTION, "model": "ok", "max_tokens": 9}),
    Row("POST /v1/messages/count_tokens", "", guarded(200), {**QUESTION, "model": "ok", "max_tokens": 9}),
    Row(
        "POST /agui",
        "",
        guarded(200),  # in a thread of one's own, whatever others call theirs
        {"threadId": "agui", "runId": "r1", "messages": [{"id": "m1", "role": "user", "content": "T=1 I=0 B=ok"}]},
    ),
    # Passed to an upstream, which has none of these
    Row("POST /v1/embeddings", "", guarded(404), {"model": "ok", "input": "hi"}),
    Row("POST /v1/completions", "", guarded(404), {"model": "ok", "prompt": "hi"}),
    Row("POST /v1/images/generations", "", guarded(404), {"model": "ok", "prompt": "hi"}),
    Row("POST /v1/moderations", "", guarded(404), {"model": "ok", "input": "hi"}),
    Row("GET /v1/models", "", guarded(200)),
    Row("GET /v1/models/ok", "/v1/models/{model:path}", guarded(200)),
    # Agents: who may use no tool is offered none
    Row("POST /mcp", "", guarded(200, narrow=200), {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    Row("POST /mcp?call", "", guarded(200, narrow=200), {"jsonrpc": "2.0", "id": 1, **ASK}),
    Row("GET /mcp", "", guarded(405, narrow=405)),
    # Events
    Row("GET /api/events", "", guarded(200, narrow=200) | {"ticket twice": 401}),
    Row("GET /api/events?topic=user/alice", "", guarded(200, narrow=200, other=403, operator=200)),
    Row("GET /api/events?topic=team/a", "", guarded(200)),
    Row("GET /api/events?topic=user/*", "", guarded(403, operator=200)),
    Row("POST /api/events", "", guarded(200), {"topic": "team/a", "data": 1}),
    Row("POST /api/events?own", "", guarded(403), {"topic": "user/alice", "data": 1}),
    Row("GET /api/events/topics", "", guarded(400, narrow=400)),
    Row("GET /api/events/topics/team/a", "/api/events/topics/{topic:path}", guarded(200)),
    Row(
        "GET /api/events/topics/user/alice",
        "/api/events/topics/{topic:path}",
        guarded(200, narrow=200, other=403, operator=200),
    ),
    # Audio: a file that is missing is missed only by who may send one
    Row("WS /api/audio", "", guarded(101, narrow=1008)),
    Row("WS /api/audio?session=alices", "/api/audio", guarded(4502, narrow=1008)),
    Row("WS /v1/realtime?intent=transcription", "", guarded(101, narrow=1008)),
    Row("POST /v1/realtime/client_secrets", "", guarded(200), {}),
    Row("POST /v1/audio/speech", "", guarded(400), {"input": ""}),
    Row("POST /v1/audio/transcriptions", "", guarded(400)),
    Row("POST /v1/audio/translations", "", guarded(400)),
    Row("POST /api/audio/transcriptions", "", guarded(400)),
]
