"""The audio lane must stand a client that does everything wrong, twice as many as fit, and a very long file."""

import asyncio
import json
import statistics
import subprocess
import sys
from typing import Any

from loadtests.bench.audio import memory
from loadtests.bench.audio.client import SpokenSession, speak
from loadtests.bench.audio.delays import of_sessions
from loadtests.bench.audio.hostile import ENDING_S, TRY_S
from loadtests.bench.audio.latency import STAGGER_S, speaking
from loadtests.bench.audio.rig import AudioRig
from loadtests.bench.audio.server import AudioServer
from loadtests.bench.audio.speech import Track, tracks
from loadtests.bench.audio.words import WordTally, summary
from loadtests.bench.harness.processes import CLIENT_CORE, ROOT, on_core
from loadtests.bench.harness.records import Figures

GOOD = 3
"""Sessions beside the hostile one."""
TOO_MANY = 40
"""Sessions after which an overload gives up to find a limit."""


def under_attack(rig: AudioRig) -> Figures:
    """Measures three good sessions alone and beside a hostile one, in turn: how much later their words are stable."""
    alone: list[float] = []
    beside: list[float] = []
    closes: dict[str, dict[str, int]] = {}
    with rig.serving() as server:
        for _ in range(rig.plan.attacks):
            alone.append(speaking(rig, server, GOOD, rig.plan.attack_s)["stable_s"]["p90"])
            calm = rig.foreign_cores
            command = [sys.executable, "-m", "loadtests.bench.audio.hostile", server.url, str(rig.plan.attack_s)]
            with subprocess.Popen(on_core(CLIENT_CORE, command), cwd=ROOT, stdout=subprocess.PIPE) as hostile:
                beside.append(speaking(rig, server, GOOD, rig.plan.attack_s)["stable_s"]["p90"])
                output, _ = hostile.communicate(timeout=rig.plan.attack_s + TRY_S + ENDING_S + 10)
            report = json.loads(output)
            rig.foreign_cores = max(calm, rig.foreign_cores - report["cpu_s"] / rig.plan.attack_s)
            for name, codes in report["closes"].items():
                for code, count in codes.items():
                    kind = closes.setdefault(name, {})
                    kind[code] = kind.get(code, 0) + count
    changes = [after / before for before, after in zip(alone, beside, strict=True)]
    return {"alone_s": alone, "beside_s": beside, "change": statistics.median(changes) - 1, "closes": closes}


def overload(rig: AudioRig) -> Figures:
    """Measures sessions that speak all the time, until as many were refused as admitted, by the server's own limit."""
    rig.place.settings["TRILANE_LIMIT_VOICES"] = "0"
    spoken_tracks = tracks(rig.speech, TOO_MANY, rig.plan.speak_s)
    rig.references.learn({one.name: one for track in spoken_tracks for _, one in track.parts}.values())
    with rig.serving() as server:
        with rig.watching(server):
            sessions = asyncio.run(_pile_up(server, spoken_tracks))
        refusals = [one.refused_s for _, one in sessions if one.refused_s is not None]
        sessions_in = [(track, one) for track, one in sessions if one.refused_s is None]
    for _, one in sessions_in:
        rig.note(one.faults)
    return {
        "admitted": len(sessions_in),
        "refused": len(refusals),
        "refused_s": summary(refusals),
        "codes": sorted({code for _, one in sessions for code in one.refused_codes}),
        "server_core": rig.server_core,
        **_figures_of(rig, sessions_in),
    }


async def _pile_up(server: AudioServer, all_tracks: list[Track]) -> list[tuple[Track, SpokenSession]]:
    """Starts one more every moment, until half of them were refused."""
    tasks: list[tuple[Track, asyncio.Task[SpokenSession]]] = []
    for track in all_tracks:
        tasks.append((track, asyncio.create_task(speak(server.url, track.samples))))
        await asyncio.sleep(STAGGER_S)
        refusals = sum(task.done() and task.result().refused_s is not None for _, task in tasks)
        if refusals * 2 >= len(tasks):
            break
    return [(track, await task) for track, task in tasks]


def _figures_of(rig: AudioRig, sessions_in: list[tuple[Track, SpokenSession]]) -> dict[str, Any]:
    delays = of_sessions([one for _, one in sessions_in], [rig.references.of_track(track) for track, _ in sessions_in])
    words = WordTally()
    for track, one in sessions_in:
        words.count(" ".join(recording.text for _, recording in track.parts), one.text)
    gaps_s = sum(end - start for _, one in sessions_in for start, end in one.gaps_s)
    return {
        **delays.figures(),
        "words_wrong": words.rate,
        "gap_s": gaps_s,
        "late_s": max(s.late_s for _, s in sessions_in),
    }


def upload(rig: AudioRig) -> Figures:
    """Measures a file of an hour: its time, and what it leaves in memory."""
    with rig.serving() as server:
        return memory.file(server, rig.speech, rig.plan.file_s, rig.place.folder)
