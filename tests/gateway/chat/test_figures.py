"""An upstream's error is counted under one of seven kinds, whatever the upstream calls it."""

import pytest

from gateway.chat.figures import ChatFigures, kind_of
from gateway.core.telemetry import Metrics
from gateway.errors import (
    Overloaded,
    UpstreamCut,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)

KINDS: list[tuple[UpstreamError, str]] = [
    (UpstreamTimeout(), "timeout"),
    (UpstreamTimeout(code="run_timeout"), "timeout"),
    (UpstreamCut(), "cut"),
    (UpstreamUnreachable(code="local_model_failed"), "unreachable"),
    (UpstreamRefused(status=429, code="whatever it says"), "rate_limited"),
    (UpstreamRefused(code="upstream_auth"), "auth"),
    (UpstreamRefused(status=400, code="context_length_exceeded"), "refused"),
    (UpstreamRefused(status=502), "failed"),
    (UpstreamError(), "failed"),
]


@pytest.mark.parametrize(("error", "kind"), KINDS)
def test_each_error_of_an_upstream_has_one_kind(error: UpstreamError, kind: str) -> None:
    assert kind_of(error) == kind
    metrics = Metrics()
    figures = ChatFigures(metrics)
    figures.note_upstream_error(error)
    figures.note_upstream_error(Overloaded())
    [family] = [family for family in metrics.families() if family.name == "trilane_chat_upstream_errors"]
    totals = {labels["kind"]: value for name, labels, value in family.samples if name.endswith("_total")}
    assert totals == dict.fromkeys(totals, 0.0) | {kind: 1.0}
    assert len(totals) == 7


@pytest.mark.parametrize(
    ("code", "outcome"),
    [("recovered", "recovered"), ("bad_cursor", "malformed"), ("evicted", "evicted"), ("forbidden", "refused")],
)
def test_a_resume_has_one_of_a_few_outcomes(code: str, outcome: str) -> None:
    metrics = Metrics()
    ChatFigures(metrics).note_resume(code, 7)
    told = {(name, *labels.values()): value for family in metrics.families() for name, labels, value in family.samples}
    assert told["trilane_chat_resumes_total", outcome] == 1
    assert told["trilane_chat_replay_events_sum",] == 7
