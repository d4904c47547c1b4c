"""The route of usage: what the caller, or everyone, has used in a time."""

from litestar import get

from gateway.core.process import Core
from gateway.core.usage_report import UsageReport, query_of
from routes.operation import Input, described
from routes.requests import AnyRequest

TIMES = "an ISO date or time (UTC unless it says else), seconds since 1970, or how long ago, such as `7d`"
INPUTS = (
    Input("since", f"The beginning: {TIMES}; unset: 30 days before `until`"),
    Input("until", f"The end, which is not in it: {TIMES}; unset: now"),
    Input("by", "What is summed up together", schema={"enum": ["sub", "model", "lane", "day"], "default": "model"}),
    Input("sub", "The user; unset: the caller, or with the grant `operator` everyone"),
)


@get(
    "/api/usage",
    summary="What was used, summed up, with its cost where the operator has set prices",
    opt=described(inputs=INPUTS),
)
async def usage(request: AnyRequest, core: Core) -> UsageReport:
    query, who = request.query_params, request.user
    sub = query.get("sub") or (None if who.grants.operator else who.sub)
    wish = query_of(query.get("since", ""), query.get("until", ""), query.get("by") or "model", sub)
    return await core.usage.asked(who, wish)


ROUTES = [usage]
