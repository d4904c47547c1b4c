"""The upstream of an installation without one: the packaged model, served by a child process of ours."""

from gateway.chat.upstreams.local import Endpoint, LocalModel, LocalModelError
from gateway.chat.upstreams.openai import OpenAIUpstream
from gateway.chat.upstreams.passed_answer import PassedAnswer
from gateway.chat.upstreams.upstream import Generation, Request
from gateway.errors import UpstreamRefused, UpstreamUnreachable
from gateway.upstream_settings import UpstreamSettings

MAX_CONCURRENCY = 16
"""Maximum answers at once: four of them are written, and the rest wait in the model's own queue."""
COMPLETIONS = "/completions"
"""The one route beside chats that its server has."""


class EmbeddedUpstream:
    """Starts the model on first use, and again when its process has died."""

    def __init__(self) -> None:
        name = LocalModel.model_name
        self.settings = UpstreamSettings(
            name="embedded", base_url="", model=name, models=[name], max_concurrency=MAX_CONCURRENCY
        )
        self._model = LocalModel()
        self._endpoint: Endpoint | None = None
        self._upstream: OpenAIUpstream | None = None

    @property
    def in_flight(self) -> int:
        return self._upstream.in_flight if self._upstream is not None else 0

    @property
    def busy(self) -> bool:
        return self._upstream is not None and self._upstream.busy

    async def open(self, request: Request, model: str, trace: bytes = b"") -> Generation:
        upstream = await self._current()
        endpoint = self._endpoint
        try:
            return await upstream.open(request, model, trace)
        except UpstreamUnreachable:  # its process died a moment ago: nothing was answered yet, so a new one may do it
            return await (await self._current(unreachable=endpoint)).open(request, model, trace)

    async def pass_on(self, path: str, content: bytes, trace: bytes = b"") -> PassedAnswer:
        if path != COMPLETIONS:
            detail = f"the embedded model only writes text: name an upstream that has {path} (TRILANE_UPSTREAMS)"
            raise UpstreamRefused(detail, status=404, code="unsupported_route")
        return await (await self._current()).pass_on(path, content, trace)

    async def models(self) -> list[str]:
        return self.settings.models

    async def aclose(self) -> None:
        if self._upstream is not None:
            await self._upstream.aclose()
        await self._model.aclose()

    async def _current(self, unreachable: Endpoint | None = None) -> OpenAIUpstream:
        try:
            endpoint = await self._model.endpoint(unreachable=unreachable)
        except LocalModelError as err:
            raise UpstreamUnreachable(str(err), code="local_model_failed") from err
        if endpoint != self._endpoint or self._upstream is None:
            if self._upstream is not None:
                await self._upstream.aclose()
            settings = UpstreamSettings(
                name="embedded",
                base_url=endpoint.base_url,
                api_key=endpoint.api_key,
                model=LocalModel.model_name,
                models=self.settings.models,
                max_concurrency=MAX_CONCURRENCY,
            )
            self._endpoint, self._upstream = endpoint, OpenAIUpstream(settings)
        return self._upstream
