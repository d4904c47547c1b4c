"""What the audio lane must stand: a client that does everything wrong, twice as many as fit, a very long file."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from loadtests.bench import audio_memory
from loadtests.bench.audio_client import Spoken, speak
from loadtests.bench.audio_delays import of_sessions
from loadtests.bench.audio_hostile import ENDING_S, TRY_S
from loadtests.bench.audio_latency import STAGGER_S, Figures, speaking
from loadtests.bench.audio_rig import Rig
from loadtests.bench.audio_server import Server
from loadtests.bench.audio_speech import Track, tracks
from loadtests.bench.audio_words import Tally, summary
from loadtests.bench.processes import CLIENT_CORE, ROOT, pinned

GOOD = 3
"""Sessions beside the hostile one."""
TOO_MANY = 40
"""Sessions after which an overload gives up to find a limit."""


def attacked(rig: Rig) -> Figures:
    """Three good sessions alone and beside a hostile one, in turn: how much later their words are stable."""
    alone: list[float] = []
    beside: list[float] = []
    met: dict[str, dict[str, int]] = {}
    with rig.serving() as server:
        for _ in range(rig.plan.attacks):
            alone.append(speaking(rig, server, GOOD, rig.plan.attack_s)["stable_s"]["p90"])
            calm = rig.foreign_cores
            command = [sys.executable, "-m", "loadtests.bench.audio_hostile", server.url, str(rig.plan.attack_s)]
            with subprocess.Popen(pinned(CLIENT_CORE, command), cwd=ROOT, stdout=subprocess.PIPE) as hostile:
                beside.append(speaking(rig, server, GOOD, rig.plan.attack_s)["stable_s"]["p90"])
                said, _ = hostile.communicate(timeout=rig.plan.attack_s + TRY_S + ENDING_S + 10)
            found = json.loads(said)
            rig.foreign_cores = max(calm, rig.foreign_cores - found["cpu_s"] / rig.plan.attack_s)
            for name, codes in found["closes"].items():
                for code, count in codes.items():
                    kind = met.setdefault(name, {})
                    kind[code] = kind.get(code, 0) + count
    changes = [after / before for before, after in zip(alone, beside, strict=True)]
    return {"alone_s": alone, "beside_s": beside, "change": statistics.median(changes) - 1, "closes": met}


def overload(rig: Rig) -> Figures:
    """Sessions that speak all the time, until as many were refused as admitted, by the server's own limit."""
    rig.place.settings["TRILANE_LIMIT_VOICES"] = "0"
    spoken_tracks = tracks(rig.speech, TOO_MANY, rig.plan.speak_s)
    rig.references.learn({one.name: one for track in spoken_tracks for _, one in track.parts}.values())
    with rig.serving() as server:
        with rig.watching(server):
            done = asyncio.run(_pile_up(server, spoken_tracks))
        refusals = [one.refused_s for _, one in done if one.refused_s is not None]
        admitted = [(track, one) for track, one in done if one.refused_s is None]
    for _, one in admitted:
        rig.note(one.faults)
    return {
        "admitted": len(admitted),
        "refused": len(refusals),
        "refused_s": summary(refusals),
        "codes": sorted({code for _, one in done for code in one.refused_codes}),
        "server_core": rig.server_core,
        **_heard(rig, admitted),
    }


async def _pile_up(server: Server, all_tracks: list[Track]) -> list[tuple[Track, Spoken]]:
    """One more every moment, until half of them were refused."""
    tasks: list[tuple[Track, asyncio.Task[Spoken]]] = []
    for track in all_tracks:
        tasks.append((track, asyncio.create_task(speak(server.url, track.samples))))
        await asyncio.sleep(STAGGER_S)
        refused = sum(task.done() and task.result().refused_s is not None for _, task in tasks)
        if refused * 2 >= len(tasks):
            break
    return [(track, await task) for track, task in tasks]


def _heard(rig: Rig, admitted: list[tuple[Track, Spoken]]) -> dict[str, Any]:
    found = of_sessions([one for _, one in admitted], [rig.references.of_track(track) for track, _ in admitted])
    words = Tally()
    for track, one in admitted:
        words.count(" ".join(recording.text for _, recording in track.parts), one.text)
    gaps_s = sum(end - start for _, one in admitted for start, end in one.gaps_s)
    return {**found.figures(), "words_wrong": words.rate, "gap_s": gaps_s, "late_s": max(s.late_s for _, s in admitted)}


def uploaded(rig: Rig) -> Figures:
    """A file of an hour, and two hours of silence: what they leave in memory."""
    began = time.monotonic()
    with rig.serving() as server:
        found = audio_memory.file(server, rig.speech, rig.plan.file_s, rig.place.folder)
    return {**found, "took_s": time.monotonic() - began, **audio_memory.silence(rig.plan.silence_s)}
