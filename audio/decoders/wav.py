"""WAV as a stream: the header is read here, and the samples are raw PCM.

libav waits for 2 to 3 s of a WAV stream before it says anything, and libsndfile reads none that it cannot seek in; the
header is five numbers. A size of 0, or one that the recorder did not know (0xFFFFFFFF and the like), means "to the
end". Other chunks are skipped wherever they stand; what follows the audio and is no chunk is audio as well, because the
size was too small. A second file in the same stream is refused, not dropped.
"""

import struct

import numpy as np

from audio.decoders.formats import RAW, STALL_BYTES, PcmDecoder, SampleFormat, bad_audio, check, tame, unlike
from audio.decoders.unfinished import CHUNK_NAME, UNKNOWN_SIZE
from audio.model.transcriber import Samples

MAX_FORMAT_BYTES = 1024
ENDLESS = 1 << 62
"""Bytes of audio that are to come when nobody knows how many."""

_PCM, _FLOAT, _MULAW, _EXTENSIBLE = 1, 3, 7, 0xFFFE
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")


def _u8(data: bytes) -> Samples:
    return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) * np.float32(2**-7)


def _s24(data: bytes) -> Samples:
    shifted = np.zeros((len(data) // 3, 4), np.uint8)
    shifted[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return _s32(shifted.tobytes())


def _s32(data: bytes) -> Samples:
    return np.frombuffer(data, "<i4").astype(np.float32) * np.float32(2**-31)


def _f64(data: bytes) -> Samples:
    with np.errstate(over="ignore"):
        return tame(np.frombuffer(data, "<f8").astype(np.float32))


FORMS = {
    (_PCM, 8): SampleFormat(1, _u8),
    (_PCM, 16): RAW["pcm_s16le"],
    (_PCM, 24): SampleFormat(3, _s24),
    (_PCM, 32): SampleFormat(4, _s32),
    (_FLOAT, 32): RAW["pcm_f32le"],
    (_FLOAT, 64): SampleFormat(8, _f64),
    (_MULAW, 8): RAW["mulaw"],
}
"""The formats that are decoded, by their tag and the bits of a sample."""


class Wav:
    """Decodes one file, however long. `samples` counts at the rate that the client named, not at the file's own."""

    __slots__ = (
        "_buffer",
        "_data_left",
        "_first",
        "_has_begun",
        "_is_split",
        "_named_rate",
        "_own_rate",
        "_padding",
        "_pcm",
        "_quiet",
        "_skip",
    )

    def __init__(self, named_rate: int, *, first: int = 0, is_split: bool = False) -> None:
        self._is_split = is_split
        self._named_rate = self._own_rate = named_rate
        self._first = first
        self._buffer = bytearray()
        """Bytes that no chunk has taken yet."""
        self._has_begun = False
        self._skip = 0
        """Number of bytes to come of a chunk that is skipped."""
        self._data_left = 0
        self._padding: int | None = None
        """Number of bytes that fill up the audio's chunk, once all of that has come."""
        self._pcm: PcmDecoder | None = None
        self._quiet = 0
        """Number of bytes since the last sample."""

    @property
    def samples(self) -> int:
        own_samples = 0 if self._pcm is None else self._pcm.samples
        return self._first + own_samples * self._named_rate // self._own_rate

    async def feed(self, data: bytes) -> Samples:
        self._buffer += data
        parts: list[Samples] = []
        while self._buffer:
            if self._data_left:
                parts.append(self._decode())
            elif self._skip:
                self._skip -= len(self._pop(self._skip))
            elif not self._enter():
                break
        self._quiet = 0 if parts else self._quiet + len(data)
        if self._quiet > STALL_BYTES:
            raise bad_audio(f"{STALL_BYTES} bytes of the WAV stream, and not one sample")
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    async def flush(self) -> Samples:
        return np.zeros(0, np.float32) if self._pcm is None else self._pcm.drain()

    def close(self) -> None:
        self._buffer = bytearray()
        if self._pcm is not None:
            self._pcm.close()

    def _pop(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _decode(self) -> Samples:
        assert self._pcm is not None
        data = self._pop(self._data_left)
        self._data_left -= len(data)
        return self._pcm.decode(data)

    def _enter(self) -> bool:
        """Enters the next chunk, and returns False when its beginning is not all there."""
        if not self._has_begun:
            if len(self._buffer) < 12:
                return False
            beginning = self._pop(12)
            if beginning[:4] not in (b"RIFF", b"RF64") or beginning[8:] != b"WAVE":
                raise unlike("WAV (RIFF....WAVE)", beginning)
            self._has_begun = True
        if self._padding is not None:
            return self._leave_data(self._padding)
        if len(self._buffer) < _CHUNK.size:
            return False
        name, size = _CHUNK.unpack_from(self._buffer)
        if name == b"fmt " and self._pcm is None:
            return self._read_format(size)
        self._pop(_CHUNK.size)
        if name == b"data":
            self._enter_data(size)
            return True
        self._skip = size + size % 2
        if name in (b"RIFF", b"RF64"):
            raise bad_audio("a second WAV file follows the first; send one, or name pcm_s16le")
        return True

    def _enter_data(self, size: int) -> None:
        if self._pcm is None:
            raise bad_audio("the WAV stream has a chunk `data` before its `fmt `")
        endless = size == 0 or size >= UNKNOWN_SIZE
        self._data_left = ENDLESS if endless else size
        self._padding = size % 2

    def _leave_data(self, padding: int) -> bool:
        """Goes on to the chunk behind the audio. Where there is none, the size was too small, and the audio goes on."""
        if len(self._buffer) < padding + _CHUNK.size:
            return False
        self._padding = None
        if CHUNK_NAME.match(self._buffer, padding):
            self._pop(padding)
        elif not CHUNK_NAME.match(self._buffer):
            self._data_left = ENDLESS
        return True

    def _read_format(self, size: int) -> bool:
        if not _FORMAT.size <= size <= MAX_FORMAT_BYTES:
            raise bad_audio(f"the WAV stream's `fmt ` has {size} bytes; {_FORMAT.size} to {MAX_FORMAT_BYTES} are taken")
        if len(self._buffer) < _CHUNK.size + size + size % 2:
            return False
        body = self._pop(_CHUNK.size + size + size % 2)[_CHUNK.size :]
        tag, channels, sample_rate, _, _, bits = _FORMAT.unpack_from(body)
        if tag == _EXTENSIBLE and size >= 26:
            tag = int.from_bytes(body[24:26], "little")
        form = FORMS.get((tag, bits))
        if form is None:
            raise bad_audio(f"the WAV stream has format {tag} with {bits} bits; PCM, float and mu-law are taken")
        check(sample_rate, channels, is_split=self._is_split)
        self._own_rate = sample_rate
        self._pcm = PcmDecoder(form, sample_rate, channels, is_split=self._is_split)
        return True
