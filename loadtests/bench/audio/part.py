"""The audio lane is measured: how right its transcripts are, how late, how many at once, and WhisperLive beside it.

    python -m loadtests.bench audio --speech DIR [--quick] [--long] [--cases accuracy,latency,peers]

Recorded speech is sent in real time over real WebSockets; what comes back is compared with the recordings' exact text
and with the same model on the whole file. Server and client share the machine: the server has its first cores, the
client the last one, which is one of the server's on a machine of two.
"""

import argparse
import contextlib
import os
from collections.abc import Callable, Generator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from audio.model.weights import whisper_models
from loadtests.bench.audio.cases import CASES
from loadtests.bench.audio.reference import References
from loadtests.bench.audio.rig import QUICK, AudioPlan, AudioRig
from loadtests.bench.audio.server import Place
from loadtests.bench.audio.speech import read
from loadtests.bench.audio.table import TABLE
from loadtests.bench.harness import rounds
from loadtests.bench.harness.part import Job, Part, Plans, Run
from loadtests.bench.harness.peers import WHISPER_LIVE
from loadtests.bench.harness.processes import ROOT
from loadtests.bench.harness.records import Record

CACHE = ROOT / ".trilane" / "bench"
"""Folder outside git for WhisperLive's environment, and what is known of recordings."""
OURS = ("offline", "file", "trilane")
PACKAGES = ("faster-whisper", "ctranslate2", "onnxruntime", "numpy", "websockets", "soxr")
CORES = os.cpu_count() or 1
USUAL = replace(QUICK, words=500, speak_s=9.0)
"""The usual plan is short, as delays are measured five times; of a thousand words, as one of a hundred is a point."""


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], AudioRig]]:
    """Opens the recordings, and what the model hears in them as whole files, for all measurements."""
    args, model = run.args, whisper_models(run.args.model)[0].folder
    speech, references = read(Path(args.speech)), References(model, CACHE)

    def rig(job: Job) -> AudioRig:
        place = Place(run.port, args.cores, model, job.folder, run.settings)
        return AudioRig(job.target, place, run.plan, speech, references, CACHE, args.peer_threads)

    yield rig


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    speech = "audio: 16 kHz recordings with transcripts.tsv (environment: TRILANE_SPEECH)"
    add("--speech", default=os.environ.get("TRILANE_SPEECH", ""), metavar="DIR", help=speech)
    add("--model", default="", metavar="DIR", help="audio: another Whisper model for CTranslate2")
    add("--cores", type=int, default=min(2, CORES), help="audio: cores of the server (2)")
    add("--peer-threads", type=int, default=1, help="audio: threads of WhisperLive's model (1, its default)")


def _lacks(args: argparse.Namespace) -> str | None:
    if not args.speech:
        return "there is no speech; name a folder of recordings with --speech or TRILANE_SPEECH (loadtests/README.md)"
    try:
        read(Path(args.speech))
    except (OSError, ValueError) as err:
        return f"--speech {args.speech}: {err}"
    return None


def _about(run: Run) -> Record:
    args = run.args
    folder = Path(args.model).name or "packaged tiny.en"
    return {
        "versions": {**{name: metadata.version(name) for name in PACKAGES}, **WHISPER_LIVE.versions},
        "model": {"folder": folder, "bytes": (whisper_models(args.model)[0].folder / "model.bin").stat().st_size},
        "cores": args.cores,
        "peer_threads": args.peer_threads,
        "load": [round(each, 2) for each in os.getloadavg()],
    }


PART = Part(
    name="audio",
    says="How right, how late, how many.",
    port=18430,
    cases=CASES,
    ours=OURS,
    peers=tuple(dict.fromkeys(name for case in CASES for name in case.targets if name not in OURS)),
    plans=Plans(USUAL, quick=QUICK, long=AudioPlan()),
    session=session,
    table=TABLE,
    beside=("peers",),
    lengthy=("capacity", "upload", "hostile", "overload"),
    once=("accuracy", "capacity", "silence", "memory"),
    arguments=_arguments,
    lacks=_lacks,
    about=_about,
    server_cores=lambda args: range(args.cores),
    client_core=CORES - 1,
)


def main(argv: list[str]) -> int:
    """Measures the audio lane."""
    return rounds.main([PART], argv)
