"""Ogg and WebM with Opus, and FLAC, as streams. This is the only importer of libav and libsndfile for them.

Measured: the samples of an Opus packet come with its last byte (in Ogg: its page's), those of a FLAC frame with the
frame's; the resampler's delay comes on top. FLAC is libsndfile's, because libav's parser waits for ten frames
before it believes one: 2.4 s at 16 kHz. CPU per second of audio, resampled, in pieces of 20, 100 and 250 ms: Opus 7.3,
3.6 and 3.1 ms, FLAC 3.2, 1.2 and 1.0 ms. An open stream takes 400 KiB (Opus) or 90 KiB (FLAC), and a thread.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from audio.decoders.downmix import Apart, Downmix
from audio.decoders.formats import Decoder, bad_audio, check
from audio.decoders.pump import Kind, Pump, PumpedPiece, Read, UndecodableStream

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container.streams import StreamContainer

BUFFER_BYTES = 4096
FLAC_STEP = 256
"""Samples read from libsndfile at once. It returns when it has them all, so they divide the usual blocks (4096)."""
HEAD_BYTES = 12
"""Number of bytes that libsndfile reads twice; it takes no file with less of them at once."""
UNKNOWN_BYTES = 1 << 40
"""The length of a live stream, for a library that wants to know one."""

Compressed = Literal["ogg_opus", "webm_opus", "flac"]


def container(encoding: Compressed, named_rate: int, *, first: int = 0, is_split: bool = False) -> Decoder:
    """Returns a decoder whose `samples` are counted at the rate that the client named, from `first` on."""
    return Pump(KINDS[encoding], named_rate, first=first, is_split=is_split)


class ContainerSource:
    """The file that libav reads from: it has `read`, and nothing to seek with."""

    __slots__ = ("read",)

    def __init__(self, read: Read) -> None:
        self.read = read


def _opus(demuxer: str, read: Read, is_split: bool) -> Iterator[PumpedPiece]:
    import av
    from av.error import FFmpegError

    mixing = Apart() if is_split else Downmix()
    options = {"probesize": str(BUFFER_BYTES), "analyzeduration": "0"}
    try:
        with av.open(
            ContainerSource(read), "r", demuxer, options=options, buffer_size=BUFFER_BYTES, metadata_errors="replace"
        ) as file:
            for packet in file.demux(_track(file.streams)):
                for frame in _frames(packet):
                    check(frame.sample_rate, frame.layout.nb_channels, is_split=is_split)
                    yield PumpedPiece(mixing.feed(frame.to_ndarray().T, frame.sample_rate), frame.sample_rate)
    except FFmpegError as error:
        raise UndecodableStream(error.strerror) from error


def _track(streams: "StreamContainer") -> "AudioStream":
    """Returns the first track of Opus; others may stand beside it."""
    # Some codecs libav knows only by name; then there is no context.
    codecs = [stream.codec_context.name if stream.codec_context else "unknown" for stream in streams]
    for stream in streams.audio:
        if codecs[stream.index] == "opus":
            return stream
    raise bad_audio(f"expected a track of Opus, found {', '.join(codecs) or 'none at all'}")


def _frames(packet: "Packet[AudioStream]") -> "list[AudioFrame]":
    from av.error import FFmpegError

    try:
        return packet.decode()
    except FFmpegError:
        return []  # a broken packet; the next one is whole again


class Rewound:
    """The file that libsndfile reads from: a live stream whose first bytes it may read again, as it does."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._head = b""
        self._at = 0

    def readinto(self, buffer: Any) -> int:
        while len(self._head) < HEAD_BYTES and (more := self._read(HEAD_BYTES - len(self._head))):
            self._head += more
        data = self._head[self._at : self._at + len(buffer)] or self._read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int) -> int:
        self._at = offset + (0, self._at, UNKNOWN_BYTES)[whence]
        return self._at


def _flac(read: Read, is_split: bool) -> Iterator[PumpedPiece]:
    import soundfile  # pyright: ignore[reportMissingTypeStubs]

    source: Any = Rewound(read)
    mixing = Apart() if is_split else Downmix()
    try:
        with soundfile.SoundFile(source) as file:
            file.seekable = lambda: False  # otherwise it seeks after every read
            check(file.samplerate, file.channels, is_split=is_split)
            remaining = file.frames  # as the header says; that of a live stream does not, and this is huge
            while len(samples := file.read(min(FLAC_STEP, remaining), "float32", always_2d=True)):
                remaining -= len(samples)
                yield PumpedPiece(mixing.feed(samples, file.samplerate), file.samplerate)
    except soundfile.LibsndfileError as error:
        raise UndecodableStream(error.error_string) from error


KINDS: dict[Compressed, Kind] = {
    "ogg_opus": Kind("Ogg", b"OggS", partial(_opus, "ogg")),
    "webm_opus": Kind("WebM", b"\x1a\x45\xdf\xa3", partial(_opus, "matroska")),
    "flac": Kind("FLAC", b"fLaC", _flac),
}
