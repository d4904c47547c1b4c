"""The audio lane grows: more sessions that speak all the time, on one server."""

from loadtests.bench.audio.latency import speaking
from loadtests.bench.audio.rig import AudioRig
from loadtests.bench.growth.cases import GrowthFigures, GrowthPlan, GrowthSeries


def sessions(rig: AudioRig, plan: GrowthPlan, count: int) -> GrowthFigures:
    """Measures sessions that speak all the time: how late words are, and the cost of a second of speech."""
    with rig.serving() as server:
        figures = speaking(rig, server, count, plan.speak_s)
        mib = server.pss_kib() / 1024
    return {
        "mib": mib,
        "cores": rig.place.cores,
        "first_p50_s": figures["first_s"]["p50"],
        "stable_p50_s": figures["stable_s"]["p50"],
        "stable_p90_s": figures["stable_s"]["p90"],
        "final_p90_s": figures["final_s"]["p90"],
        "cpu_per_speech_s": figures["cpu_per_audio_s"],
        "core": figures["server_core"],
        "lag_max_s": figures["lag_max_s"],
        "late_s": figures["late_s"],
    }


SERIES = (GrowthSeries("audio", "sessions", "sessions that speak", (1, 2, 4, 6, 8, 12, 16), (1, 8), sessions),)
