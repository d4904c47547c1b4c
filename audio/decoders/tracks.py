"""Chooses which of a file's tracks of sound is heard, and says which ones were not.

The default track comes first, or the first one where the file has no default; commentary and descriptions of the
picture come last. Only one track is heard: the next one has its turn when there is no speech in the one before it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from av import AudioStream
    from av.container import InputContainer

MAX_TRACKS = 32
"""Maximum number of tracks that are looked at; a film has a handful."""

MAX_LANGUAGE = 8
"""Maximum characters of a track's language: it stands in a header of the answer."""


class Track(NamedTuple):
    """One track of sound that can be decoded."""

    number: int
    """The number of the track among those of sound, counted from 1."""
    stream: int
    """The index of the stream in its file."""
    language: str
    """The language that the file states, an ISO 639-2 code; empty when it states none."""

    def __str__(self) -> str:
        return f"track {self.number}" + (f" ({self.language})" if self.language else "")


def tracks_of(file: "InputContainer") -> list[Track]:
    """Returns the tracks in the order in which they are heard."""
    from av.stream import Disposition

    aside = Disposition.comment | Disposition.visual_impaired | Disposition.descriptions | Disposition.clean_effects

    def rank(stream: "AudioStream") -> tuple[bool, bool]:
        return not stream.disposition & Disposition.default, bool(stream.disposition & aside)

    streams = list(file.streams.audio[:MAX_TRACKS])
    tracks = {stream.index: Track(number, stream.index, _language(stream)) for number, stream in enumerate(streams, 1)}
    # Some codecs libav knows only by name; then there is no context.
    return [tracks[stream.index] for stream in sorted(streams, key=rank) if stream.codec_context]


def _language(stream: "AudioStream") -> str:
    language = (stream.language or "")[:MAX_LANGUAGE]
    return language if language.isascii() and language.isalpha() and language != "und" else ""


def left_out(tracks: Sequence[Track], heard: int) -> list[str]:
    """Returns what is to be said of a file of which the track at place `heard` is heard: those before had no speech."""
    silent, others = tracks[:heard], sorted(tracks[heard + 1 :])
    sentences = [f"{_names(silent)}: no speech in it"] if silent else []
    if others:
        sentences.append(
            f"{_names(others)} {'was' if len(others) == 1 else 'were'} left out: {tracks[heard]} was heard"
        )
    return sentences


def _names(tracks: Sequence[Track]) -> str:
    return ", ".join(map(str, tracks))
