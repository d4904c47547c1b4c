"""Seven real clients, unmodified, use the events lane, each as far as it can.

                          chromium  eventsource  eventsource-client  undici  fetch-event-source  httpx-sse  sseclient-py
    any JSON, by name     x         x            x                   x       x                   x          x
    does not see pings    x         x            x                   x       x                   x          x
    cut inside an event   x         x            x                   x       x 1                 x 4        x 5
    a connection's age    x         x            x                   x       x 2                 x 4        x 5
    a drain, a kill -9    x         x            x                   x       x 2                 x 4        x 5
    is told what it lost  x         x            x                   x       x                   x 4        x 5
    `busy` passes         x         x            x                   x       x 2                 x 4 6      x 5
    `bye` is obeyed       x         x            x                   x       x 3                 x 7        x 5

What a client cannot do alone, by its source:

1. fetch-event-source keeps an id as soon as it has read the line (`parse.ts`, `getMessages`), whether or not the rest
   of the event came: a frame must say its id after its data.
2. It takes a clean end for the last (`fetch.ts`, `create`: the promise resolves). Its README has the application throw
   in `onclose`, which it does here; without it, see below. Its README also compares the content type as a whole, which
   ours, with a charset, is not equal to; its own default looks at the beginning, and so does the application here.
3. It takes a 204 for an answer of the wrong type, and asks again. The application has one line for it (`onopen`).
4. httpx-sse does not reconnect: the application's loop does (`python.py`).
5. Nor does sseclient-py, which also has no notion of a status. An event's id is its own, not the last that was seen.
6. httpx-sse tells of every event the last id of *its* connection (`SSEDecoder`), and the README's loop keeps that: an
   event without an id that is the first of a connection makes it forget where it stood.
7. It raises SSEError on a 204, which ends the loop.
"""

import pytest

from tests.clients.events.scenes import ALONE, AWKWARD, CUT_IN, EAGER, MISSED, PRETTY
from tests.clients.events.stage import Seat, Stage

OVERLOADED_S = 4.9
"""The least `retry:` of `busy`, less what timers are early by."""


def test_events_arrive_once_and_in_order(quiet: Seat) -> None:
    assert [event.body for event in quiet.saw.published] == [{"n": 1}, {"n": 2}, {"n": 3}, AWKWARD, PRETTY, {"n": 6}]
    assert all(event.id for event in quiet.saw.published)


def test_named_events_come_under_their_names(quiet: Seat) -> None:
    names = [event.name for event in quiet.saw.events]
    assert names == ["hello", "message", "order.paid", "chat:typing", "message", "message", "message"]


def test_line_ends_in_data_and_between_its_tokens_change_nothing(quiet: Seat) -> None:
    assert [event.body for event in quiet.saw.published[3:5]] == [AWKWARD, PRETTY]


def test_pings_are_nothing_to_an_application(quiet: Seat) -> None:
    assert quiet.wire is not None
    assert quiet.wire.pings >= 12
    assert len(quiet.saw.events) == 7
    assert len(quiet.wire.requests) == 1


def test_a_cut_inside_an_event_loses_nothing_and_repeats_nothing(cut_inside_event: Seat) -> None:
    assert cut_inside_event.wire is not None
    assert cut_inside_event.saw.numbers == list(range(1, 21))
    last = cut_inside_event.saw.published[CUT_IN - 2]
    assert [request.last_event_id for request in cut_inside_event.wire.requests] == ["", last.id]


def test_the_age_of_a_connection_ends_it_and_no_event_with_it(old_connections: Seat) -> None:
    assert len(old_connections.saw.hellos) > 1
    assert all(hello["recovered"] for hello in old_connections.saw.hellos)
    assert old_connections.saw.numbers == list(range(1, old_connections.scene.last + 1))


def test_a_drained_server_comes_back_on_its_port_and_nothing_is_lost_or_repeated(drain: Seat) -> None:
    assert drain.scene.exit_codes == [0]
    assert drain.saw.numbers == list(range(1, 16))
    assert [event.name for event in drain.saw.events][6:8] == ["drain", "hello"]
    assert drain.saw.hellos[1]["recovered"]


def test_a_killed_server_comes_back_on_its_port_and_nothing_is_lost_or_repeated(kill: Seat) -> None:
    assert kill.scene.exit_codes == [-9]
    assert kill.saw.numbers == list(range(1, 16))
    assert kill.saw.hellos[1]["recovered"]


def test_an_application_is_told_that_and_how_many_events_it_lost(late: Seat) -> None:
    hello = late.saw.hellos[1]
    assert (hello["recovered"], hello["reason"], hello["missed"], hello["replay"]) == (False, "evicted", MISSED, 0)
    assert late.saw.numbers == [1, 100]


def test_a_busy_server_is_left_alone_for_a_while_and_found_again_with_nothing_lost(busy: Seat) -> None:
    names = [event.name for event in busy.saw.events]
    refusal, back = names.index("busy"), names.index("hello", 1)
    assert busy.saw.events[refusal].body == {"code": "overloaded"}
    assert busy.saw.times[back] - busy.saw.times[refusal] > OVERLOADED_S
    assert busy.saw.numbers == [1, 2, 3]


def test_bye_is_obeyed_after_one_more_request(closing: Seat) -> None:
    assert closing.wire is not None
    assert closing.saw.numbers == [1, 2, 3]
    assert closing.saw.bodies("bye") == [{"code": "complete", "retry": False}]
    assert [request.last_event_id for request in closing.wire.requests] == ["", closing.saw.published[-1].id]
    assert closing.wire.statuses[-1] == 204
    assert closing.saw.ending


def test_fetch_event_source_alone_takes_a_clean_end_for_the_last(stage: Stage) -> None:
    alone = stage.seat("old_connections", ALONE)
    assert alone.saw.ending == "resolved"
    assert len(alone.saw.hellos) == 1
    assert len(alone.saw.numbers) < alone.scene.last


def test_fetch_event_source_asks_again_after_a_204_and_is_told_nothing_twice(stage: Stage) -> None:
    eager = stage.seat("closing", EAGER)
    assert eager.wire is not None
    assert eager.wire.statuses[:3] == [200, 204, 204]
    assert (eager.saw.numbers, len(eager.saw.bodies("bye"))) == ([1, 2, 3], 1)


@pytest.mark.parametrize("name", ["cut_inside_event", "kill"])
def test_httpx_sse_names_a_cut_otherwise_than_its_readme(stage: Stage, name: str) -> None:
    assert stage.seat(name, "httpx-sse").saw.failures[0] == "RemoteProtocolError"
