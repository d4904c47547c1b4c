"""What speech out costs: the voice is asked over HTTP, by a client of its own, on an audio unit that does nothing else.

    python -m loadtests.bench voice [--requests N] [--port PORT]

Shown are the first byte of an answer that has several clauses, how much faster than it plays the sound comes, the CPU
of the server for a second of it, and what the voice adds to the server's memory. Then what was said is heard again by
the same server's Whisper, and its wrong words are counted.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2

from audio.speech.encoder import SPEECH_FORMATS
from loadtests.bench.audio.server import START_S, AudioServer
from loadtests.bench.audio.words import WordTally
from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import ROOT, await_ready, process

PORT = 18670
BYTES_A_SECOND = 48_000
SENTENCES = (
    "Thank you for calling, this is the help desk. Your order was sent on Monday, and it should arrive in three days.",
    "The meeting begins at half past nine. Please bring the papers that we talked about last week, and a pen.",
    "When the rain had stopped, they went out and looked at the garden. All of the roses were broken.",
    "You can pay by card or by bank transfer. We never ask for your password, and nobody else should either.",
    "The museum is closed on Tuesdays. On other days it opens at ten in the morning and closes at six.",
    "First, take the back cover off. Then press the small button with a needle until the red light goes out.",
)


class Spoken(NamedTuple):
    """One answer."""

    first_s: float
    total_s: float
    data: bytes


def say(client: httpx2.Client, text: str, format_: str = "pcm") -> Spoken:
    body = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": format_}
    began, first_s, data = time.perf_counter(), 0.0, bytearray()
    with client.stream("POST", "/v1/audio/speech", json=body) as answer:
        answer.raise_for_status()
        for piece in answer.iter_raw():
            first_s = first_s or time.perf_counter() - began
            data += piece
    return Spoken(first_s, time.perf_counter() - began, bytes(data))


def wrong_words(client: httpx2.Client) -> WordTally:
    tally = WordTally()
    for text in SENTENCES:
        file = ("a.wav", say(client, text, "wav").data)
        heard = client.post("/v1/audio/transcriptions", files={"file": file}, data={"model": "whisper-1"})
        tally.count(text, heard.raise_for_status().json()["text"])
    return tally


@contextmanager
def _audio_unit(port: int, folder: Path) -> Generator[AudioServer]:
    env = {"TRILANE_DATA_DIR": str(folder), "TRILANE_LIMIT_VOICES": "1000", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gateway", "serve", "audio", "--port", str(port)]
    with process(command, folder, env) as child:
        await_ready(child, port, "/readyz", START_S)
        yield AudioServer(f"http://127.0.0.1:{port}", machine.tree(child.pid))


def measure(server: AudioServer, requests: int) -> list[str]:
    """Returns the lines of the table."""
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        before_kib = server.pss_kib()
        loading = say(client, SENTENCES[0])
        after_kib = server.pss_kib()
        for text in SENTENCES:
            say(client, text)
        lines = [
            f"memory of the voice, once it was used       {(after_kib - before_kib) / 1024:8.0f} MiB",
            f"first byte of the first request, which loads {loading.first_s * 1000:7.0f} ms",
        ]
        for format_ in SPEECH_FORMATS:
            cpu_s = server.cpu_s()
            answers = [say(client, SENTENCES[number % len(SENTENCES)], format_) for number in range(requests)]
            cpu_s = server.cpu_s() - cpu_s
            if format_ == "pcm":
                spoken_s = sum(len(answer.data) for answer in answers) / BYTES_A_SECOND
            else:
                texts = [SENTENCES[number % len(SENTENCES)] for number in range(requests)]
                spoken_s = sum(len(say(client, text).data) for text in texts) / BYTES_A_SECOND
            first_ms = [answer.first_s * 1000 for answer in answers]
            ratio = sum(answer.total_s for answer in answers) / spoken_s
            lines.append(
                f"{format_:5} first byte p50 {statistics.median(first_ms):6.1f} ms, slowest {max(first_ms):6.1f} ms; "
                f"{1 / ratio:5.0f} times real time; {cpu_s / spoken_s * 1000:5.1f} ms of CPU a spoken second"
            )
        tally = wrong_words(client)
        lines.append(f"heard again by Whisper: {tally.errors} of {tally.words} words wrong")
    return lines


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench voice", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--requests", type=int, default=24, help="requests for each format, at least 6")
    parser.add_argument("--port", type=int, default=PORT)
    args = parser.parse_args(argv)
    print(f"{machine.describe()['cpu']}, {os.cpu_count()} cores; other work takes {_others():.1f} cores")
    with tempfile.TemporaryDirectory() as folder, _audio_unit(args.port, Path(folder)) as server:
        for line in measure(server, max(args.requests, 6)):
            print(line)
    return 0


def _others() -> float:
    before = machine.busy_s()
    time.sleep(1)
    return machine.busy_s() - before
