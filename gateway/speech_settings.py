"""Declares the settings of speech that goes out: which voice speaks, and where."""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.environment import prefixed

DEFAULT_REMOTE_MODEL, DEFAULT_REMOTE_VOICE = "gpt-4o-mini-tts", "alloy"


class SpeechSettings(Struct, frozen=True, kw_only=True, rename=prefixed("TRILANE_")):
    """The voice of an audio unit. It is loaded when somebody wants something said, not before."""

    voice: Annotated[
        str,
        Meta(
            description="Voices that speak, the default first: `heart` (English, embedded); `espeak-ng:de`, a language "
            "of that program, where it is installed; with `TRILANE_VOICE_URL` names of its voices; unset: `heart`"
        ),
    ] = ""
    voice_url: Annotated[
        str,
        Meta(description="A server with OpenAI's `/audio/speech` that speaks in its place, to the `/v1` before that"),
    ] = ""
    voice_key: Annotated[str, Meta(description="Its key")] = ""
    voice_model: Annotated[str, Meta(description=f"Its model; unset: `{DEFAULT_REMOTE_MODEL}`")] = ""
