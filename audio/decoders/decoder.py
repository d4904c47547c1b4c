"""The choice of a decoder by the encoding that a client names.

It lies apart from `formats`, which every decoder stands on. A library is imported by its decoder when that is made.
"""

from audio.decoders.containers import container
from audio.decoders.formats import RAW, Decoder, Encoding, PcmDecoder
from audio.decoders.opus_packets import OpusPackets
from audio.decoders.wav import Wav


def decoder(encoding: Encoding, sample_rate: int, channels: int, *, first: int = 0, is_split: bool = False) -> Decoder:
    """Returns the decoder of a stream whose first sample has the number `first`.

    Rate and channels are those that the client named; the header of a container has the last word. `is_split`: the
    samples have a column for each of two channels, and are not mixed; a container with one channel is refused.
    """
    match encoding:
        case "pcm_s16le" | "pcm_f32le" | "mulaw" | "alaw":
            return PcmDecoder(RAW[encoding], sample_rate, channels, first=first, is_split=is_split)
        case "opus":
            return OpusPackets(sample_rate, channels, first=first, is_split=is_split)
        case "wav":
            return Wav(sample_rate, first=first, is_split=is_split)
        case "ogg_opus" | "webm_opus" | "flac":
            return container(encoding, sample_rate, first=first, is_split=is_split)
