"""What providers answer to a request that they refuse keeps its meaning, whatever they call it."""

import json
from typing import Any, NamedTuple

import pytest

from gateway.chat.upstreams.refusals import MAX_REPORTED_BYTES, OVERFLOW, error_body, refusal, without_key
from gateway.errors import UpstreamRefused, openai_error_fields, problem

EXHAUSTED = "RESOURCE_EXHAUSTED"
HARD_LIMIT = "billing_hard_limit_reached"
NOTHING = "insufficient_quota"
AUTH = "upstream_auth"
BAD = "upstream_bad_request"
LIMITED = "upstream_rate_limited"


class Told(NamedTuple):
    """A refusal of a provider, and the status and code that our client gets for it."""

    status: int
    error: object
    ours: int
    code: str


def said(message: str, kind: str | None = None, code: object = None, **more: object) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


INVALID = "invalid_request_error"
REFUSED: dict[str, Told] = {
    # Too long
    "OpenAI": Told(400, said("This model's maximum context length is 8192 tokens", INVALID, OVERFLOW), 400, OVERFLOW),
    "llama.cpp": Told(400, said("exceeds the available context size", "exceed_context_size_error", 400), 400, OVERFLOW),
    "vLLM": Told(400, said("maximum context length is 4096 tokens", "BadRequestError", 400), 400, OVERFLOW),
    "SGLang": Told(400, said("is longer than the model's context length (4 tokens)", INVALID, 400), 400, OVERFLOW),
    "Anthropic": Told(400, {"type": "error", **said("prompt is too long: 3 > 2", INVALID)}, 400, OVERFLOW),
    "Gemini": Told(400, [said("The input token count (9) exceeds the maximum number of tokens")], 400, OVERFLOW),
    "Mistral": Told(422, {"message": "too large for model with 9 maximum context length"}, 422, OVERFLOW),
    "xAI": Told(400, {"code": "x y", "error": "This model's maximum prompt length is 9"}, 400, OVERFLOW),
    "TGI": Told(422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 9"}, 422, OVERFLOW),
    "llama.cpp, later": Told(500, said("Context size has been exceeded.", "server_error", 500), 400, OVERFLOW),
    # The request is at fault in another way
    "llama.cpp's eyes": Told(500, said("image input is not supported - hint: ...", "server_error", 500), 400, BAD),
    "llama.cpp's tools": Told(500, said("Failed to parse tools: [1]", "server_error", 500), 400, BAD),
    "schema": Told(
        400, said("Invalid schema", INVALID, "invalid_function_parameters"), 400, "invalid_function_parameters"
    ),
    "no code": Told(400, said("Invalid value", INVALID), 400, BAD),
    "Azure's filter": Told(400, said("filtered", None, "content_filter", status=400), 400, "content_filter"),
    "model": Told(404, said("no such model", INVALID, "model_not_found"), 404, "model_not_found"),
    "Azure's deployment": Told(404, said("no such", None, "DeploymentNotFound"), 404, "DeploymentNotFound"),
    "Ollama": Told(404, {"error": "model 'x' not found"}, 404, "upstream_not_found"),
    "FastAPI": Told(422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}, 422, BAD),
    "Groq's limit": Told(413, said("Request too large", "tokens", "rate_limit_exceeded"), 413, "rate_limit_exceeded"),
    "conflict": Told(409, said("conversation locked", INVALID, "conversation_locked"), 409, "conversation_locked"),
    "media type": Told(415, said("unsupported", INVALID, "unsupported_media"), 415, "unsupported_media"),
    # Nothing left to spend
    "quota": Told(429, said("You exceeded your current quota", NOTHING, NOTHING), 429, NOTHING),
    "hard limit": Told(
        400, said("Billing hard limit", INVALID, "billing_hard_limit_reached"), 400, "billing_hard_limit_reached"
    ),
    "credit": Told(400, {"type": "error", **said("Your credit balance is too low", INVALID)}, 400, NOTHING),
    "DeepSeek": Told(402, said("Insufficient Balance", "unknown_error", INVALID), 402, NOTHING),
    "OpenRouter": Told(402, said("Insufficient credits", None, 402), 402, NOTHING),
    "Moonshot": Told(429, said("suspended", "exceeded_current_quota_error"), 429, NOTHING),
    "Alibaba": Told(400, said("Access denied", "Arrearage", "Arrearage"), 400, "Arrearage"),
    "Zhipu": Told(429, said("余额不足或无可用资源包,请充值。", None, "1113"), 429, NOTHING),
    "Perplexity": Told(401, said("You exceeded your current quota sk-1", NOTHING, 401), 502, NOTHING),
    "Volcengine": Told(403, said("sk-1 is overdue", "Forbidden", "AccountOverdueError"), 502, "AccountOverdueError"),
    # A rate limit, which passes
    "rate": Told(429, said("Rate limit reached", "requests", "rate_limit_exceeded"), 429, LIMITED),
    "Gemini's rate": Told(
        429, [said("You exceeded your current quota", None, 429, status="RESOURCE_EXHAUSTED")], 429, LIMITED
    ),
    # The gateway's own credentials
    "key": Told(401, said("Incorrect API key provided: sk-1", INVALID, "invalid_api_key"), 502, AUTH),
    "Gemini's key": Told(400, [said("API key not valid. Please pass a valid API key.")], 502, AUTH),
    "xAI's key": Told(400, {"code": "x", "error": "Incorrect API key provided: sk-1"}, 502, AUTH),
    "region": Told(403, said("Country not supported", None, "unsupported_country_region_territory"), 502, AUTH),
}


def refused(case: Told) -> UpstreamRefused:
    return refusal(case.status, error_body(json.dumps(case.error).encode()))


def document(error: UpstreamRefused, path: str = "/v1/chat/completions") -> dict[str, Any]:
    return json.loads(problem(error, "r", path)[1])


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_refusal_keeps_its_meaning(case: Told) -> None:
    error = refused(case)
    assert (error.status, error.code) == (case.ours, case.code)
    assert error.retryable is (case.code == LIMITED)
    assert problem(error, "r")[2]["x-should-retry"] == str(error.retryable).lower()
    assert "sk-1" not in str(document(error))


def test_the_error_object_of_a_refusal_is_passed_on_as_it_came() -> None:
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}}
    theirs = said("filtered", INVALID, "content_filter", innererror=inner)["error"]
    error = refusal(400, error_body(json.dumps({"error": theirs}).encode()))
    assert document(error)["error"] == theirs
    assert (document(error)["type"], document(error)["code"]) == (INVALID, "content_filter")


def test_an_error_without_a_code_has_none_for_openais_sdks() -> None:
    error = refusal(400, error_body(json.dumps(said("no", INVALID, param="tools")).encode()))
    assert document(error)["error"] == {"message": "no", "type": INVALID, "param": "tools", "code": None}
    assert (document(error)["code"], document(error)["param"]) == (BAD, "tools")


def test_an_error_that_is_only_a_text_has_our_type_and_code() -> None:
    error = refusal(404, error_body(b'{"error":"model not found"}'))
    fields = {"type": INVALID, "param": None, "code": "upstream_not_found"}
    assert openai_error_fields(error) == fields


def test_an_error_object_that_is_too_large_is_passed_on_by_its_names_alone() -> None:
    theirs = {"message": "no", "type": INVALID, "param": "p", "code": "c", "more": "x" * MAX_REPORTED_BYTES}
    error = refusal(400, error_body(json.dumps({"error": theirs}).encode()))
    assert document(error)["error"] == {"message": "no", "type": INVALID, "param": "p", "code": "c"}


@pytest.mark.parametrize("code", ["x" * 65, "two words", "1000", "\n", "", 7, 1.5, True, [], {"a": 1}])
def test_a_code_that_is_no_name_is_not_the_code_of_our_document(code: object) -> None:
    error = refusal(400, error_body(json.dumps(said("no", "strange type", code)).encode()))
    assert (document(error)["code"], document(error)["type"]) == (BAD, "about:blank")


def test_a_fault_of_the_upstream_keeps_its_type_and_has_a_code_of_ours() -> None:
    error = refusal(503, error_body(json.dumps(said("busy", "overloaded_error", "busy")).encode()))
    assert openai_error_fields(error) == {"type": "overloaded_error", "param": None, "code": "upstream_unavailable"}


def test_the_gateways_key_is_cut_out_of_every_field() -> None:
    error = refusal(400, error_body(json.dumps(said("sk-1", INVALID, "c", asked="with sk-1")).encode()))
    assert "sk-1" not in str(document(without_key("sk-1", error)))  # pyright: ignore


def test_what_no_server_of_this_kind_takes_another_may() -> None:
    final = {name: refused(case).is_final for name, case in REFUSED.items()}
    names = {"schema", "no code", "Azure's filter", "FastAPI", "conflict", "media type"}
    assert {name for name, is_final in final.items() if is_final} == names


def test_other_routes_have_no_error_object() -> None:
    error = refused(REFUSED["OpenAI"])
    assert "error" not in document(error, "/api/chat")
    assert "error" not in document(error, "/v10")
    assert document(error, "/v1")["error"]["code"] == OVERFLOW
