"""The audio lane: how right its transcripts are, how late, how many at once, and WhisperLive beside it.

    python -m loadtests.bench audio --speech DIR [--quick] [--cases accuracy,latency,peers]

Recorded speech is sent in real time over real WebSockets; what comes back is compared with the recordings' exact text
and with the same model on the whole file. Server and client share the machine: the server has its first cores, the
client the last one, which is one of the server's on a machine of two. Raw figures go to `--out`, one JSON line per
round, load and target.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from audio.models import whisper_model
from loadtests.bench import audio_table, machine
from loadtests.bench.audio_cases import CASES, QUICK, Case, Plan, Rig
from loadtests.bench.audio_peers import VERSION
from loadtests.bench.audio_reference import References
from loadtests.bench.audio_server import Place
from loadtests.bench.audio_speech import Recording, read
from loadtests.bench.layout import NOISY_CORES, Record
from loadtests.bench.processes import ROOT, NotStarted

RESULTS = Path(__file__).resolve().parents[1] / "results" / "audio.jsonl"
CACHE = ROOT / ".trilane" / "bench"
"""Not in git: WhisperLive's environment, and what is known of recordings."""
GROUPS = list(dict.fromkeys(case.group for case in CASES))
TARGETS = list(dict.fromkeys(target for case in CASES for target in case.targets))
ATTEMPTS = 3
PACKAGES = ("faster-whisper", "ctranslate2", "onnxruntime", "numpy", "websockets", "soxr")


def main(argv: list[str]) -> int:
    """Measure, print the table, return 1 when a server did not start or a session was not as it must be."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _stop)
    machine.allow_descriptors()
    if not machine.port_is_free(args.port):
        raise SystemExit(f"port {args.port} is taken: what listens there would be measured; choose another with --port")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        speech = read(Path(args.speech))
    except (OSError, ValueError) as err:
        raise SystemExit(f"--speech {args.speech}: {err}") from err
    records: list[Record] = []
    try:
        for record in _rounds(args, speech):
            records.append(record)
    finally:  # also what there is when it is stopped
        print(f"\n{audio_table.render(records, {})}")
    return 1 if any(record.get("error") or record.get("faults") for record in records) else 0


def _stop(*_: object) -> None:
    raise SystemExit("stopped")  # through every `with`, so that no server outlives the benchmark


def _rounds(args: argparse.Namespace, speech: list[Recording]) -> Iterator[Record]:
    plan = QUICK if args.quick else Plan()
    model = whisper_model(args.model)
    references = References(model, CACHE)
    about = {**_about(args, model), "plan": asdict(plan)}
    for turn in range(args.rounds):
        for case in [case for case in CASES if {case.name, case.group} & set(args.cases)]:
            for target in [name for name in case.targets if name in args.targets]:
                for record in _attempts(args, case, target, plan, speech, references):
                    record = {**about, "time": time.time(), "round": turn, **record}
                    _keep(Path(args.out), record)
                    print(audio_table.progress(record), flush=True)
                    yield record


def _attempts(args: argparse.Namespace, case: Case, target: str, *known: Any) -> Iterator[Record]:
    """One measurement; with `--quiet` up to three, until other work did not disturb it: the calmest counts."""
    for _ in range(ATTEMPTS if args.quiet else 1):
        if target != "offline":
            machine.await_quiet(args.quiet)
        record = _measure(args, case, target, *known)
        yield record
        if record["foreign_cores"] <= NOISY_CORES:
            return


def _measure(
    args: argparse.Namespace,
    case: Case,
    target: str,
    plan: Plan,
    speech: list[Recording],
    references: References,
) -> Record:
    settings = dict(pair.split("=", 1) for pair in args.env)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder:
        place = Place(args.port, args.cores, whisper_model(args.model), Path(folder), settings)
        rig = Rig(target, place, plan, speech, references, CACHE, args.peer_threads)
        found: Record = {"case": case.name, "target": target}
        try:
            found["figures"] = case.measure(rig)
        except NotStarted as err:
            found["error"] = str(err)
    return {**found, "faults": rig.faults, "foreign_cores": rig.foreign_cores, "took_s": time.monotonic() - began}


def _about(args: argparse.Namespace, model: Path) -> Record:
    versions = {**machine.versions(), **{name: metadata.version(name) for name in PACKAGES}, "whisper-live": VERSION}
    weights = {"folder": Path(args.model).name or "packaged tiny.en", "bytes": (model / "model.bin").stat().st_size}
    load = [round(each, 2) for each in os.getloadavg()]
    about = {"bench": "audio", "machine": machine.describe(), "versions": versions, "model": weights, "env": args.env}
    return {**about, "cores": args.cores, "peer_threads": args.peer_threads, "load": load}


def _keep(out: Path, record: Record) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtests.bench audio", description="How right, how late, how many.")
    parser.add_argument(
        "--speech",
        default=os.environ.get("TRILANE_SPEECH", ""),
        metavar="DIR",
        help="16 kHz recordings with transcripts.tsv (environment: TRILANE_SPEECH)",
    )
    parser.add_argument("--model", default="", metavar="DIR", help="another Whisper model for CTranslate2")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is measured (1)")
    parser.add_argument("--quick", action="store_true", help="a little of each: an indication, not a measurement")
    parser.add_argument("--cases", default="", help=f"some of {','.join(GROUPS)} (all; with --quick all but peers)")
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"some of {','.join(TARGETS)}")
    parser.add_argument("--cores", type=int, default=min(2, os.cpu_count() or 1), help="cores of the server (2)")
    parser.add_argument("--peer-threads", type=int, default=1, help="threads of WhisperLive's model (1, its default)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a setting for Trilane")
    parser.add_argument(
        "--quiet",
        type=float,
        default=0,
        help="wait up to so many seconds for other work to end, and repeat what it disturbed (0)",
    )
    parser.add_argument("--port", type=int, default=18430, help="where the server listens (18430)")
    parser.add_argument("--out", default=str(RESULTS), help="where raw results are appended")
    args = parser.parse_args(argv)
    if not args.speech:
        parser.error("no speech: name a folder with --speech or TRILANE_SPEECH")
    args.cases = args.cases.split(",") if args.cases else [g for g in GROUPS if not (args.quick and g == "peers")]
    args.targets = args.targets.split(",")
    known = [*GROUPS, *(case.name for case in CASES)]
    for kind, asked, there in (("target", args.targets, TARGETS), ("load", args.cases, known)):
        if unknown := [name for name in asked if name not in there]:
            parser.error(f"unknown {kind} {unknown[0]!r}; there are {', '.join(dict.fromkeys(there))}")
    return args
