"""From a file of any kind to samples at 16 kHz, block by block: whatever its length, a block of it is in memory.

libsndfile reads what it knows for certain (WAV, FLAC, Ogg, AIFF, CAF, AU), libav the rest (MP3, M4A, MP4, WebM, AAC,
WMA). What neither can read is refused in a sentence that says what was seen; of a file that is cut short, what is whole
is heard. libav is told which formats it may find: its playlists name other files and addresses, and whoever uploads one
would have them read here.

Everything here blocks: `Sound` is for a thread, one call at a time.
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Generator, Iterator
from errno import EINVAL
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from audio.decoders.formats import bad_audio, tame
from audio.decoders.resample import Resampler
from audio.model.transcriber import SAMPLE_RATE, Samples
from gateway.errors import BadRequest

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

BLOCK = 10 * SAMPLE_RATE
"""Samples of one block, but for the last."""
MAX_FILE_S = 86_400
"""A day of audio. A gigabyte of FLAC can say that it is silent for a year."""
MIN_RATE, MAX_RATE = 4000, 768_000
MAX_CHANNELS = 64
STEP = 65_536
"""Samples, of all channels together, that are decoded at once."""
UNKNOWN_FRAMES = 1 << 48
"""libsndfile says this much or more of a stream whose header does not say."""
HEAD_BYTES = 16
KNOWN = "wav, flac, ogg, opus, mp3, m4a, mp4, webm, aac, aiff and the like are read"
CERTAIN = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b"caff", b".snd")
"""How the files begin that libsndfile is asked about. It would take AAC for MP3, and says on stderr what it thinks."""
DEMUXERS = "aac,ac3,aiff,amr,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav,wv"
"""Those that read the file itself, and nothing that it names. Of any other, libav says `Invalid argument`."""


class FilePiece(NamedTuple):
    """Decoded, mono."""

    samples: Samples
    sample_rate: int


class UnreadableFile(Exception):
    """The library cannot make anything of it, and says why."""


class Sound:
    """The audio of one file, from its beginning, through a descriptor of its own."""

    def __init__(self, file: BinaryIO, name: str = "the file") -> None:
        """Nothing may be left in a buffer of `file`; its position is moved."""
        self.name = name
        self.duration_s: float | None = None
        """As the file says; None when it does not."""
        self._lock = threading.Lock()
        self._closed = False
        self._heard = 0
        # Without a buffer: libsndfile and libav both move the position of the descriptor.
        self._file = os.fdopen(os.dup(file.fileno()), "rb", buffering=0)
        self._pieces: Generator[FilePiece] | None = None
        self._blocks: Iterator[Samples] = iter(())

    def open(self) -> None:
        """Finds out what it is. Raises BadRequest (`bad_audio`): no audio, or none that is known here."""
        with self._lock:
            if not self._closed:
                self._blocks = blocks(self._opened())

    def read(self) -> Samples:
        """The next block; nothing at the end, or once it is closed. Raises BadRequest past MAX_FILE_S."""
        with self._lock:
            if self._closed:
                return np.zeros(0, np.float32)
            block = next(self._blocks, np.zeros(0, np.float32))
            self._heard += len(block)
            self._check(self._heard / SAMPLE_RATE)
            return block

    def close(self) -> None:
        """Frees the decoder. Waits for a call on another thread, which ends within one packet."""
        self._closed = True
        with self._lock:
            if self._pieces is not None:
                self._pieces.close()
            self._file.close()

    def _opened(self) -> Iterator[FilePiece]:
        head = os.pread(self._file.fileno(), HEAD_BYTES, 0)
        if not head:
            raise bad_audio(f"{self.name} is empty: 0 bytes came")
        reasons: list[str] = []
        ways = (self._by_libsndfile, self._by_libav) if head.startswith(CERTAIN) else (self._by_libav,)
        for way in ways:
            self._file.seek(0)
            self._pieces = way()
            try:
                first = next(self._pieces, None)
            except UnreadableFile as err:
                reasons += [str(err)] if str(err) else []
                continue
            if first is not None:
                return itertools.chain((first,), self._pieces)
            raise bad_audio(f"{self.name}: there is no audio in it; {self._seen()}")
        said = f" ({'; '.join(reasons)})" if reasons else ""
        raise bad_audio(f"{self.name} is no audio that is known here: {self._seen()}{said}. {KNOWN}")

    def _seen(self) -> str:
        descriptor = self._file.fileno()
        size, head = os.fstat(descriptor).st_size, os.pread(descriptor, HEAD_BYTES, 0)
        return f"{size} bytes came, and they begin with {head!r}"

    def _check(self, seconds: float) -> None:
        if seconds > MAX_FILE_S:
            raise bad_audio(f"{self.name} has {seconds:.0f} s of audio; at most {MAX_FILE_S} are taken: split it")

    def _note(self, frames: int | None, sample_rate: int, channels: int) -> None:
        """What its header says."""
        if not MIN_RATE <= sample_rate <= MAX_RATE or not 1 <= channels <= MAX_CHANNELS:
            raise bad_audio(
                f"{self.name} has {channels} channels of {sample_rate} samples a second; 1 to {MAX_CHANNELS} channels "
                f"of {MIN_RATE} to {MAX_RATE} are taken"
            )
        if frames is not None:
            self.duration_s = frames / sample_rate
            self._check(self.duration_s)

    def _by_libsndfile(self) -> Generator[FilePiece]:
        import soundfile  # pyright: ignore[reportMissingTypeStubs]

        heard = 0
        try:
            with soundfile.SoundFile(self._file.fileno(), closefd=False) as opened:
                rate, channels = opened.samplerate, opened.channels
                self._note(opened.frames if opened.frames < UNKNOWN_FRAMES else None, rate, channels)
                while len(samples := opened.read(max(1, STEP // channels), "float32", always_2d=True)):
                    heard += len(samples)
                    yield FilePiece(tame(samples.mean(axis=1, dtype=np.float32)), rate)
                    if self._closed:
                        return
        except soundfile.LibsndfileError as err:
            if not heard:
                raise UnreadableFile(err.error_string) from err
            self._file.seek(0)
            with contextlib.suppress(UnreadableFile, BadRequest):  # It is broken there; libav may go on behind that.
                yield from self._by_libav(heard)

    def _by_libav(self, skipped: int = 0) -> Generator[FilePiece]:
        """From that sample on."""
        import av
        from av.error import FFmpegError

        heard = 0
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "", "enable_drefs": "0"}
        try:
            with av.open(self._file, "r", options=options, metadata_errors="replace") as opened:
                track = self._track(opened)
                for packet in opened.demux(track):
                    if self._closed:
                        return
                    for frame in _frames(packet):
                        piece = self._piece(frame)
                        new = piece.samples[max(0, skipped - heard) :]
                        heard += len(piece.samples)
                        if len(new):
                            yield FilePiece(new, piece.sample_rate)
        except FFmpegError as err:
            if not heard:  # Otherwise it is cut short, and what is whole was heard.
                raise UnreadableFile("" if err.errno == EINVAL else err.strerror) from err

    def _track(self, opened: "InputContainer") -> "AudioStream":
        if not opened.streams.audio:
            kinds = ", ".join(sorted({stream.type for stream in opened.streams})) or "nothing"
            raise bad_audio(f"{self.name}: there is no sound in it, only {kinds}")
        track = opened.streams.audio[0]
        if opened.duration is not None:
            self.duration_s = opened.duration / 1_000_000
        return track

    def _piece(self, frame: "AudioFrame") -> FilePiece:
        if not MIN_RATE <= frame.sample_rate <= MAX_RATE or not 1 <= frame.layout.nb_channels <= MAX_CHANNELS:
            self._note(None, frame.sample_rate, frame.layout.nb_channels)
        return FilePiece(tame(_floats(frame).mean(axis=0, dtype=np.float32)), frame.sample_rate)


def blocks(pieces: Iterator[FilePiece]) -> Iterator[Samples]:
    """The pieces at 16 kHz, BLOCK samples at once."""
    held: list[Samples] = []
    count = 0
    for samples in _resampled(pieces):
        held.append(samples)
        count += len(samples)
        while count >= BLOCK:
            whole = np.concatenate(held)
            yield whole[:BLOCK]
            held, count = [whole[BLOCK:]], count - BLOCK
    if count:
        yield np.concatenate(held)


def _resampled(pieces: Iterator[FilePiece]) -> Iterator[Samples]:
    """A file may change its rate where two were joined."""
    rate, resampler = 0, Resampler(SAMPLE_RATE)
    for piece in pieces:
        if piece.sample_rate != rate:
            yield resampler.end()
            rate, resampler = piece.sample_rate, Resampler(piece.sample_rate)
        yield resampler.feed(piece.samples)
    yield resampler.end()


def _frames(packet: "Packet[AudioStream]") -> "list[AudioFrame]":
    from av.error import FFmpegError

    try:
        return packet.decode()
    except FFmpegError:
        return []  # A broken packet; the next one is whole again.


def _floats(frame: "AudioFrame") -> Any:
    """One row a channel, -1 to 1."""
    samples: Any = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    match samples.dtype.kind:
        case "f":
            return samples
        case "u":
            return (samples.astype(np.float32) - 128) * np.float32(2**-7)
        case _:
            return samples.astype(np.float32) * np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
