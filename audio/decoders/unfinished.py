"""Reads the lengths in a file's header anew where they are wrong: a recorder that crashed never wrote them.

A length of zero, or one that the recorder did not know, lasts to the end of the file. A length that is too short is
believed only where a chunk follows, or the file ends: else what follows is audio, and is heard. Chunks at the end of
the file (LIST, id3 and the like) are no audio, whatever the length says. The file itself stays as it is: libsndfile
reads it through `PatchedFile`, whose header has the true lengths. libav's formats need none of this.
"""

import os
import re
from typing import Any, NamedTuple

CHUNK_NAME = re.compile(rb"[A-Za-z0-9_()][A-Za-z0-9_() -]{3}")
"""The name of a chunk: four letters. Samples hardly ever look like that."""
TAIL_CHUNK = re.compile(
    rb"LIST|id3 |ID3 |bext|cue |fact|JUNK|junk|PAD |FLLR|iXML|axml|chna|smpl|inst|acid|PEAK|_PMX|DISP|afsp|cart|levl|"
    rb"umid|plst|note|labl|MARK|COMT|INST|MIDI|APPL|NAME|AUTH|ANNO|AESD|SAUR|info|strg|mark|regn|free|uuid|ovvw|peak"
)
"""The chunks that stand behind the audio."""
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"RIFF", b"RIFX", b"RF64", b"FORM")
"""Beginnings of tags, and of a second file, that may stand behind the audio without a chunk around them."""
TAIL_BYTES = 1024 * 1024
"""Maximum bytes at the end of a file in which chunks are searched for, where no length says where they begin."""
MAX_CHUNKS = 1000
UNKNOWN_SIZE = 0x7FFF0000
"""The least size that recorders name when they write to a pipe and do not know the size."""
FLAC_INFO = slice(18, 26)
"""The bytes of a FLAC file that hold the number of its samples, in the last 36 bits."""


class Patch(NamedTuple):
    """Bytes that stand at an offset of the file instead of its own."""

    offset: int
    data: bytes


class ChunkForm(NamedTuple):
    """The way in which a kind of file writes its chunks."""

    order: str
    """Byte order of its numbers: `little` or `big`."""
    first: int
    """Offset of the first chunk."""
    size_bytes: int
    """Bytes of a chunk's size, which stands behind the chunk's name."""
    audio: bytes
    """Name of the chunk that holds the audio."""
    audio_head_bytes: int = 0
    """Bytes of that chunk before the first sample."""

    @property
    def head_bytes(self) -> int:
        return 4 + self.size_bytes

    def number(self, value: int) -> bytes:
        """Returns a size as it is written, or the greatest that can be written."""
        order: Any = self.order
        return min(value, (1 << 8 * self.size_bytes) - 1).to_bytes(self.size_bytes, order)


WAV_FORM, RIFX_FORM = ChunkForm("little", 12, 4, b"data"), ChunkForm("big", 12, 4, b"data")
FORMS = {
    b"RIFF": WAV_FORM,
    b"RF64": WAV_FORM,
    b"RIFX": RIFX_FORM,
    b"FORM": ChunkForm("big", 12, 4, b"SSND", 8),
    b"caff": ChunkForm("big", 8, 8, b"data", 4),
}


class PatchedFile:
    """The file that libsndfile reads from: a descriptor's bytes, with some of them in other words."""

    def __init__(self, descriptor: int, patches: list[Patch]) -> None:
        self._descriptor = descriptor
        self._patches = patches
        self._at = 0
        self._size = os.fstat(descriptor).st_size

    def readinto(self, buffer: Any) -> int:
        data = bytearray(os.pread(self._descriptor, len(buffer), self._at))
        for offset, patch in self._patches:
            for index, byte in enumerate(patch, offset - self._at):
                if 0 <= index < len(data):
                    data[index] = byte
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at


def patches_of(descriptor: int) -> list[Patch]:
    """Returns what is to be read instead of a file's wrong lengths; nothing when they are right, or not understood."""
    head = os.pread(descriptor, 32, 0)
    if head[:4] in (b".snd", b"dns."):
        return _au_patches(descriptor, head)
    if stated_flac_samples(head):  # none is "to the end"
        info = int.from_bytes(head[FLAC_INFO], "big") >> 36 << 36
        return [Patch(FLAC_INFO.start, info.to_bytes(8, "big"))]
    form = FORMS.get(head[:4])
    return [] if form is None else _Chunks(descriptor, form).patches(head)


def stated_flac_samples(head: bytes) -> int:
    """Returns the number of samples that the header of a FLAC file states; 0 when it states none, or is no FLAC."""
    is_flac = head.startswith(b"fLaC") and len(head) >= FLAC_INFO.stop
    return int.from_bytes(head[FLAC_INFO], "big") & ((1 << 36) - 1) if is_flac else 0


def _au_patches(descriptor: int, head: bytes) -> list[Patch]:
    """Returns the length of Sun's format, behind whose audio nothing stands."""
    order: Any = "big" if head[:4] == b".snd" else "little"
    size = os.fstat(descriptor).st_size - int.from_bytes(head[4:8], order)
    return [Patch(8, size.to_bytes(4, order))] if 0 < size < UNKNOWN_SIZE else []


class _Chunks:
    """The chunks of one file."""

    def __init__(self, descriptor: int, form: ChunkForm) -> None:
        self._descriptor = descriptor
        self._form = form
        self._size = os.fstat(descriptor).st_size

    def patches(self, head: bytes) -> list[Patch]:
        at, sizes_at = self._form.first, 0
        for _ in range(MAX_CHUNKS):
            name, size = self._head(at)
            if name == self._form.audio:
                return self._audio_patches(head[:4], at, size, sizes_at)
            if name == b"ds64":
                sizes_at = at + self._form.head_bytes
            if not CHUNK_NAME.fullmatch(name) or at + size > self._size:
                return []
            at = self._next(at, size)
        return []

    def _audio_patches(self, kind: bytes, at: int, size: int, sizes_at: int) -> list[Patch]:
        """Returns the patches for the audio's chunk `at` an offset; `sizes_at` is that of RF64's own sizes."""
        start = at + self._form.head_bytes
        if kind == b"RF64" and sizes_at:
            size = self._number(sizes_at + 8, 8)
        end = self._end(start, size)
        if end == min(start + size, self._size):
            return []
        patches = [Patch(at + 4, self._form.number(end - start))]
        if kind == b"RF64" and sizes_at:
            sizes = (self._size - 8).to_bytes(8, "little") + (end - start).to_bytes(8, "little")
            patches = [Patch(at + 4, b"\xff" * 4), Patch(sizes_at, sizes)]
        elif kind != b"caff":
            patches.append(Patch(4, self._form.number(self._size - 8)))
        return patches

    def _end(self, start: int, size: int) -> int:
        """Returns the offset at which audio ends that begins at `start` and is said to have `size` bytes."""
        end = start + size
        is_empty = size <= self._form.audio_head_bytes
        if is_empty and self._is_chain(end):
            return end
        is_known = not is_empty and size < max(UNKNOWN_SIZE, self._size)
        if is_known and end + self._form.head_bytes > self._size:
            return min(end, self._size)
        if is_known and any(self._is_trailer(place) for place in (end, end + size % 2)):
            return end
        return self._tail(start)

    def _tail(self, start: int) -> int:
        """Returns where the chunks at the end of the file begin, and the end of the file when there are none."""
        first = max(start, self._size - TAIL_BYTES)
        tail = os.pread(self._descriptor, self._size - first, first)
        places = [first + match.start() for match in TAIL_CHUNK.finditer(tail)]
        return next((place for place in places if self._is_chain(place)), self._size)

    def _is_trailer(self, at: int) -> bool:
        """Tells whether what stands at an offset is known to be no audio."""
        beginning = os.pread(self._descriptor, 8, at)
        return beginning.startswith(TAGS) or bool(TAIL_CHUNK.match(beginning)) or self._is_chain(at)

    def _is_chain(self, at: int) -> bool:
        """Tells whether a chunk begins at an offset, and others follow it up to the end of the file."""
        if at + self._form.head_bytes > self._size:
            return False
        for _ in range(MAX_CHUNKS):
            name, size = self._head(at)
            if not CHUNK_NAME.fullmatch(name):
                return False
            at = self._next(at, size)
            if at >= self._size:
                return at <= self._size + 1  # the last one's padding may be missing
        return False

    def _next(self, at: int, size: int) -> int:
        padding = size % 2 if self._form.size_bytes == 4 else 0
        return at + self._form.head_bytes + size + padding

    def _head(self, at: int) -> tuple[bytes, int]:
        """Returns the name and the size of the chunk at an offset."""
        return os.pread(self._descriptor, 4, at), self._number(at + 4, self._form.size_bytes)

    def _number(self, at: int, size_bytes: int) -> int:
        order: Any = self._form.order
        return int.from_bytes(os.pread(self._descriptor, size_bytes, at), order)
