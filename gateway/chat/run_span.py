"""The span of a run, which outlives the request that began it and ends with the run.

Its parent is the caller's own span, and its children are the tries of upstreams (`gateway.chat.upstreams.try_span`).
The conventions for generative AI call what makes several requests for one answer a workflow.
"""

from typing import TYPE_CHECKING

from gateway.chat.ending import Aborted, Failed, Finished
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.run import Run
from gateway.chat.upstreams.try_span import (
    FINISH_REASONS,
    FIRST_CHUNK_S,
    OPERATION,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    finish_reasons,
    usage_attributes,
)

if TYPE_CHECKING:
    from gateway.core.tracing import Attributes, Span, Tracer

WORKFLOW = "invoke_workflow"
NAME = "run"
OUTCOME = "trilane.outcome"
TAKEN_OVER = "interrupted"
"""The outcome of a run that another process has ended, because it took this one for dead."""


def run_span(tracer: "Tracer", info: RunInfo) -> "Span":
    """Returns the span of a run that begins now."""
    attributes = {OPERATION: WORKFLOW, "gen_ai.workflow.name": NAME, REQUEST_MODEL: info.model}
    return tracer.start(f"{WORKFLOW} {NAME}", {**attributes, "trilane.run.id": info.run_id})


def end_run_span(span: "Span", run: Run) -> None:
    """Ends the span of a run whose task is over. One that its client stopped has an outcome, and no error."""
    outcome, error_type = _outcome(run)
    span.end({OUTCOME: outcome, **_figures(run)}, error_type)


def _outcome(run: Run) -> tuple[str, str]:
    """Returns how a run ended, as its row of usage has it, and the word for its error, if it had one."""
    match run.outcome:
        case None:
            return "error", "internal"
        case _ if not run.finished.cancelled() and run.finished.result() is None:
            return TAKEN_OVER, TAKEN_OVER
        case Failed(error=error):
            return ("interrupted" if error.code == "interrupted" else "error"), error.code
        case Finished():
            return "finish", ""
        case Aborted():
            return "abort", ""


def _figures(run: Run) -> "Attributes":
    figures: Attributes = {}
    if run.first_token_s is not None:
        figures = {RESPONSE_MODEL: run.model, FIRST_CHUNK_S: run.first_token_s}
    finished = None if run.finished.cancelled() else run.finished.result()
    if finished is None:
        return figures
    usage = finished.usage
    reasons: Attributes = {FINISH_REASONS: finish_reasons(finished.finish_reason)}
    estimate: Attributes = {"trilane.usage.estimated": True} if usage.estimated else {}
    return {**figures, **usage_attributes(usage), **estimate, **reasons}
