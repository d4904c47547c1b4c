"""The model in tables: laws of known constants, constants out of points that the laws made, and who is called wrong."""

from typing import Any

import pytest

from loadtests.bench.growth import constants as read_off
from loadtests.bench.growth.checks import cell, constants, errors, lanes, wrong
from loadtests.bench.growth.model import LAWS, AudioModel, ChatModel, EventsModel, LogModel, NotMeasured, check, commits
from loadtests.bench.growth.points import Points
from loadtests.bench.growth.test_points import record

EVENTS = EventsModel(
    base_mib=50,
    stream_kib=2.4,
    kernel_kib=4,
    idle_core=0.01,
    ping_us=40,
    accept_us=150,
    event_us=1000,
    delivery_us=10,
    relay_us=600,
    delivery_bytes=239,
)
CHAT = ChatModel(
    base_mib=65,
    run_kib=60,
    idle_core=0.01,
    start_us=900,
    token_us=40,
    commit_us=300,
    lone_core=0.04,
    follow_us=12,
)
AUDIO = AudioModel(cores=2, voice_core=0.4, full_cores=1.5, voices=6, server_mib=300)
LOG = LogModel(event_bytes=70, append_per_s=50_000, append_us=45, tail_us=45, resume_us=65)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        (EVENTS.mib(1024), 52.4),
        (EVENTS.silent_core(1000), 0.05),
        (EVENTS.event_cost_us(1), 1010),
        (EVENTS.event_cost_us(1000), 11_000),
        (CHAT.mib(1024), 125),
        (CHAT.core(0, 0), 0.01),
        (CHAT.core(500, 5), 0.01 + 250 * 300e-6 + 500 * 40e-6 + 5 * 900e-6),
        (CHAT.followed_core(1, 50), 0.04),
        (CHAT.followed_core(101, 50), 0.1),
        (CHAT.carried(5000, 100), 5000),
        (AUDIO.busy_cores(2), 0.8),
        (AUDIO.busy_cores(8), 1.5),
        (LOG.file_mb(10**6), 70),
        (commits(0), 0),
        (commits(500), 250),
    ],
)
def test_each_law_predicts_its_figure(predicted: float, expected: float) -> None:
    assert predicted == pytest.approx(expected)


def test_commits_never_come_closer_than_the_writer_lingers() -> None:
    assert commits(1e9) == pytest.approx(500, rel=1e-3)


def test_what_is_carried_fills_one_core_and_no_more() -> None:
    tokens_per_s = CHAT.carried(1e6, 100)
    assert 0 < tokens_per_s < 1e6
    assert CHAT.core(tokens_per_s, tokens_per_s / 100) == pytest.approx(1)


def model_records() -> list[Any]:
    """Returns what a machine would measure on which the model is right."""
    idle = [
        record(
            "events/idle",
            streams,
            base_mib=50,
            mib=EVENTS.mib(streams),
            kib=2.4,
            kernel_kib=4,
            core=EVENTS.silent_core(streams / 15),
            pings_per_s=streams / 15,
            us_per_accept=150,
        )
        for streams in (1, 1000, 10_000)
    ]
    readers = [
        record("events/readers", count, us_per_event=EVENTS.event_cost_us(count), bytes_per_delivery=239)
        for count in (1, 10, 1000, 5000)
    ]
    remote_readers = [record("events/relayed", count, us_per_event=600 + 10 * count) for count in (1, 10)]
    return [*idle, *readers, *remote_readers, *_chats()]


def _chats() -> list[Any]:
    def answers(series: str, load: int, count: int, tokens: int) -> Any:
        tokens_per_s = CHAT.carried(50 * count, tokens)
        figures = {
            "tokens_per_s": tokens_per_s,
            "starts_per_s": tokens_per_s / tokens,
            "core": CHAT.core(tokens_per_s, tokens_per_s / tokens),
        }
        same = {"idle_core": 0.01, "base_mib": 65, "mib": CHAT.mib(count), "kib_per_run": 60}
        return {**record(series, load), "figures": {**figures, **same}}

    runs = [answers("chat/runs", count, count, 100) for count in (1, 100, 300, 1000)]
    lengths = [answers("chat/answers", tokens, 100, tokens) for tokens in (10, 300)]
    followers = [
        record("chat/followers", count, core=CHAT.followed_core(count, 50), tokens_per_s=50 * count)
        for count in (1, 10, 100)
    ]
    return [*runs, *lengths, *followers]


def test_constants_are_read_off_the_points_that_the_model_made() -> None:
    events = read_off.events(Points(model_records()))
    assert events.delivery_us == pytest.approx(10)
    assert events.event_us == pytest.approx(1000)
    assert events.relay_us == pytest.approx(600)
    assert events.ping_us == pytest.approx(40, rel=0.01)  # one stream's pings are taken for none
    chat = read_off.chat(Points(model_records()))
    assert chat.follow_us == pytest.approx(12)
    assert chat.start_us == pytest.approx(900, rel=0.1)  # the commits of two loads are taken for equal
    assert chat.token_us == pytest.approx(40, rel=0.1)


def test_on_points_that_the_model_made_it_is_nowhere_wrong() -> None:
    assert wrong(Points(model_records())) == []


def test_a_point_that_is_off_is_named_with_both_values() -> None:
    off = record("events/readers", 5000, run="2", us_per_event=100_000)
    (sentence,) = wrong(Points([*model_records(), off]))
    assert sentence.startswith("events/readers at 5,000: CPU per event, µs is 100,000, the model says 51,000 (-49 %)")


def test_where_a_law_claims_nothing_it_is_not_wrong() -> None:
    off = record("events/idle", 1, run="2", core=0.01, pings_per_s=0, mib=50, us_per_accept=5000)
    points = Points([*model_records(), off])
    assert wrong(points) == []
    row = next(row for row in errors(EVENTS, points)[0] if row[0].startswith("CPU per accept"))
    assert row[1] == "150 (-97 %, no claim)"
    assert row[-1] == "150 (read off)"


def test_each_constant_says_what_it_is_how_much_and_whence() -> None:
    assert ["a ping", "40 µs", "idle at 10,000, less the idle process"] in constants(EVENTS)
    for lane in (EVENTS, CHAT, AUDIO, LOG):
        assert all(says and source for says, _, source in constants(lane))


def test_a_lane_without_points_is_said_to_have_none() -> None:
    models, lacking = lanes(Points(model_records()))
    assert list(models) == ["events", "chat"]
    assert lacking[0].startswith("audio: cores of audio/sessions at 8 was not measured")
    with pytest.raises(NotMeasured, match="events/idle"):
        read_off.events(Points([]))


def test_laws_claim_what_they_are_read_off() -> None:
    for laws in LAWS.values():
        for law in laws:
            assert all(law.claims[0] <= load <= law.claims[1] for load in law.fixed), law


def test_a_voice_is_cheaper_when_cores_are_full() -> None:
    loads = ((1, 0.4), (8, 1.5), (16, 1.6))
    points = Points([record("audio/sessions", n, core=core, cores=2, stable_p90_s=n / 4, mib=300) for n, core in loads])
    audio = read_off.audio(points)
    assert (audio.voices, audio.full_cores) == (8, 1.5)
    assert [cell(one) for one in check(audio, points)] == ["0.40 (read off)", "1.50 (read off)", "1.50 (-6 %)"]
