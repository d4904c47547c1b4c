"""What the embedded model cannot take is refused as a provider would refuse it, and its process lives on."""

import asyncio

import pytest

from gateway.chat.upstreams.embedded import EmbeddedUpstream
from gateway.chat.upstreams.upstream import Request
from gateway.errors import UpstreamRefused
from tests.support.embedded_model import is_installed

pytestmark = is_installed

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def asking(*parts: dict[str, object], **more: object) -> Request:
    return {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, *parts]}],
        "max_tokens": 2,
        **more,
    }


UNFIT: dict[str, tuple[Request, str]] = {
    "too long": (asking({"type": "text", "text": "word " * 9000}), "context_length_exceeded"),
    "a picture": (asking({"type": "image_url", "image_url": {"url": PIXEL}}), "upstream_bad_request"),
    "sound": (asking({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}), "upstream_bad_request"),
    "a document": (asking({"type": "file", "file": {"file_data": PIXEL}}), "upstream_bad_request"),
    "a tool without a function": (asking(tools=[{"type": "function"}]), "upstream_bad_request"),
    "a limit that is no number": (asking(max_tokens="three"), "upstream_bad_request"),
}


def test_a_request_that_it_cannot_take_is_the_clients_to_change() -> None:
    async def refusals() -> dict[str, UpstreamRefused]:
        upstream = EmbeddedUpstream()
        errors: dict[str, UpstreamRefused] = {}
        try:
            for name, (request, _) in UNFIT.items():
                with pytest.raises(UpstreamRefused) as error:
                    await upstream.open(request, "")
                errors[name] = error.value
            generation = await upstream.open(asking(), "")
            await generation.next()
            assert generation.error is None
            generation.abort()
        finally:
            await upstream.aclose()
        return errors

    errors = asyncio.run(refusals())
    assert {name: error.code for name, error in errors.items()} == {name: code for name, (_, code) in UNFIT.items()}
    assert {(error.status, error.retryable) for error in errors.values()} == {(400, False)}


def test_it_goes_on_with_a_text_and_has_no_other_route() -> None:
    async def answers() -> tuple[bytes, int | None]:
        upstream = EmbeddedUpstream()
        try:
            with pytest.raises(UpstreamRefused, match="/embeddings") as error:
                await upstream.pass_on("/embeddings", b'{"input":"hi"}')
            assert (error.value.status, error.value.code) == (404, "unsupported_route")
            content = b'{"prompt":"The capital of France is","max_tokens":4,"temperature":0}'
            answer = await upstream.pass_on("/completions", content)
            data = b""
            while piece := await answer.read():
                data += piece
            usage = answer.usage()
            await answer.aclose()
            return data, usage and usage.completion_tokens
        finally:
            await upstream.aclose()

    data, tokens = asyncio.run(answers())
    assert b"Paris" in data
    assert tokens == 4
