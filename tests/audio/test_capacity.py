"""How many voices a machine is said to carry."""

import asyncio

from audio.capacity import voices
from audio.fake import FakeTranscriber


def test_a_model_that_answers_at_once_carries_many_and_a_slow_one_still_one() -> None:
    async def measured() -> tuple[int, int]:
        fast, slow = FakeTranscriber(workers=2), FakeTranscriber(holds=True)
        many = await voices(fast)
        task = asyncio.ensure_future(voices(slow))
        while not task.done():
            await asyncio.sleep(0.4)
            slow.release()
        return many, task.result()

    many, few = asyncio.run(measured())
    assert many > 20
    assert few == 1
