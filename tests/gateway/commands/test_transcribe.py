"""`trilane transcribe` prints each format, and says in a sentence when it cannot."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from audio.messages import Final
from audio.model.transcriber import Word
from audio.upload import Progress
from gateway.commands.transcribe import DIM, PRINT_FORMATS, PrintFormat, StatusLine, TranscriptPrinter, bar

ROOT = Path(__file__).resolve().parents[3]
SPEECH = ROOT / "tests" / "audio" / "data" / "jfk.flac"
SAID = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
COMMAND = [sys.executable, "-m", "gateway", "transcribe"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("TRILANE_", "OPENAI_"))}


def trilane(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


def letters(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def test_the_text_is_on_stdout_and_nothing_else_anywhere() -> None:
    process = trilane(str(SPEECH))
    assert (process.returncode, letters(process.stdout), process.stderr) == (0, SAID, "")


def test_on_a_terminal_a_bar_shows_how_far_it_is_and_is_gone_at_the_end() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.run([*COMMAND, str(SPEECH)], cwd=ROOT, env=ENVIRONMENT, stdout=-1, stderr=theirs, timeout=60)
    os.close(theirs)
    screen = os.read(ours, 65_536).decode()
    os.close(ours)
    assert letters(process.stdout.decode()) == SAID
    assert "11.0 of 11.0 s" in screen
    assert screen.endswith("\r\x1b[K")


def test_live_it_takes_as_long_as_it_is_and_what_may_change_is_dimmed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    samples, rate = soundfile.read(SPEECH, frames=4 * 16_000)
    soundfile.write(tmp_path / "start.wav", samples, rate)
    began = time.monotonic()
    process = subprocess.run(
        [*COMMAND, "--live", str(tmp_path / "start.wav")],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=-1,
        stderr=theirs,
        timeout=90,
    )
    assert time.monotonic() - began > 4
    os.close(theirs)
    screen = os.read(ours, 65_536).decode()
    os.close(ours)
    assert letters(process.stdout.decode())[:6] == SAID[:6]  # a few words are heard otherwise on another processor
    assert DIM in screen


MISTAKES = {
    "no such file": (["nowhere.wav"], "nowhere.wav cannot be read: No such file or directory"),
    "a folder": (["tests"], "tests cannot be read: Is a directory"),
    "no audio": (["pyproject.toml"], "pyproject.toml is no audio that is known here: "),
    "a language that the model does not know": (
        [str(SPEECH), "--language", "fr"],
        "language='fr': the model whisper-tiny.en",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_in_a_line(mistake: str) -> None:
    args, message = MISTAKES[mistake]
    process = trilane(*args)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith(f"Error: {message}")


# What is printed


WORDS = [Word("Hello", 0.5, 0.9, 1.0), Word("there.", 0.9, 1.4, 1.0)]
FINAL = Final(segment=0, text="Hello there.", start=0.5, end=1.5, confidence=0.9, language="en", words=WORDS)


def output_of(format_: PrintFormat, capsys: pytest.CaptureFixture[str], *, words: bool = False) -> str:
    page = TranscriptPrinter(format_, words=words)
    page.add(FINAL)
    page.end(2.0)
    out, err = capsys.readouterr()
    assert err == ""
    return out


EXPECTED: dict[PrintFormat, str] = {
    "text": "Hello there.\n",
    "srt": "1\n00:00:00,500 --> 00:00:01,400\nHello there.\n\n",
    "vtt": "WEBVTT\n\n00:00:00.500 --> 00:00:01.400\nHello there.\n\n",
}


@pytest.mark.parametrize("format_", EXPECTED)
def test_each_format_is_printed_as_it_comes(format_: PrintFormat, capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of(format_, capsys) == EXPECTED[format_]


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(output_of("json", capsys, words=True))
    assert (document["text"], document["language"], document["duration"]) == ("Hello there.", "english", 2.0)
    assert [word["word"] for word in document["words"]] == ["Hello", "there."]
    assert "words" not in json.loads(output_of("json", capsys))


def test_with_words_the_text_is_a_word_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output_of("text", capsys, words=True).splitlines()
    assert [line.split() for line in lines] == [["0.500", "0.900", "Hello"], ["0.900", "1.400", "there."]]


@pytest.mark.parametrize("format_", PRINT_FORMATS)
def test_a_file_in_which_nobody_speaks_is_told(format_: PrintFormat, capsys: pytest.CaptureFixture[str]) -> None:
    TranscriptPrinter(format_, words=False).end(9.5)
    assert capsys.readouterr().err == "no speech in 9.5 s of audio\n"


def test_the_bar_is_as_full_as_the_file_is_settled() -> None:
    assert bar(Progress(30.0, 60.0), 2.0) == f"[{'#' * 15}{'-' * 15}] 30.0 of 60.0 s, 15 times real time"
    assert bar(Progress(30.0, None), 0.5) == "30.0 s"
    assert bar(Progress(61.0, 60.0), 0.5).count("#") == 30


def test_where_there_is_no_terminal_no_line_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    StatusLine().show("hello")
    assert capsys.readouterr().err == ""
