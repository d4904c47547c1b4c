"""Patterns leave out what the gateway writes for others, in a new stream and in one that comes back."""

from events.log.port import Position
from events.log.vector import VectorPosition, tag_of
from gateway.access.grants import Grants, Principal
from tests.support.followers import follow, lane_on, say
from tests.support.virtual_time import simulated

OPERATOR = Principal(sub="op", grants=Grants(operator=True))
OTHERS = ("audio/x", "user/1", "presence/user/bob", "usage/ann", "chat/c", "run/r", "ticket/used")


@simulated
async def test_a_pattern_leaves_out_what_is_the_gateways() -> None:
    lane = await lane_on()
    log = lane._log
    for number in range(6000):  # more than one pattern may stand for
        await say(log, f"user/{number}", "theirs")
    for topic in (*OTHERS, "presence/team", "team/a", "zoo", "use", "users/a"):
        await say(log, topic, topic)
    everything = await follow(lane, ("*",), earliest=True)
    presence = await follow(lane, ("presence/*",), earliest=True)
    operator = await follow(lane, ("audio/*", "presence/user/*"), earliest=True, who=OPERATOR)
    for topic in (*OTHERS, "user/new", "presence/room", "team/a", "team/new"):
        await say(log, topic, f"{topic} again")
    for reader in (everything, presence, operator):
        await reader.take_all()
    assert sorted(everything.data) == ["team/a", "team/a again", "team/new again", "use", "users/a", "zoo"]
    assert sorted(presence.data) == ["presence/room again", "presence/team"]
    assert sorted(operator.data) == [
        f"{topic}{end}" for topic in ("audio/x", "presence/user/bob") for end in ("", " again")
    ]
    back = await (await follow(lane, ("*",), everything.cursor)).take_all()
    assert (back.hello["recovered"], back.data) == (True, [])


@simulated
async def test_a_cursor_of_everything_keeps_its_place_though_it_had_more_then() -> None:
    """One that was given out while `*` still stood for the gateway's topics, too."""
    lane = await lane_on()
    log = lane._log
    at = [await say(log, topic, topic) for topic in ("team/a", "user/bob")]
    snapshot = VectorPosition(
        tag_of(("*",)), ["team/a", "user/bob"], [Position(one.epoch, one.last) for one in at], is_fixed=False
    )
    cursor = await lane.feeds.bookmarks.cursor_of((await follow(lane, ("*",))).source.feed, snapshot)
    await say(log, "team/a", "new")
    await say(log, "user/bob", "new")
    back = await (await follow(lane, ("*",), cursor)).take_all()
    assert (back.hello["recovered"], back.data) == (True, ["new"])
