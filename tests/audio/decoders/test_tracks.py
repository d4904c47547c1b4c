"""Of a file's tracks the default one is heard, or the next where it has no speech, and the others are told."""

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import pytest
from av.stream import Disposition

from audio.decoders.tracks import Track, left_out
from audio.model.transcriber import SAMPLE_RATE, Samples
from tests.audio.decoders.test_files import iter_blocks, pitch, refusal, sound_of
from tests.audio.feeding import tone

LOW, MIDDLE, HIGH = (tone(0.5, SAMPLE_RATE, hertz) for hertz in (300.0, 600.0, 1200.0))


class Sung(NamedTuple):
    """A track of a film that is made for a test."""

    samples: Samples
    disposition: Disposition = Disposition(0)
    language: str = ""


def film_of(tracks: Sequence[Sung], container: str = "matroska", codec: str = "pcm_s16le") -> bytes:
    """Encodes several tracks of sound beside a picture."""
    file = io.BytesIO()
    with av.open(file, "w", container) as out:
        picture = out.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        streams = [out.add_stream(codec, rate=SAMPLE_RATE, layout="mono") for _ in tracks]
        for stream, track in zip(streams, tracks, strict=True):
            stream.disposition = track.disposition
            if track.language:
                stream.metadata["language"] = track.language
        out.mux([*picture.encode(av.VideoFrame(64, 64, "yuv420p")), *picture.encode(None)])
        for stream, track in zip(streams, tracks, strict=True):
            if not len(track.samples):
                continue
            fitting = av.AudioResampler(
                stream.format.name, "mono", SAMPLE_RATE, stream.codec_context.frame_size or None
            )
            frame = av.AudioFrame.from_ndarray((track.samples * 32_767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
            for piece in [*fitting.resample(frame), *fitting.resample(None)]:
                out.mux(stream.encode(piece))
            out.mux(stream.encode(None))
    return file.getvalue()


def heard(file: bytes) -> tuple[float, list[str]]:
    """Returns the pitch of what is heard, and the warnings."""
    with sound_of(file) as sound:
        return pitch(np.concatenate(list(iter_blocks(sound)))), sound.warnings


DEFAULT, COMMENT = Disposition.default, Disposition.comment
FILMS = {
    "one track": ([Sung(LOW)], 300, []),
    "the first where none is the default": ([Sung(LOW), Sung(HIGH)], 300, ["track 2 was left out: track 1 was heard"]),
    "the default": (
        [Sung(LOW, language="ger"), Sung(HIGH, DEFAULT, "eng")],
        1200,
        ["track 1 (ger) was left out: track 2 (eng) was heard"],
    ),
    "the default of three": (
        [Sung(LOW), Sung(HIGH), Sung(MIDDLE, DEFAULT)],
        600,
        ["track 1, track 2 were left out: track 3 was heard"],
    ),
    "no commentary": ([Sung(LOW, COMMENT), Sung(HIGH)], 1200, ["track 1 was left out: track 2 was heard"]),
    "no commentary that is one of two defaults": (
        [Sung(LOW, DEFAULT | COMMENT), Sung(HIGH, DEFAULT)],
        1200,
        ["track 1 was left out: track 2 was heard"],
    ),
    "no description of the picture": (
        [Sung(LOW, Disposition.visual_impaired), Sung(HIGH), Sung(MIDDLE)],
        1200,
        ["track 1, track 3 were left out: track 2 was heard"],
    ),
}


@pytest.mark.parametrize("kind", FILMS)
def test_the_default_track_is_heard_and_the_others_are_told(kind: str) -> None:
    tracks, hertz, warnings = FILMS[kind]
    assert heard(film_of(tracks)) == (pytest.approx(hertz, abs=5), warnings)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("mov", "pcm_s16le"), ("mpegts", "mp2")])
def test_tracks_of_other_films_are_told_too(container: str, codec: str) -> None:
    hertz, warnings = heard(film_of([Sung(LOW), Sung(HIGH)], container, codec))
    assert hertz == pytest.approx(300, abs=5)
    assert [warning[:7] for warning in warnings] == ["track 2"]


def test_the_next_track_begins_anew_and_there_are_only_so_many() -> None:
    with sound_of(film_of([Sung(LOW), Sung(HIGH), Sung(MIDDLE, DEFAULT)])) as sound:
        pitches = [pitch(np.concatenate(list(iter_blocks(sound))))]
        while sound.next_track():
            pitches.append(pitch(np.concatenate(list(iter_blocks(sound)))))
        assert pitches == pytest.approx([600, 300, 1200], abs=5)
        assert sound.warnings == ["track 3, track 1: no speech in it"]
        sound.close()
        assert not sound.next_track()


def test_a_track_of_nothing_is_passed_over() -> None:
    nothing = np.zeros(0, np.float32)
    assert heard(film_of([Sung(nothing), Sung(HIGH)]))[0] == pytest.approx(1200, abs=5)
    assert "there is no audio in it" in refusal(film_of([Sung(nothing), Sung(nothing)]))


def test_what_is_said_has_the_tracks_in_their_order() -> None:
    tracks = [Track(2, 5, "eng"), Track(1, 1, ""), Track(4, 7, "fra"), Track(3, 6, "")]
    assert left_out(tracks, 0) == ["track 1, track 3, track 4 (fra) were left out: track 2 (eng) was heard"]
    assert left_out(tracks, 1) == [
        "track 2 (eng): no speech in it",
        "track 3, track 4 (fra) were left out: track 1 was heard",
    ]
    assert left_out([], 0) == []


def test_the_name_of_a_language_is_short() -> None:
    file = film_of([Sung(LOW, DEFAULT), Sung(HIGH, language="a" * 5000)])
    [warning] = heard(file)[1]
    assert len(warning) < 80
