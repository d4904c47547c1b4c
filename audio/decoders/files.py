"""Decodes a file of any kind to samples at 16 kHz, block by block: whatever its length, one block of it is in memory.

libsndfile reads what it knows for certain (WAV, FLAC, Ogg, AIFF, CAF, AU), libav the rest (MP3, M4A, MP4, WebM, AAC,
WMA). A file that neither can read is refused in a sentence that says how it begins; a file that is cut short is decoded
as far as it is whole. Of several tracks one is heard (`audio.decoders.tracks`). libav is told which formats it may
find: a playlist names other files and addresses, and whoever uploaded one would have them read here.

Everything here blocks: use `Sound` on a thread, one call at a time.
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Generator, Iterator
from errno import EINVAL
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from audio.decoders.downmix import Downmix
from audio.decoders.formats import bad_audio, tame
from audio.decoders.resample import Resampler
from audio.decoders.tracks import Track, left_out, tracks_of
from audio.decoders.unfinished import PatchedFile, patches_of, stated_flac_samples
from audio.model.transcriber import SAMPLE_RATE, Samples
from gateway.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

BLOCK = 10 * SAMPLE_RATE
"""Number of samples of each block but the last."""
MAX_FILE_S = 86_400
"""Maximum length of a file where nobody says less, a day: a gigabyte of FLAC can hold a year of silence."""
FAIR_RATE = 96_000
"""Samples a second of all channels together that a second of a file may cost: two channels of 48 kHz."""
MIN_PACKET_S = 0.001
"""Least average length of a file's packets: the shortest of any real encoder is 2.5 ms."""
FREE_PACKETS = 10_000
"""Packets of a file that may be as short as they like, or broken."""
MIN_RATE, MAX_RATE = 4000, 768_000
MAX_CHANNELS = 64
SIDES = 2
"""Number of channels that a file has whose channels are heard apart: the two sides of a call."""
STEP = 65_536
"""Number of samples, of all channels together, that are decoded at once."""
UNKNOWN_FRAMES = 1 << 48
"""The least length that libsndfile reports of a stream whose header has none."""
HEAD_BYTES = 16
WORTH_SAYING_S = 0.1
"""Seconds for which channels cancel each other out before it is said."""
KNOWN = "wav, flac, ogg, opus, mp3, m4a, mp4, webm, aac, aiff and the like are read"
CERTAIN = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"dns.")
"""The beginnings of files that libsndfile may read. It would take AAC for MP3, and complains on stderr about others."""
DEMUXERS = "aac,ac3,aiff,amr,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav,wv"
"""libav's demuxers that read the file itself, and nothing that it names. For any other it says `Invalid argument`."""


class FilePiece(NamedTuple):
    """Samples of a file, mono or with a column for each channel."""

    samples: Samples
    sample_rate: int


class UnreadableFile(Exception):
    """The library cannot read the file."""


class Sound:
    """The audio of one file, from its beginning, through a descriptor of its own."""

    def __init__(
        self, file: BinaryIO, name: str = "the file", max_s: int = MAX_FILE_S, *, is_split: bool = False
    ) -> None:
        """Reads `file`, which the caller has flushed, and `max_s` seconds of it; its position is moved.

        `is_split`: blocks have a column for each of two channels, which are not mixed.
        """
        self.name = name
        self._is_split = is_split
        self._max_s = max_s
        self._spent = 0
        """Number of samples that were decoded, of all channels and tracks."""
        self._packets = 0
        self.duration_s: float | None = None
        """The duration that the file states; None when it states none."""
        self._lock = threading.Lock()
        self._is_closed = False
        self._count = 0
        """Number of samples read so far."""
        # Without a buffer: libsndfile and libav both move the position of the descriptor.
        self._file = os.fdopen(os.dup(file.fileno()), "rb", buffering=0)
        self._tracks: list[Track] = []
        """The tracks of sound, in the order in which they are heard; none where the format has but one."""
        self._heard = 0
        """The place of the track that is heard, among `_tracks`."""
        self._downmix = Downmix()
        self._pieces: Generator[FilePiece] | None = None
        self._blocks: Iterator[Samples] = iter(())

    def open(self) -> None:
        """Finds out the file's format. Raises BadRequest (`bad_audio`) when it is no audio, or of no known format."""
        with self._lock:
            if not self._is_closed:
                self._blocks = blocks(self._decoded())

    def read(self) -> Samples:
        """Returns the next block, and nothing at the end or once it is closed. Raises TooLarge past `max_s`."""
        with self._lock:
            if self._is_closed:
                return np.zeros(0, np.float32)
            block = next(self._blocks, np.zeros(0, np.float32))
            self._count += len(block)
            self._check(self._count / SAMPLE_RATE)
            return block

    def next_track(self) -> bool:
        """Begins the next of the file's tracks, when one had no speech in it. Returns False when there is none."""
        with self._lock:
            while not self._is_closed and self._advance():
                with contextlib.suppress(BadRequest):
                    self._blocks = blocks(self._decoded())
                    return True
        return False

    def _advance(self) -> bool:
        if self._heard + 1 >= len(self._tracks):
            return False
        if self._pieces is not None:
            self._pieces.close()
        self._heard, self._count, self._downmix = self._heard + 1, 0, Downmix()
        return True

    @property
    def warnings(self) -> list[str]:
        """Returns a sentence for each part of the file that was left out so far."""
        sentences = left_out(self._tracks, self._heard)
        if self._downmix.cancelled_s >= WORTH_SAYING_S:
            span = f"for {self._downmix.cancelled_s:.1f} s"
            sentences.append(f"channels of opposite polarity cancel each other out: the loudest was heard alone {span}")
        return sentences

    def close(self) -> None:
        """Frees the decoder. A call on another thread is waited for, which ends within one packet."""
        self._is_closed = True
        with self._lock:
            if self._pieces is not None:
                self._pieces.close()
            self._file.close()

    def _decoded(self) -> Iterator[FilePiece]:
        """Returns the pieces as the first library that can read the file decodes them."""
        head = os.pread(self._file.fileno(), HEAD_BYTES, 0)
        if not head:
            raise bad_audio(f"{self.name} is empty: 0 bytes came")
        reasons: list[str] = []
        libraries = (self._by_libsndfile, self._by_libav) if head.startswith(CERTAIN) else (self._by_libav,)
        for decode in libraries:
            self._file.seek(0)
            self._pieces = decode()
            try:
                first = next(self._pieces, None)
            except UnreadableFile as err:
                reasons += [str(err)] if str(err) else []
                continue
            if first is not None:
                return itertools.chain((first,), self._pieces)
            if self._advance():
                return self._decoded()
            raise bad_audio(f"{self.name}: there is no audio in it; {self._beginning()}")
        why = f" ({'; '.join(reasons)})" if reasons else ""
        raise bad_audio(f"{self.name} is no audio that is known here: {self._beginning()}{why}. {KNOWN}")

    def _beginning(self) -> str:
        descriptor = self._file.fileno()
        size, head = os.fstat(descriptor).st_size, os.pread(descriptor, HEAD_BYTES, 0)
        return f"{size} bytes came, and they begin with {head!r}"

    def _check(self, seconds: float) -> None:
        if seconds > self._max_s:
            raise _too_long(f"{self.name} has {seconds:.0f} s of audio; at most {self._max_s} are taken: split it")

    def _spend(self, samples: int) -> None:
        """Counts samples of all channels that are decoded, whatever becomes of them. Raises TooLarge."""
        self._spent += samples
        if self._spent > self._max_s * FAIR_RATE:
            raise _too_long(
                f"{self.name} has more than {self._max_s * FAIR_RATE} samples in all channels and tracks: send one "
                "track of one channel at 16 kHz, which is all that is heard, or split it"
            )

    def _count_packet(self) -> None:
        """Counts a packet, be it broken. Raises BadRequest for a file that is nothing but packets."""
        self._packets += 1
        if self._packets > FREE_PACKETS and self._spent < self._packets * MIN_PACKET_S * MIN_RATE:
            raise bad_audio(f"{self.name} has {self._packets} packets for {self._spent} samples: encode it anew")

    def _check_header(self, frames: int | None, sample_rate: int, channels: int) -> None:
        """Takes what the header states. Raises BadRequest for what is not taken here."""
        if not MIN_RATE <= sample_rate <= MAX_RATE or not 1 <= channels <= MAX_CHANNELS:
            raise bad_audio(
                f"{self.name} has {channels} channels of {sample_rate} samples a second; 1 to {MAX_CHANNELS} channels "
                f"of {MIN_RATE} to {MAX_RATE} are taken"
            )
        if frames is not None:
            self.duration_s = frames / sample_rate
            self._check(max(self.duration_s, frames * channels / FAIR_RATE))

    def _by_libsndfile(self) -> Generator[FilePiece]:
        import soundfile  # pyright: ignore[reportMissingTypeStubs]

        count = 0
        descriptor = self._file.fileno()
        patches = patches_of(descriptor)
        source: Any = PatchedFile(descriptor, patches) if patches else descriptor
        try:
            with soundfile.SoundFile(source, closefd=False) as file:
                file.seekable = lambda: False  # otherwise it seeks after every read
                rate, channels = file.samplerate, file.channels
                stated = stated_flac_samples(os.pread(descriptor, 32, 0)) or file.frames
                self._check_header(stated if stated < UNKNOWN_FRAMES else None, rate, channels)
                while len(samples := file.read(max(1, STEP // channels), "float32", always_2d=True)):
                    count += len(samples)
                    self._spend(len(samples) * channels)
                    yield FilePiece(tame(self._mixed(samples, rate)), rate)
                    if self._is_closed:
                        return
        except soundfile.LibsndfileError as err:
            if not count:
                raise UnreadableFile(err.error_string) from err
            self._file.seek(0)
            with contextlib.suppress(UnreadableFile, BadRequest):  # the file is broken there; libav may read on
                yield from self._by_libav(count)

    def _by_libav(self, first: int = 0) -> Generator[FilePiece]:
        """Decodes the file from the sample `first` on."""
        import av
        from av.error import FFmpegError

        count = 0
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "", "enable_drefs": "0"}
        try:
            with av.open(self._file, "r", options=options, metadata_errors="replace") as file:
                track = self._track(file)
                for packet in file.demux(track):
                    if self._is_closed:
                        return
                    self._count_packet()
                    for frame in _frames(packet):
                        self._spend(frame.samples * frame.layout.nb_channels)
                        piece = self._piece(frame)
                        new = piece.samples[max(0, first - count) :]
                        count += len(piece.samples)
                        if len(new):
                            yield FilePiece(new, piece.sample_rate)
        except FFmpegError as err:
            if not count:  # otherwise it is cut short, and what is whole has been decoded
                raise UnreadableFile("" if err.errno == EINVAL else err.strerror) from err

    def _track(self, file: "InputContainer") -> "AudioStream":
        self._tracks = self._tracks or tracks_of(file)
        if not self._tracks and file.streams.audio:
            raise UnreadableFile("there is no decoder for its sound")
        if not self._tracks:
            kinds = ", ".join(sorted({stream.type for stream in file.streams})) or "nothing"
            raise bad_audio(f"{self.name}: there is no sound in it, only {kinds}")
        if file.duration is not None:
            self.duration_s = file.duration / 1_000_000
        index = self._tracks[self._heard].stream
        return next(stream for stream in file.streams.audio if stream.index == index)

    def _piece(self, frame: "AudioFrame") -> FilePiece:
        if not MIN_RATE <= frame.sample_rate <= MAX_RATE or not 1 <= frame.layout.nb_channels <= MAX_CHANNELS:
            self._check_header(None, frame.sample_rate, frame.layout.nb_channels)
        return FilePiece(tame(self._mixed(_floats(frame).T, frame.sample_rate)), frame.sample_rate)

    def _mixed(self, frames: Any, sample_rate: int) -> Samples:
        """Returns frames as one channel, or as they are where channels are heard apart. Raises BadRequest."""
        if not self._is_split:
            return self._downmix.feed(frames, sample_rate)
        if frames.shape[1] != SIDES:
            raise bad_audio(f"channels=split: {self.name} has {frames.shape[1]} channel(s); {SIDES} are heard apart")
        return np.ascontiguousarray(frames, dtype=np.float32)


def _too_long(detail: str) -> TooLarge:
    return TooLarge(detail, code="audio_too_long", extra={"param": "file"})


def blocks(pieces: Iterator[FilePiece]) -> Iterator[Samples]:
    """Yields the pieces at 16 kHz, BLOCK samples at once."""
    parts: list[Samples] = []
    count = 0
    for samples in filter(len, _resampled(pieces)):
        parts.append(samples)
        count += len(samples)
        while count >= BLOCK:
            whole = np.concatenate(parts)
            yield whole[:BLOCK]
            parts, count = [whole[BLOCK:]], count - BLOCK
    if count:
        yield np.concatenate(parts)


def _resampled(pieces: Iterator[FilePiece]) -> Iterator[Samples]:
    """Yields the pieces at 16 kHz; a file may change its rate where two were joined."""
    rate, resampler = 0, Resampler(SAMPLE_RATE)
    for piece in pieces:
        if piece.sample_rate != rate:
            yield resampler.flush()
            rate, resampler = piece.sample_rate, Resampler(piece.sample_rate)
        yield resampler.feed(piece.samples)
    yield resampler.flush()


def _frames(packet: "Packet[AudioStream]") -> "list[AudioFrame]":
    from av.error import FFmpegError

    try:
        return packet.decode()
    except FFmpegError:
        return []  # a broken packet; the next one is whole again


def _floats(frame: "AudioFrame") -> Any:
    """Returns a frame's samples from -1 to 1, one row for each channel."""
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
