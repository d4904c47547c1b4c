"""Chooses the voice of a process by its settings: the embedded one, a server's, or a program of this machine."""

from audio.model.espeak_voice import PROGRAM, EspeakVoice
from audio.model.hibari_voice import NAME, HibariVoice
from audio.model.voice import Voice
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.speech_settings import DEFAULT_REMOTE_MODEL, DEFAULT_REMOTE_VOICE


def voice_of(settings: Settings) -> Voice:
    """Returns the voice, not loaded. Raises ConfigurationError for a name that is none."""
    speech = settings.speech
    names = [name.strip() for name in speech.voice.split(",") if name.strip()]
    if speech.voice_url:
        from audio.model.remote_voice import RemoteVoice  # and its HTTP client

        model = speech.voice_model or DEFAULT_REMOTE_MODEL
        return RemoteVoice(speech.voice_url, speech.voice_key, model, names, DEFAULT_REMOTE_VOICE)
    if speech.voice_key or speech.voice_model:
        raise ConfigurationError("TRILANE_VOICE_KEY and TRILANE_VOICE_MODEL go with TRILANE_VOICE_URL")
    if names in ([], [NAME]):
        return HibariVoice()
    if all(name.partition(":")[0] == PROGRAM for name in names):
        return EspeakVoice([name.partition(":")[2] for name in names])
    raise ConfigurationError(
        f"TRILANE_VOICE={speech.voice}: want {NAME}, {PROGRAM} or {PROGRAM}:<language>, or with TRILANE_VOICE_URL "
        "the names of that server's voices"
    )
