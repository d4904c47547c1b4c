"""A schedule's times are read as RFC 3339 and ISO 8601 have them; whatever else is refused with what is wanted."""

from typing import Any

import pytest

from gateway.chat.records.schedule_record import ScheduleRequest
from gateway.core.usage import now_ms
from gateway.errors import BadRequest
from tests.support.chats import user


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"every": 59},
        {"every": 60.5},
        {"every": "P1Y"},
        {"every": "1h"},
        {"every": "P"},
        {"every": "PT"},
        {"every": 10**9},
        {"at": "2026-12-01T09:00:00"},
        {"at": "tomorrow"},
        {"at": "2000-01-01T00:00:00Z"},
        {"at": "9999-12-31T23:59:59+00:00"},
    ],
)
def test_a_time_that_is_none_is_refused_with_what_is_wanted(when: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as error:
        ScheduleRequest(message=user("m", "x"), **when).times(now_ms())
    assert error.value.code == "bad_schedule"


@pytest.mark.parametrize(
    ("every", "seconds"), [(60, 60), (60.0, 60), ("PT1M", 60), ("P1DT2H3M4S", 93_784), ("P2W", 1_209_600)]
)
def test_an_interval_is_seconds_or_a_duration(every: Any, seconds: int) -> None:
    assert ScheduleRequest(message=user("m", "x"), every=every).times(1000) == (1000 + seconds * 1000, seconds)
