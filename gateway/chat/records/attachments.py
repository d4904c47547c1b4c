"""A file that a message carries, in the form in which an OpenAI-compatible server takes files of its kind. Pure.

Pictures, sound and films have parts of their own there, documents are files, and what is text is sent as text: every
model can read that. Nothing is fetched: an address is the upstream's to read.
"""

import base64
import binascii
import mimetypes
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.errors import BadRequest

AUDIO_FORMATS = {
    "mpeg": "mp3",
    "mp3": "mp3",
    "mpga": "mp3",
    "wav": "wav",
    "wave": "wav",
    "x-wav": "wav",
    "vnd.wave": "wav",
    "x-m4a": "m4a",
    "mp4": "m4a",
    "x-flac": "flac",
    "x-aac": "aac",
}
"""OpenAI's word for the formats whose media types are named otherwise."""
TEXT_TYPES = ("json", "xml", "yaml", "x-yaml", "toml", "javascript", "typescript", "sql", "x-ndjson", "csv", "x-sh")
"""Subtypes of `application/` that are text, as is all that ends in `+json` and `+xml`."""
UNREADABLE_SCHEMES = ("blob", "file")
"""Schemes of addresses that mean something only to the client itself."""
OCTETS = "application/octet-stream"

ContentPart = dict[str, object]


class DataUrl(NamedTuple):
    """A `data:` URL in its pieces."""

    media_type: str
    charset: str
    is_base64: bool
    text: str

    def content(self, name: str) -> bytes:
        """Returns the bytes that it holds; raises BadRequest, with the file's name, when it holds none."""
        data = unquote_to_bytes(self.text)
        try:
            return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True) if self.is_base64 else data
        except binascii.Error as err:
            raise BadRequest(f"the file {name[:64]!r} is not valid base64: {err}") from err


def content_part(media_type: str, url: str, filename: str) -> ContentPart:
    """Returns one file as a part of a message's content; raises BadRequest for one that nobody could read."""
    scheme = url.partition(":")[0].lower()
    name = filename or media_type or "file"
    if not url or scheme in UNREADABLE_SCHEMES:
        raise BadRequest(f"the file {name[:64]!r} has no address that a model could read: send a data: URL")
    data = _data_url(url) if scheme == "data" else None
    kind = (media_type or (data.media_type if data else "")).partition(";")[0].strip().lower() or OCTETS
    main, _, sub = kind.partition("/")
    if main == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if main == "video":
        return {"type": "video_url", "video_url": {"url": url}}
    if main == "audio":
        return _audio(sub, data, name)
    if data is not None and _is_text(main, sub):
        return {"type": "text", "text": f"{name} ({kind}):\n\n{_text(data, name)}"}
    named = filename or f"file{mimetypes.guess_extension(kind) or ''}"
    return {"type": "file", "file": {"filename": named, "file_data": url}}


def _audio(sub: str, data: DataUrl | None, name: str) -> ContentPart:
    if data is None:
        raise BadRequest(f"the sound {name[:64]!r} must be sent as a data: URL: models take no address of one")
    encoded = data.text if data.is_base64 else base64.b64encode(data.content(name)).decode()
    return {"type": "input_audio", "input_audio": {"data": encoded, "format": AUDIO_FORMATS.get(sub, sub)}}


def _is_text(main: str, sub: str) -> bool:
    return main == "text" or (main == "application" and (sub in TEXT_TYPES or sub.endswith(("+json", "+xml"))))


def _text(data: DataUrl, name: str) -> str:
    content = data.content(name)
    try:
        return content.decode(data.charset, "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def _data_url(url: str) -> DataUrl:
    head, comma, text = url.partition(",")
    if not comma:
        raise BadRequest("a data: URL has no comma, and so no data")
    media_type, *parameters = head.removeprefix(head[:5]).split(";")
    words = [parameter.strip().lower() for parameter in parameters]
    charset = next((word.removeprefix("charset=") for word in words if word.startswith("charset=")), "utf-8")
    return DataUrl(media_type.strip(), charset.strip('"'), "base64" in words, text)
