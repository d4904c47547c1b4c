"""The grammar of topics: names that people publish to and follow, patterns of them, and names of events. Pure.

This is the one place that says whose a topic is by its name. A topic of the events lane lives in the log under
`event/`, so no published name can reach a chat, a run or a usage book.
"""

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

from gateway.errors import BadRequest

MAX_NAME = 128
MAX_TOPICS = 64
STORED = "event/"
"""Prefix that a topic of the events lane has in the log."""
PRESENCE = "presence/"
"""Prefix of topics that list who follows the topic named after it; the gateway alone writes them."""
RESERVED = frozenset({"hello", "gap", "drain", "busy", "auth", "bye"})
"""Names of events that only the gateway sends."""
_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}", re.ASCII)
_EVENT = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9._/-]")
_LONGEST_USER = 110


def user_topic(sub: str) -> str:
    """The topic of everything that happens to one user.

    A character that cannot stand in a name is written as `:` and its code, byte by byte. A very long name is replaced
    by its digest after two `:`, with which no other can begin.
    """
    safe = _UNSAFE.sub(lambda match: "".join(f":{byte:02x}" for byte in match[0].encode("utf-8", "replace")), sub)
    return f"user/{safe}" if len(safe) <= _LONGEST_USER else f"user/::{sha256(safe.encode()).hexdigest()}"


def stored(topic: str) -> str:
    """The name that a topic of the events lane has in the log."""
    return STORED + topic


def check_topic(name: str) -> str:
    """The name as it came; BadRequest when it could not be one."""
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"the topic {_shown(name)} is not valid: 1 to {MAX_NAME} of A-Z a-z 0-9 . _ : / -", code="bad_topic"
        )
    return name


def check_subscription(names: Sequence[str]) -> tuple[str, ...]:
    """The topics and patterns of one stream, sorted, each once. Raises BadRequest."""
    topics = sorted(set(names))
    if len(topics) > MAX_TOPICS:
        raise BadRequest(f"{len(topics)} topics: one stream follows at most {MAX_TOPICS}", code="too_many_topics")
    for name in topics:
        if is_pattern(name):
            if name != "*":
                check_topic(name[:-1])
        else:
            check_topic(name)
    return tuple(topics)


def is_pattern(name: str) -> bool:
    """Whether a name is `*` or ends in a segment `*`: it stands for every topic that begins with what is before it."""
    return name == "*" or name.endswith("/*")


def check_event(name: str) -> str:
    """The name of an event as it came; BadRequest when it could not be one, or is reserved."""
    if not _EVENT.fullmatch(name):
        raise BadRequest(f"the event {_shown(name)} is not valid: 1 to 64 of A-Z a-z 0-9 . _ : -", code="bad_event")
    if name in RESERVED:
        raise BadRequest(f"the event {name!r} is said by the gateway alone: choose another name", code="reserved_event")
    return name


def covers(patterns: Iterable[str], topic: str) -> bool:
    """Whether one of the patterns stands for `topic`, or for every topic that `topic`, itself a pattern, stands for."""
    return any(pattern == topic or _stands_for(pattern, topic) for pattern in patterns)


def _stands_for(pattern: str, topic: str) -> bool:
    return pattern.endswith("*") and topic.startswith(pattern[:-1])


def _shown(text: str) -> str:
    return repr(text[:40].encode("ascii", "backslashreplace").decode())
