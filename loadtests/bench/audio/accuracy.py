"""How right the words are, under each condition: live, as a file, and the same model on the whole recording.

Sessions are fed by hand, on a clock that follows the audio (`direct`), one on each core, so an hour of speech takes
minutes. Intervals are bootstrapped over recordings: 95 % of a thousand drawings lie within.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from audio.digits import in_digits
from audio.messages import Gap
from audio.model.transcriber import Word
from audio.options import SessionOptions
from audio.upload import file_options
from loadtests.bench.audio.conditions import DIGITS, rows
from loadtests.bench.audio.crew import heard_by_all, shown
from loadtests.bench.audio.direct import Heard, begin, listen_alone
from loadtests.bench.audio.reference import Reference
from loadtests.bench.audio.rig import AudioRig
from loadtests.bench.audio.speech import SEED, Recording
from loadtests.bench.audio.words import align, edits, normalise, quantile, summary, timed_words
from loadtests.bench.harness.records import Figures

DRAWINGS = 1000
ALONE_S = 0.3
"""Seconds of speech that may be without a word or a gap."""
STEP_S = 0.01
SPOKEN = dict(zip("0123456789", DIGITS, strict=True))
SPELLED = ("digits", "commands")
"""The rows in which each digit counts by itself, whether it is written or spelled."""


def accuracy(rig: AudioRig) -> Figures:
    """Measures every condition: words wrong, stable words taken back, word times, and speech that is nowhere."""
    conditions = rows(rig.speech, rig.plan.words)
    everything = [recording for row in conditions.values() for recording in row]
    rig.references.learn(everything)
    if rig.target == "offline":
        texts = [rig.references.of(one).text for one in everything]
        return {"wer": _wrong(conditions, texts)}
    options = SessionOptions(words=True) if rig.target == "trilane" else file_options(words=True)
    heard = _heard(rig, everything, options)
    trust = TrustTally()
    for recording, one in zip(everything, heard, strict=True):
        trust.count(one, rig.references.of(recording))
    return {
        "wer": _wrong(conditions, [one.text for one in heard]),
        "cpu_per_audio_s": sum(one.cpu_s for one in heard) / sum(one.seconds for one in heard),
        "texts": {recording.name: one.text for recording, one in zip(everything, heard, strict=True)},
        **trust.figures(),
    }


def _heard(rig: AudioRig, recordings: Sequence[Recording], options: SessionOptions) -> list[Heard]:
    what = "heard live" if options.interim_results else "heard as files"
    results = heard_by_all(partial(listen_alone, options=options), begin, rig.place.model, recordings)
    return list(shown(results, recordings, what))


# Words wrong


def _wrong(conditions: dict[str, list[Recording]], texts: Sequence[str]) -> Figures:
    """Returns for each condition, and for all, the share of words that are wrong and its interval."""
    counts: dict[str, list[tuple[int, int]]] = {}
    of_each = iter(texts)
    for name, row in conditions.items():
        for recording in row:
            expected = compared(name, recording.text)
            wrong = edits(expected, compared(name, next(of_each)))
            for kind in (name, "all"):
                counts.setdefault(kind, []).append((wrong, len(expected)))
    return {kind: _interval(pairs) for kind, pairs in counts.items()}


def compared(condition: str, text: str) -> list[str]:
    """Returns the words of a text as they are compared: a number in digits is as good as one in words."""
    if condition in SPELLED:
        return normalise("".join(f" {SPOKEN[letter]} " if letter in SPOKEN else letter for letter in text))
    words = [Word(word, 0.0, 0.0, 1.0) for word in text.replace("-", " ").split()]
    return normalise(" ".join(word.text for word in in_digits(words)))


def _interval(pairs: Sequence[tuple[int, int]]) -> Figures:
    counts = np.array(pairs)
    drawn = counts[np.random.default_rng(SEED).integers(0, len(counts), (DRAWINGS, len(counts)))].sum(axis=1)
    rates = np.sort(drawn[:, 0] / drawn[:, 1])
    errors, words = (int(total) for total in counts.sum(axis=0))
    low, high = float(rates[int(0.025 * DRAWINGS)]), float(rates[int(0.975 * DRAWINGS)])
    return {"rate": errors / words, "errors": errors, "words": words, "low": low, "high": high}


# Promises


@dataclass
class TrustTally:
    """Counts what a client may rely on: stable words, word times, and that all speech is a word or a gap."""

    stable: int = 0
    changed: int = 0
    alone_s: float = 0.0
    """Seconds of speech, in stretches longer than ALONE_S, that are neither."""
    gap_s: float = 0.0
    no_length: int = 0
    stable_s: list[float] = field(default_factory=list[float])
    starts_s: list[float] = field(default_factory=list[float])
    ends_s: list[float] = field(default_factory=list[float])

    def count(self, heard: Heard, reference: Reference) -> None:
        words = [word for _, final in heard.finals for word in final.words or []]
        self.no_length += sum(word.end <= word.start for word in words)
        self.gap_s += sum(gap.end - gap.start for gap in heard.gaps)
        self.alone_s += alone_s(words, heard.gaps, reference)
        self._count_stable(heard)
        for ours, theirs, differences in (
            ([(word.text, word.start) for word in words], reference.starts, self.starts_s),
            ([(word.text, word.end) for word in words], reference.words, self.ends_s),
        ):
            timed = timed_words(ours)
            for i, j in align([word.word for word in timed], [word.word for word in theirs]):
                differences.append(abs(timed[i].at_s - theirs[j].at_s))

    def _count_stable(self, heard: Heard) -> None:
        for at_s, final in heard.finals:
            prefixes = [(shown_s, one) for shown_s, one in heard.partials if one.segment == final.segment]
            stable = normalise(prefixes[-1][1].stable) if prefixes else []
            words = normalise(final.text)
            self.stable += len(stable)
            self.changed += len(stable) - len(align(stable, words, so_far=True))
            since = {len(one.stable.split()): shown_s for shown_s, one in reversed(prefixes)}
            for at, word in enumerate(final.words or []):
                settled_s = min((shown_s for count, shown_s in since.items() if count > at), default=at_s)
                self.stable_s.append(settled_s - word.end)

    def figures(self) -> Figures:
        return {
            "stable_words": self.stable,
            "stable_changed": self.changed / self.stable if self.stable else None,
            "stable_s": summary(self.stable_s),
            "start_off_s": {"p50": quantile(self.starts_s, 0.5), "p99": quantile(self.starts_s, 0.99)},
            "end_off_s": {"p50": quantile(self.ends_s, 0.5), "p99": quantile(self.ends_s, 0.99)},
            "without_length": self.no_length,
            "alone_s": self.alone_s,
            "gap_s": self.gap_s,
        }


def alone_s(words: Sequence[Word], gaps: Sequence[Gap], reference: Reference) -> float:
    """Returns the seconds of speech that no word and no gap covers for longer than ALONE_S."""
    spans = [(word.start, word.end) for word in words] + [(gap.start, gap.end) for gap in gaps]
    total_s = 0.0
    for start_s, end_s in reference.spans:
        run_s = 0.0
        for at_s in np.arange(start_s, end_s + 2 * STEP_S, STEP_S).tolist():
            is_over = at_s > end_s or any(start <= at_s <= end for start, end in spans)
            if is_over:
                total_s += run_s if run_s > ALONE_S else 0.0
            run_s = 0.0 if is_over else run_s + STEP_S
    return total_s
