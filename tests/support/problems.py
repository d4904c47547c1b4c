"""A problem document is what every refusal answers with, whatever was sent."""

from typing import Any

import httpx2

OWN_TYPES = {401: ["authentication_error"], 403: ["permission_error"], 429: ["rate_limit_error"]}
FIELDS = {"type", "title", "status", "detail", "code", "retryable", "request_id"}


def check_problem(response: httpx2.Response, status: int, code: str = "", says: str = "") -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem.keys() >= FIELDS
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert isinstance(problem["retryable"], bool)
    assert problem["title"]
    assert problem["detail"]
    assert problem["code"] == code or not code
    assert says in problem["detail"], problem["detail"]
    is_openais = response.request.url.path.startswith("/v1")
    assert ("error" in problem) is is_openais
    if is_openais:
        error = problem["error"]
        assert error.keys() >= {"message", "type", "param", "code"}
        assert (error["message"], error["code"]) == (problem["detail"], problem["code"])
        assert error["type"] in ("invalid_request_error", "server_error", *OWN_TYPES.get(status, []))
    return problem
