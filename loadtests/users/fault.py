"""A load test can find these faults in a deployment, and says what to do about each."""

from enum import Enum
from typing import NamedTuple


class Fault(Enum):
    """Gives each fault a short name for tables, and a sentence for people."""

    title: str
    sentence: str

    LOST = ("lost", "Part of a stream never came, and nothing said so: a fault of the gateway or of its log.")
    DOUBLED = ("doubled", "Part of a stream came twice: a fault of the gateway, or a proxy that repeats requests.")
    OUT_OF_ORDER = (
        "out of order",
        "Parts of a stream came in another order than they were made: a fault of the gateway.",
    )
    DIFFERENT = (
        "different",
        "What was settled changed, or two readers of one stream were given different events: a fault of the gateway.",
    )
    GONE = ("gone", "What a reader came back for was no longer kept, and it was told so: raise TRILANE_RETENTION_*.")
    NO_END = (
        "no end",
        "A stream stopped without saying how it ended: a proxy cuts it (nginx: raise proxy_read_timeout above 20 s), "
        "or a process died.",
    )
    BUFFERED = ("buffered", "Something between client and gateway buffers: turn it off (nginx: proxy_buffering off).")
    NO_PING = ("no ping", "A silent stream brought no ping in time: something between drops comment lines or stalls.")
    NO_RESUME = (
        "no resume",
        "A reader that came back did not go on where it was: let Last-Event-ID and the query pass through the proxy, "
        "and give all processes the same TRILANE_LOG.",
    )
    REFUSED = (
        "refused",
        "The gateway is full (429, 503 or `busy`): raise TRILANE_LIMIT_*, add processes, or ask for less.",
    )
    UNAUTHORIZED = ("unauthorized", "The gateway does not let us in: set --token or --tokens-file, and see its grants.")
    UNREACHABLE = ("unreachable", "No answer: check --host, the proxy's upstream, and its certificate (--insecure).")
    STOP_IGNORED = ("stop ignored", "A stopped answer went on: let POST /api/chat/{id}/stop pass through the proxy.")
    SLOW_STOP = (
        "slow stop",
        "A stop took more than a second to reach its reader: the gateway or its log is overloaded.",
    )
    DOUBLE_EFFECT = (
        "double effect",
        "A tool was called twice, or though nobody had allowed it, or not at all: a fault of the gateway, or processes "
        "with different TRILANE_LOG.",
    )
    LOST_STEER = (
        "lost steer",
        "A message that was taken while an answer was written was lost, or answered twice, or although it was taken "
        "back: a fault of the gateway, or processes with different TRILANE_LOG.",
    )
    STUCK = (
        "stuck chat",
        "A chat in which something was asked and answered, or in which messages waited, did not go on: a fault of the "
        "gateway, or its tools are away.",
    )
    WORDS = ("words wrong", "Transcripts are worse than the bound: see TRILANE_WHISPER_MODEL and the machine's load.")
    ERROR = ("error", "A request or an answer failed, and nobody had asked for that: the first one says how.")

    def __init__(self, title: str, sentence: str) -> None:
        self.title = title
        self.sentence = sentence


class Finding(NamedTuple):
    """A fault, and what was seen of it, with its values."""

    fault: Fault
    detail: str
