"""A database that comes back without acknowledged events is seen, and told to all readers as another epoch."""

import asyncio

import pytest

from events.log.hub import Hub
from events.log.port import Append, Position
from events.log.postgres.engine import PostgresLog
from gateway.errors import Gone, LogConflict
from tests.contract.engines import keep_all, put, scenario, whole
from tests.support.postgres_server import PostgresServer


@scenario
async def test_a_copy_that_lacks_events_gets_other_epochs_and_one_that_lacks_none_keeps_them(
    own_server: PostgresServer,
) -> None:
    url = own_server.empty_database()
    writer, reader = PostgresLog(url, keep_all), PostgresLog(url, keep_all)
    await writer.open()
    await reader.open()
    try:
        kept = await put(writer, "kept", b"1")
        first = await put(writer, "a", b"1")
        follower = await Hub(reader).open("a", lambda epoch, block: [*block.data], None)
        assert await follower.next() == b"1"

        await asyncio.to_thread(own_server.stop)
        copy = await asyncio.to_thread(own_server.copy_data)
        await asyncio.to_thread(own_server.start)
        assert (await put(writer, "a", b"2", expect=2)).epoch == first.epoch
        assert await follower.next() == b"2"

        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.restore, copy)
        waiting = asyncio.ensure_future(writer.append(Append(topic="a", data=[b"3"], expect=3)))
        await asyncio.to_thread(own_server.start)
        with pytest.raises(LogConflict) as error:
            await waiting
        assert error.value.actual == 2
        while not follower.ended:
            assert await follower.next() == b""

        again = await put(writer, "a", b"other 2", expect=2)
        await put(writer, "a", b"other 3")
        assert again.epoch != first.epoch
        assert (await reader.read("kept", 0)).epoch == (await put(writer, "kept", b"2")).epoch != kept.epoch
        assert {info.epoch for info in await reader.topics("a")} == {again.epoch}
        with pytest.raises(Gone) as gone:
            await Hub(reader).open("a", lambda epoch, block: [*block.data], Position(first.epoch, 2))
        assert gone.value.code == "epoch_changed"
        assert [line for _, _, line in await whole(reader, "a")] == [b"1", b"other 2", b"other 3"]

        await asyncio.to_thread(own_server.kill)  # and now nothing is lost
        await asyncio.to_thread(own_server.start)
        assert (await put(writer, "a", b"4", expect=4)).epoch == again.epoch
    finally:
        await writer.close()
        await reader.close()
