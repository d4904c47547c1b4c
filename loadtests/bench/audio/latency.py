"""Words come late while people speak: so many sessions for a minute, and more and more of them."""

from collections.abc import Callable

from loadtests.bench.audio.client import speak
from loadtests.bench.audio.delays import lag, of_sessions
from loadtests.bench.audio.rig import AudioRig
from loadtests.bench.audio.server import AudioServer
from loadtests.bench.audio.speech import tracks
from loadtests.bench.harness.records import Figures

TOO_LATE_S = 2.0
"""A server keeps up with so many sessions while 90 % of their words are stable within this."""
STAGGER_S = 0.37
"""Seconds between the starts of two sessions: no two of them end their sentences together."""


def latency(sessions: int) -> Callable[[AudioRig], Figures]:
    """Measures so many sessions that speak all the time: sentences with pauses of 1.5 s between."""

    def measure(rig: AudioRig) -> Figures:
        with rig.serving() as server:
            return speaking(rig, server, sessions, rig.plan.speak_s)

    return measure


def speaking(rig: AudioRig, server: AudioServer, sessions: int, seconds: float) -> Figures:
    """Returns the figures of so many sessions on a running server."""
    spoken_tracks = tracks(rig.speech, sessions, seconds)
    rig.references.learn({one.name: one for track in spoken_tracks for _, one in track.parts}.values())
    references = [rig.references.of_track(track) for track in spoken_tracks]
    calls = [speak(server.url, track.samples, wait_s=n * STAGGER_S) for n, track in enumerate(spoken_tracks)]
    results, cpu_s = rig.run(server, calls, sessions)
    late = of_sessions(results, references).figures()
    more = {
        "cpu_per_audio_s": cpu_s / sum(one.seconds for one in results),
        "server_core": rig.server_core,
        "sessions": sessions,
    }
    return {**late, **lag(results), **more}


def capacity(rig: AudioRig) -> Figures:
    """Measures more and more sessions that speak all the time, until their words are stable too late."""
    steps: list[Figures] = []
    best = 0
    with rig.serving() as server:
        for sessions in rig.plan.steps:
            steps.append(speaking(rig, server, sessions, rig.plan.step_s))
            p90_s = steps[-1]["stable_s"]["p90"]
            print(
                f"  {sessions} sessions: stable p90 {p90_s or 0:.2f} s, server {rig.server_core:.2f} cores", flush=True
            )
            if p90_s is None or p90_s > TOO_LATE_S:
                break
            best = sessions
    has_crossed = best < steps[-1]["sessions"]
    return {"sessions": best, "per_core": best / rig.place.cores, "crossed": has_crossed, "steps": steps}
