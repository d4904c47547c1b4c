"""The audio lane growing: more sessions that speak all the time, on one server."""

from loadtests.bench.audio_latency import speaking
from loadtests.bench.audio_rig import Rig
from loadtests.bench.growth_cases import Figures, Plan, Series


def sessions(rig: Rig, plan: Plan, count: int) -> Figures:
    """Sessions that speak all the time: when their words are stable and final, and what a second of speech costs."""
    with rig.serving() as server:
        found = speaking(rig, server, count, plan.speak_s)
        mib = server.pss_kib() / 1024
    return {
        "mib": mib,
        "cores": rig.place.cores,
        "first_p50_s": found["first_s"]["p50"],
        "stable_p50_s": found["stable_s"]["p50"],
        "stable_p90_s": found["stable_s"]["p90"],
        "final_p90_s": found["final_s"]["p90"],
        "cpu_per_speech_s": found["cpu_per_audio_s"],
        "core": found["server_core"],
        "lag_max_s": found["lag_max_s"],
        "late_s": found["late_s"],
    }


SERIES = (Series("audio", "sessions", "sessions that speak", (1, 2, 4, 6, 8, 12, 16), (1, 8), sessions),)
