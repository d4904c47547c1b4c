"""The streams of a revoked key end, those that open too late to hear of it as well, and no other does."""

import asyncio

from gateway.errors import TrilaneError, Unauthorized
from gateway.serving.open_streams import FAIL_SLICE, OpenStreams

REVOKED = Unauthorized("revoked", code="key_revoked")


class StreamOfKey:
    """A response that remembers how it ended."""

    resumable = True

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self.errors: list[TrilaneError] = []

    def leave(self) -> None:
        """Goes on: nothing is drained here."""

    def fail(self, error: TrilaneError) -> None:
        self.errors.append(error)


def test_every_stream_of_a_revoked_key_ends_once_and_no_other() -> None:
    async def main() -> None:
        streams = OpenStreams()
        mine = [StreamOfKey("k1") for _ in range(FAIL_SLICE + 10)]
        others = [StreamOfKey(key_id) for key_id in ("k2", "", "k")]
        for stream in [*mine, *others]:
            streams.add(stream)
        streams.revoke("k1", REVOKED)
        for _ in range(4):
            await asyncio.sleep(0)
        assert all(stream.errors == [REVOKED] for stream in mine)
        assert not any(stream.errors for stream in others)
        late, other = StreamOfKey("k1"), StreamOfKey("")
        for stream in (late, other):
            streams.add(stream)
        assert (late.errors, other.errors) == ([REVOKED], [])

    asyncio.run(main())
