"""The description of every unit's routes satisfies a public validator, and is true of what the unit does."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from tests.clients.node import install, tool
from tests.conftest import Gateway, UpstreamThread, serving

UNITS = ("all", "chat", "events", "audio")
BODIES = {"post", "put", "patch"}
WITHOUT_BODY = {
    *("/api/session", "/api/chat/{chat_id}/queue/resume", "/api/chat/{chat_id}/typing"),
    "/v1/responses/{response_id}/cancel",
}
"""Routes whose method could bring a body, and that read none."""
Json = dict[str, Any]


@pytest.fixture(scope="module", params=UNITS)
def unit(
    request: pytest.FixtureRequest, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    server = serving(tmp_path_factory.mktemp(request.param), upstream.url)
    server.unit = request.param
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def document(unit: Gateway) -> Json:
    answer = httpx2.get(f"{unit.url}/openapi.json", timeout=20)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def operations(document: Json) -> list[tuple[str, str, Json]]:
    return [(path, method, item) for path, items in document["paths"].items() for method, item in items.items()]


def test_a_public_validator_finds_no_fault(document: Json) -> None:
    folder = install(Path(__file__).parent / "openapi")
    process = subprocess.run(
        [tool("node"), "validate.mjs"], cwd=folder, input=msgspec.json.encode(document), capture_output=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    assert msgspec.json.decode(process.stdout) == {"valid": True, "errors": []}


def test_every_operation_says_what_it_takes_and_answers(document: Json) -> None:
    for path, method, item in operations(document):
        assert item["summary"], (method, path)
        answers = item["responses"]
        assert set(answers["default"]["content"]) == {"application/problem+json"}, (method, path)
        if "101" in answers:
            assert item["x-client-messages"], path
            continue
        if method in BODIES and path not in WITHOUT_BODY:
            [content] = item["requestBody"]["content"].values()
            assert content["schema"], path
            assert content.get("examples") or "multipart/form-data" in item["requestBody"]["content"], path
        successes = [answer for status, answer in answers.items() if status.startswith("2")]
        assert method == "delete" or path in WITHOUT_BODY or any(answer.get("content") for answer in successes), (
            method,
            path,
        )


def test_every_route_that_streams_shows_a_stream(document: Json) -> None:
    streaming = {"/api/chat", "/api/chat/{chat_id}/stream", "/api/events"}
    streaming |= {"/v1/chat/completions", "/v1/responses", "/v1/messages", "/agui"}
    for path in streaming & document["paths"].keys():
        method = "get" if path in ("/api/events", "/api/chat/{chat_id}/stream") else "post"
        content = document["paths"][path][method]["responses"]["200"]["content"]["text/event-stream"]
        assert content["example"].startswith(": ok\n"), path
        assert content["example"].endswith("\n\n"), path


def required(item: Json) -> dict[str, str]:
    """Returns a value for each parameter that a query needs."""
    parameters = item.get("parameters", [])
    return {one["name"]: "someone" for one in parameters if one["in"] == "query" and one.get("required")}


def test_the_examples_are_accepted(unit: Gateway, document: Json) -> None:
    with httpx2.Client(base_url=unit.url, timeout=20) as client:
        for path, method, item in operations(document):
            body = item.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in body.get("examples", {}).items():
                target = path.replace("{chat_id}", "c1").replace("{approval_id}", "ap-r1-1")
                value = example["value"] | {"model": "ok"} if "model" in example["value"] else example["value"]
                answer = client.request(method, target, json=value, params=required(item))
                assert answer.status_code in (200, 202, 404, 409), (path, name, answer.text)
                assert str(answer.status_code) in item["responses"]


def test_every_route_answers_as_described_to_a_bad_body(unit: Gateway, document: Json) -> None:
    with httpx2.Client(base_url=unit.url, timeout=20) as client:
        for path, method, item in operations(document):
            if "application/json" not in item.get("requestBody", {}).get("content", {}):
                continue
            answer = client.request(method, path.replace("{chat_id}", "c1"), content=b"[[")
            has_problem = "application/problem+json" in item["responses"]["400"].get("content", {})
            kind = "application/problem+json" if has_problem else "application/json"
            assert (answer.status_code, answer.headers["content-type"]) == (400, kind), path
            assert has_problem or path == "/mcp", "a protocol with words of its own for errors"
            problem = document["components"]["schemas"]["Problem"]
            assert not has_problem or set(problem["required"]) <= answer.json().keys()


def test_the_page_shows_every_operation(unit: Gateway, document: Json) -> None:
    page = httpx2.get(f"{unit.url}/docs", timeout=20)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path, method, _ in operations(document):
        assert f"{method.upper()} {path}" in page.text
