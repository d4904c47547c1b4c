"""The delivery meter follows one event at a time, from the log to the last of its readers."""

from events.log.meter import GIVEN_UP_MS, SAMPLE_MS, DeliveryMeter


class MeterStage:
    """A meter whose clock the test turns; times are in milliseconds since 1970."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.meter = DeliveryMeter(lambda: self.now_ms / 1000)
        self.lags: list[float] = []
        self.meter.on_lag = lambda seconds: self.lags.append(round(seconds, 3))


def test_the_lag_of_an_event_is_known_when_its_frame_was_written() -> None:
    stage = MeterStage()
    stage.meter.begin("feed", 7, 999_990)
    stage.now_ms += 20
    stage.meter.end("another feed", 100)
    stage.meter.end("feed", 7)  # the frames before it
    assert stage.lags == []
    stage.meter.end("feed", 8)
    stage.meter.end("feed", 9)
    assert stage.lags == [0.03]


def test_one_event_a_second_is_measured() -> None:
    stage = MeterStage()
    assert stage.now_ms >= stage.meter.next_ms
    stage.meter.begin("feed", 0, stage.now_ms)
    assert stage.meter.next_ms == stage.now_ms + SAMPLE_MS


def test_an_event_that_is_followed_gives_way_only_when_nobody_was_sent_it_for_a_long_time() -> None:
    stage = MeterStage()
    stage.meter.begin("slow", 0, stage.now_ms)
    stage.now_ms += GIVEN_UP_MS
    stage.meter.begin("feed", 0, stage.now_ms)
    stage.meter.end("feed", 1)
    assert stage.lags == []
    stage.now_ms += 1
    stage.meter.begin("feed", 0, stage.now_ms)
    stage.meter.end("feed", 1)
    assert stage.lags == [0.0]


def test_a_writer_whose_clock_is_ahead_is_not_early() -> None:
    stage = MeterStage()
    stage.meter.begin("feed", 0, stage.now_ms + 5_000)
    stage.meter.end("feed", 1)
    assert stage.lags == [0.0]
    assert stage.meter.next_ms == stage.now_ms + SAMPLE_MS  # by our own clock: his would keep us from ever measuring
