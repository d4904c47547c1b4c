"""Requests that our own OpenAPI document describes, and those that it does not, meet no fault of the gateway.

Schemathesis makes them up. A fixed few by default; `FUZZ_EXAMPLES=9000 pytest tests/properties/test_api_fuzz.py` takes
about half an hour. Afterwards no run, stream, task or descriptor is left, and the log holds no traceback.
"""

import os
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import Gateway, UpstreamThread, serving
from tests.properties.breaking import EXAMPLES, check_at_rest, send

pytestmark = pytest.mark.timeout(max(120, 30 * EXAMPLES))


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = serving(tmp_path_factory.mktemp("fuzz"), upstream.url, TRILANE_RUN_S="5", TRILANE_MAX_AGE_S="1")
    server.unit = "all"
    try:
        yield server.start()
    finally:
        server.stop()


def test_no_request_that_is_described_meets_a_fault(place: Gateway) -> None:
    document = httpx2.get(f"{place.url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    tasks, descriptors = place.gauge("trilane_gateway_tasks"), place.fds()
    for result in schema.get_all_operations():
        operation = result.ok()
        if "101" not in operation.definition.raw["responses"]:  # else it is a WebSocket
            fuzz(place.url, operation)
    check_at_rest(place, tasks, descriptors)


def fuzz(url: str, operation: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url=url)
        with requests.Session() as session, session.request(**sent, stream=True, timeout=30) as answer:
            begun = next(answer.iter_content(None), b"")
        assert answer.status_code < 500 or answer.status_code in (502, 503, 504), (sent, begun)
        if answer.status_code >= 400 and sent["method"] != "HEAD":
            is_rpc = operation.path == "/mcp"  # has the errors of its own protocol
            kinds = ("application/problem+json", *(["application/json"] if is_rpc else []))
            assert answer.headers["content-type"] in kinds, (sent, begun)

    run()


CURSORS = st.one_of(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=200),
    st.from_regex(r"[A-Za-z0-9._~-]{0,140}", fullmatch=True),
    st.builds("{}.{}".format, st.integers(), st.integers()),
)


@pytest.mark.parametrize("path", ["/api/events?topic=fuzz", "/api/chat/fuzz/stream", "/api/chats"])
def test_no_cursor_meets_a_fault(place: Gateway, path: str) -> None:
    tasks, descriptors = place.gauge("trilane_gateway_tasks"), place.fds()
    with httpx2.Client(base_url=place.url, timeout=30, verify=False) as client:

        @settings(max_examples=5 * EXAMPLES, derandomize=True, deadline=None, database=None)
        @given(cursor=CURSORS)
        def run(cursor: str) -> None:
            send(client, "GET", path, headers={"last-event-id": cursor})

        run()
    check_at_rest(place, tasks, descriptors)
