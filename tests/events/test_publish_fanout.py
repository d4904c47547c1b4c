"""What one request has the log write is bounded, however small the request is."""

import json

import pytest

from events.publish import MAX_DATA_BYTES, MAX_REQUEST_TOPICS, MAX_WRITTEN_BYTES, Publication
from gateway.errors import TooLarge
from routes.requests import decode
from tests.events.test_publish import bodies_of, one, open_log, publish_all
from tests.support.virtual_time import simulated


@simulated
async def test_a_request_writes_4_MiB_at_most_however_many_topics_share_its_data() -> None:
    log = await open_log()
    data = "x" * (MAX_DATA_BYTES - 2)
    topics = [f"t/{number}" for number in range(MAX_WRITTEN_BYTES // MAX_DATA_BYTES)]
    fits = decode(json.dumps({"topics": topics, "data": data}).encode(), Publication)
    assert len(await publish_all(log, fits)) == 64
    with pytest.raises(TooLarge, match=f"writes {MAX_WRITTEN_BYTES + 1} bytes, its data once for each topic") as error:
        await publish_all(log, fits, one("t/0", 1))
    assert error.value.code == "too_much_fanout"
    assert await bodies_of(log, "t/0") == [data]


@simulated
async def test_a_request_goes_to_256_topics_at_most() -> None:
    log = await open_log()
    topics = [f"t/{number}" for number in range(MAX_REQUEST_TOPICS)]
    whole_request = decode(json.dumps({"topics": topics * 3, "data": 1}).encode(), Publication)
    assert len(await publish_all(log, whole_request)) == 3 * MAX_REQUEST_TOPICS
    with pytest.raises(TooLarge, match="goes to 257 topics: at most 256"):
        await publish_all(log, whole_request, one("more"))
    assert await bodies_of(log, "t/0") == [1, 1, 1]
