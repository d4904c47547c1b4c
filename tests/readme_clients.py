"""README's table of clients is made from the tests that run them: what no test shows has no mark.

.venv/bin/python -m tests.readme_clients    # writes it into README.md
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
README = TESTS.parent / "README.md"
COMMAND = ".venv/bin/python -m tests.readme_clients"
FEATURES = ("whole", "stream", "tools", "objects", "images", "errors", "cancel", "resume")


class Client(NamedTuple):
    """A client, where its version stands, and a test of each thing that it does."""

    name: str
    packages: tuple[str, ...]
    """Names in `js/package.json`, or of the Python package."""
    route: str
    file: str
    tests: Mapping[str, str]
    """The test of each feature, in `file` unless it names another one before a colon."""


PYTHON_COMPLETIONS = {
    "whole": "test_a_whole_answer_arrives_with_its_figures",
    "stream": "test_a_streamed_answer_arrives_whole",
    "tools": "test_a_tools_result_goes_back_to_the_model",
    "errors": "test_openai_sdk_errors:test_a_refusal_has_a_status_and_a_code",
    "cancel": "test_a_client_that_leaves_ends_the_generation",
}
PYTHON_RESPONSES = {
    "whole": "test_a_whole_response_arrives_with_its_figures",
    "stream": "test_a_stream_has_every_event_in_order_with_its_number",
    "tools": "test_a_tools_result_goes_back_to_the_model",
    "objects": "test_an_object_is_parsed_by_the_sdk",
    "images": "test_items_become_the_messages_of_a_completion",
    "errors": "test_a_refusal_has_a_status_and_a_code",
    "cancel": "test_responses_stored:test_a_response_is_cancelled_and_stays_so",
    "resume": "test_responses_stored:test_a_stream_that_is_cut_at_any_event_is_resumed_whole",
}
PYTHON_MESSAGES = {
    "whole": "test_an_answer_arrives_whole_with_its_figures",
    "stream": "test_the_events_come_in_their_order",
    "tools": "test_a_conversation_with_a_tool_reaches_the_upstream_as_it_was_meant",
    "objects": "test_options_pictures_and_documents_reach_the_upstream",
    "images": "test_options_pictures_and_documents_reach_the_upstream",
    "errors": "test_a_refusal_has_the_formats_own_form",
    "cancel": "test_who_leaves_ends_the_upstreams_work",
}
CLIENTS = (
    Client("`openai` (Python)", ("openai",), "/v1/chat/completions", "test_openai_sdk", PYTHON_COMPLETIONS),
    Client("`openai` (Python)", ("openai",), "/v1/responses", "test_responses_sdk", PYTHON_RESPONSES),
    Client(
        "`openai` (npm)",
        ("openai",),
        "/v1/chat/completions",
        "test_openai_js",
        {
            "whole": "test_a_whole_answer_arrives_with_its_figures",
            "stream": "test_a_streamed_answer_arrives_with_its_usage",
            "tools": "test_tool_calls_are_assembled_by_the_sdk",
            "errors": "test_a_rate_limit_says_when_to_return",
        },
    ),
    Client(
        "`openai` (npm)",
        ("openai5", "openai6"),
        "/v1/chat/completions",
        "test_errors",
        {"errors": "test_javascript_raises_what_the_provider_makes_it_raise"},
    ),
    Client(
        "`openai` (npm)",
        ("openai",),
        "/v1/responses",
        "test_responses_js",
        {
            "whole": "test_openais_sdk_reads_a_response_whole_and_streamed",
            "stream": "test_openais_sdk_reads_a_response_whole_and_streamed",
            "errors": "test_openais_sdk_raises_what_is_not_whole",
            "resume": "test_openais_sdk_goes_on_behind_an_event",
        },
    ),
    Client(
        "`@ai-sdk/openai`",
        ("openai-provider5", "openai-provider6", "openai-provider7"),
        "/v1/responses",
        "test_responses_js",
        {
            "whole": "test_the_ai_sdk_runs_its_tools_without_a_stream",
            "stream": "test_the_ai_sdk_reads_an_answer_with_its_figures",
            "tools": "test_the_ai_sdk_runs_its_tools_in_two_steps",
            "objects": "test_the_ai_sdk_makes_an_object",
            "errors": "test_the_ai_sdk_tells_what_is_not_whole",
        },
    ),
    Client("`anthropic` (Python)", ("anthropic",), "/v1/messages", "test_anthropic_sdk", PYTHON_MESSAGES),
    Client(
        "`@anthropic-ai/sdk`",
        ("@anthropic-ai/sdk",),
        "/v1/messages",
        "test_anthropic_js",
        {
            "whole": "test_an_answer_arrives_whole_with_its_figures",
            "stream": "test_a_stream_is_put_together_by_the_sdk",
            "errors": "test_what_failed_is_raised",
        },
    ),
    Client(
        "`@ai-sdk/anthropic`",
        ("anthropic-provider5", "anthropic-provider6", "anthropic-provider7"),
        "/v1/messages",
        "test_anthropic_js",
        {
            "whole": "test_the_ai_sdk_generates",
            "stream": "test_the_ai_sdk_streams",
            "tools": "test_the_ai_sdk_calls_tools_in_steps",
            "errors": "test_the_ai_sdk_tells_of_a_cut",
        },
    ),
    Client(
        "`useChat` of `ai`",
        ("ai5", "ai6", "ai7"),
        "/api/chat",
        "test_ai_sdk_answers",
        {
            "stream": "test_a_message_gets_one_answer",
            "tools": "test_a_tools_result_continues_the_same_answer",
            "images": "test_ai_sdk_files:test_files_of_every_kind_reach_the_model",
            "errors": "test_a_refusal_is_an_error_and_can_be_tried_again",
            "cancel": "test_ai_sdk_stop:test_stop_keeps_the_text_and_ends_the_generation",
            "resume": "test_ai_sdk_resume:test_an_answer_cut_at_any_byte_is_whole",
        },
    ),
    Client(
        "`HttpAgent` of `@ag-ui/client`",
        ("@ag-ui/client",),
        "/agui",
        "test_agui_js",
        {
            "stream": "test_a_run_streams_a_text_and_its_figures",
            "tools": "test_a_client_makes_its_own_calls_and_the_next_run_goes_on",
            "errors": "test_what_failed_is_told_as_the_protocol_has_it",
            "cancel": "test_who_aborts_ends_the_upstreams_work",
            "resume": "test_a_run_that_was_cut_is_whole_when_it_is_asked_for_again",
        },
    ),
)


def with_clients(text: str) -> str:
    """Returns a README's text with the table as the tests have it. Raises ValueError unless its markers are there
    once, and for a test or a package that is not there.
    """
    between = re.compile("(<!-- clients -->\n).*?(<!-- /clients -->)", re.DOTALL)
    text, count = between.subn(lambda match: match[1] + table() + match[2], text)
    if count != 1:
        raise ValueError(f"README.md has {count} tables between <!-- clients --> and <!-- /clients -->: want one")
    return text


def table() -> str:
    lines = [f"| client | version | route | {' | '.join(FEATURES)} |", "|---" * (len(FEATURES) + 3) + "|"]
    for client in CLIENTS:
        marks = " | ".join("✓" if _has_test(client, feature) else "" for feature in FEATURES)
        versions = ", ".join(version_of(name, is_js="(Python)" not in client.name) for name in client.packages)
        lines.append(f"| {client.name} | {versions} | `{client.route}` | {marks} |")
    return "".join(f"{line}\n" for line in lines)


def _has_test(client: Client, feature: str) -> bool:
    """Returns whether a test shows a feature. Raises ValueError for a test that is named and not there."""
    name = client.tests.get(feature)
    if name is None:
        return False
    file, _, test = name.rpartition(":")
    source = (TESTS / "clients" / f"{file or client.file}.py").read_text()
    if not re.search(rf"^def {test}\(", source, re.MULTILINE):
        raise ValueError(f"{file or client.file}.py has no {test}: name the test that shows {feature} of {client.name}")
    return True


def version_of(package: str, *, is_js: bool) -> str:
    """Returns the version that the tests install. Raises ValueError for a package that they do not."""
    if is_js:
        pinned = json.loads((TESTS / "clients" / "js" / "package.json").read_text())["dependencies"]
        version = str(pinned.get(package, "")).rpartition("@")[2]
    else:
        lock = (TESTS.parent / "requirements-dev.lock").read_text()
        match = re.search(rf"^{re.escape(package)}==([0-9.]+)", lock, re.MULTILINE)
        version = match[1] if match else ""
    if not version:
        raise ValueError(f"the tests install no {package}")
    return version


if __name__ == "__main__":
    README.write_text(with_clients(README.read_text()))
