"""The upstreams that the operator's settings name, or the embedded model when they name none."""

from gateway.chat.upstreams.upstream import OpenAIUpstream, Upstream, Upstreams
from gateway.settings import Settings


def open_upstreams(settings: Settings) -> Upstreams:
    """Return them in order of preference; `Upstreams.aclose` lets go of them."""
    upstreams: list[Upstream] = [OpenAIUpstream(upstream) for upstream in settings.upstreams]
    if not upstreams:
        from gateway.chat.upstreams.embedded import EmbeddedUpstream

        upstreams.append(EmbeddedUpstream())
    return Upstreams(upstreams, settings.first_token_s)
