"""A reference is what the same model knows of a recording with the whole file at hand, not live.

Decoded once for each model and kept in a folder that git ignores. Word ends come from Whisper's attention, which is
right to about a tenth of a second; where speech is, from Silero with 100 ms of silence between two spans.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.bench.audio.crew import heard_by_all, shown
from loadtests.bench.audio.speech import RATE, Recording, Track
from loadtests.bench.audio.words import TimedWord, timed_words

Span = tuple[float, float]
BEAM = 5
KEEP_S = 20.0
"""Seconds after which what was decoded is kept on disk."""


class Reference(NamedTuple):
    """The knowledge of one recording, or of a track of them."""

    text: str
    words: list[TimedWord]
    """Words with their ends, in seconds from the start."""
    starts: list[TimedWord]
    """Words with their beginnings."""
    spans: list[Span]
    """Spans of speech."""

    def speech_began(self, at_s: float) -> float:
        """Returns when the speech began that is heard first from `at_s` on."""
        return max(at_s, next((start for start, end in self.spans if end > at_s), at_s))

    def speech_ended(self, at_s: float) -> float:
        """Returns when the speech before `at_s` ended; `at_s` itself, when it goes on."""
        return max((min(end, at_s) for start, end in self.spans if start < at_s), default=at_s)


class References:
    """Decodes the recordings that it does not know yet."""

    def __init__(self, model: Path, cache: Path) -> None:
        self._folder = model
        self._path = cache / f"reference-{_fingerprint(model)}.json"
        self._entries: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._kept_at = time.monotonic()

    def learn(self, recordings: Iterable[Recording]) -> None:
        """Decodes those that are new, and keeps what is found."""
        new = [one for one in recordings if _key(one) not in self._entries]
        if not new:
            return
        entries = heard_by_all(_decoded, _begin, self._folder, new)
        for recording, entry in zip(new, shown(entries, new, "decoded as whole files (once)"), strict=True):
            self._entries[_key(recording)] = entry
            self._keep_now_and_then()
        self._keep()

    def _keep_now_and_then(self) -> None:
        """Keeps what is found before the end, too: it took minutes, and may be stopped."""
        if time.monotonic() - self._kept_at > KEEP_S:
            self._keep()

    def _keep(self) -> None:
        self._kept_at = time.monotonic()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._entries))

    def of(self, recording: Recording) -> Reference:
        self.learn([recording])
        entry = self._entries[_key(recording)]
        spans: list[Span] = [(start, end) for start, end in entry["spans"]]
        return Reference(
            entry["text"],
            timed_words((word, end) for word, _, end in entry["words"]),
            timed_words((word, spoken_from(start, end, spans)) for word, start, end in entry["words"]),
            spans,
        )

    def of_track(self, track: Track) -> Reference:
        """Returns the reference of a track's recordings, in the track's own time."""
        words: list[TimedWord] = []
        starts: list[TimedWord] = []
        spans: list[Span] = []
        texts: list[str] = []
        for at_s, recording in track.parts:
            one = self.of(recording)
            texts.append(one.text)
            words += [TimedWord(word, at_s + end) for word, end in one.words]
            starts += [TimedWord(word, at_s + start) for word, start in one.starts]
            spans += [(at_s + start, at_s + end) for start, end in one.spans]
        return Reference(" ".join(texts), words, starts, spans)


# In a process of its own

_opened: list[Any] = []
"""The one model of this process."""


def _begin(folder: Path) -> None:
    from faster_whisper import WhisperModel

    _opened.append(WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True))


def _decoded(recording: Recording) -> dict[str, Any]:
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    [model] = _opened
    plain, _ = model.transcribe(recording.samples, language="en", beam_size=BEAM)
    segments, _ = model.transcribe(recording.samples, language="en", beam_size=BEAM, word_timestamps=True)
    exact = VadOptions(threshold=0.5, min_speech_duration_ms=0, min_silence_duration_ms=100, speech_pad_ms=0)
    return {
        "text": "".join(segment.text for segment in plain).strip(),
        "words": [
            (word.word, float(word.start), float(word.end)) for segment in segments for word in segment.words or []
        ],
        "spans": [
            (span["start"] / RATE, span["end"] / RATE) for span in get_speech_timestamps(recording.samples, exact)
        ],
    }


def spoken_from(start_s: float, end_s: float, spans: Sequence[Span]) -> float:
    """Returns when a word begins, less the silence before it, which Whisper's attention takes for its beginning."""
    return next((max(start_s, start) for start, end in spans if start < end_s and start_s < end), start_s)


def _fingerprint(model: Path) -> str:
    """Returns a fingerprint of the weights, and of what decodes them."""
    digest = hashlib.sha256((model / "model.bin").read_bytes())
    digest.update(
        f"{metadata.version('faster-whisper')} {metadata.version('ctranslate2')} beam {BEAM}, starts".encode()
    )
    return digest.hexdigest()[:16]


def _key(recording: Recording) -> str:
    return f"{recording.name} {hashlib.sha256(recording.samples.tobytes()).hexdigest()[:16]}"
