"""Carries what a request brought for log lines and traces to whatever is done for it, without passing it along.

`routes.edge` sets the context of each request; every task that the request starts inherits it. It costs one object per
request, and an open event stream holds none: its task ends with the head of its answer.
"""

import re
from contextvars import ContextVar
from typing import NamedTuple

TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,64})?")
"""A `traceparent` that can be passed on (W3C Trace Context §3.2)."""
TRACESTATE = re.compile(rb"[ -~]{1,512}")
"""A `tracestate` that can be passed on: printable, of the length that everyone must take (§3.3.1.5)."""


class RequestContext(NamedTuple):
    """The part of a request that its log lines and traces name."""

    request_id: str
    traceparent: str = ""
    """The caller's place in a distributed trace; empty when it sent none, or none that is valid."""
    tracestate: str = ""

    @property
    def trace_headers(self) -> dict[str, str]:
        """Returns the headers that continue the caller's trace in a request of ours."""
        headers = {"traceparent": self.traceparent, "tracestate": self.tracestate if self.traceparent else ""}
        return {name: value for name, value in headers.items() if value}


NO_REQUEST = RequestContext("")
CURRENT: ContextVar[RequestContext] = ContextVar("request", default=NO_REQUEST)
"""The request for which the current task works; NO_REQUEST outside of any."""


def context_of(request_id: str, headers: list[tuple[bytes, bytes]]) -> RequestContext:
    """Returns the context of a request with these headers, whose names are in lower case."""
    traceparent = tracestate = ""
    for name, value in headers:
        if name == b"traceparent" and TRACEPARENT.fullmatch(value):
            traceparent = value.decode("ascii")
        elif name == b"tracestate" and TRACESTATE.fullmatch(value):
            tracestate = value.decode("ascii")
    return RequestContext(request_id, traceparent, tracestate)
