"""The topics that the chat lane writes get their names here, as do the ids that those are made of. Pure.

A chat's id is its owner's own: two users may both have a chat `c1`. So its topic is named by owner and id together, in
a form that neither tells; the id itself stands in the topic's first event.
"""

import random
import re
from functools import lru_cache
from hashlib import sha256

from gateway.chat.records.chat_record import RunInfo
from gateway.errors import BadRequest

CHATS = "chat/"
RUNS = "run/"
LEFT_RUNS = "left/runs"
"""The topic of the ids of runs that are left to other processes, so that one of them begins at once."""
SCHEDULES = "schedule/"
DUE = "due/"
"""Prefix of the topics that say which schedules are due in one stretch of time, in the order of time."""
BUCKET_MS = 5000
"""Milliseconds of one topic of the index: what is due in them starts when they are over."""
MAX_ID = 128
DIGEST_CHARS = 40
_ID = re.compile(r"[A-Za-z0-9._:@~+=-]{1,128}", re.ASCII)


@lru_cache(maxsize=1024)  # a request needs it five times
def chat_topic(owner: str, chat_id: str) -> str:
    """Returns the topic of the chat that `owner` calls `chat_id`."""
    name = f"{owner}\0{chat_id}".encode("utf-8", "surrogatepass")  # no id has a NUL, so no two pairs are one name
    return CHATS + sha256(name).hexdigest()[:DIGEST_CHARS]


def topic_of(info: RunInfo) -> str:
    """Returns the topic of the chat that a run belongs to."""
    return info.topic or chat_topic(info.sub, info.chat_id)


def schedules_of(owner: str) -> str:
    """Returns the prefix of the topics that hold one user's schedules, each of them one."""
    return f"{SCHEDULES}{sha256(owner.encode('utf-8', 'surrogatepass')).hexdigest()[:DIGEST_CHARS]}/"


def due_topic(at_ms: int) -> str:
    """Returns the topic of the index for a time: names in order are times in order."""
    return f"{DUE}{at_ms // BUCKET_MS * BUCKET_MS:014d}"


def due_from_ms(topic: str) -> int:
    """Returns when everything of a topic of the index is due, in milliseconds since 1970."""
    return int(topic.removeprefix(DUE)) + BUCKET_MS


def run_topic(run_id: str) -> str:
    return RUNS + run_id


def run_id_of(topic: str) -> str:
    return topic.removeprefix(RUNS)


def new_run_id() -> str:
    """Returns a name that no other run has. It is no secret, so the kernel, which gives up the GIL, is not asked."""
    return f"{random.getrandbits(80):020x}"


def check_id(what: str, value: str) -> str:
    """Returns the id as it came; raises BadRequest when it could not be one."""
    if not _ID.fullmatch(value):
        shown = value[:40].encode("ascii", "backslashreplace").decode()
        raise BadRequest(f"{what} {shown!r} is not valid: 1 to {MAX_ID} of A-Z a-z 0-9 . _ : @ ~ + = -", code="bad_id")
    return value
