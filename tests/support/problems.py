"""A problem document is what every refusal answers with, whatever was sent."""

from typing import Any

import httpx2

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
    return problem
