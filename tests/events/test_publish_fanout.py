"""What one request has the log write is bounded, however small the request is."""

import json

import pytest

from events.publish import MAX_DATA_BYTES, MAX_FANOUT_BYTES, Publication
from gateway.errors import TooLarge
from routes.requests import decode
from tests.events.test_publish import bodies_of, one, open_log, publish_all
from tests.support.virtual_time import simulated


@simulated
async def test_a_request_writes_4_MiB_at_most_however_many_topics_share_its_data() -> None:
    log = await open_log()
    data = "x" * (MAX_DATA_BYTES - 2)
    topics = [f"t/{number}" for number in range(MAX_FANOUT_BYTES // MAX_DATA_BYTES)]
    fits = decode(json.dumps({"topics": topics, "data": data}).encode(), Publication)
    assert len(await publish_all(log, fits)) == 64
    with pytest.raises(TooLarge, match=f"writes {MAX_FANOUT_BYTES + 1} bytes, its data once for each topic") as error:
        await publish_all(log, fits, one("t/0", 1))
    assert error.value.code == "too_much_fanout"
    assert await bodies_of(log, "t/0") == [data]


@simulated
async def test_a_request_without_fan_out_writes_all_that_it_posts() -> None:
    log = await open_log()
    count = MAX_FANOUT_BYTES // MAX_DATA_BYTES + 2
    publications = [one(f"t/{number}", "x" * (MAX_DATA_BYTES - 2)) for number in range(count)]
    assert len(await publish_all(log, *publications)) == count
