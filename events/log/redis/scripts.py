"""Loads the Lua scripts that stand beside this file; each is run by its digest, and sent whole when a server lacks it.

A script is one atomic step for everybody, and what it changes goes to replicas and to the append-only file as one
transaction. So all decisions about appends are made in there, by copies of `events.log.rules`.
"""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

FOLDER = files("events.log.redis")
COMMON = FOLDER.joinpath("common.lua").read_text("utf-8")


class Script(NamedTuple):
    """A script's text, and the digest by which Redis knows it once it has run there."""

    text: str
    digest: str


def load_script(name: str) -> Script:
    """Returns the script of that name, which begins with what all of them share."""
    text = f"{COMMON}\n{FOLDER.joinpath(f'{name}.lua').read_text('utf-8')}"
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


APPEND = load_script("append")
"""Appends a group of calls."""
DELETE = load_script("delete")
"""Deletes one topic."""
ADOPT = load_script("adopt")
"""Writes blocks of a topic as another log has them."""
SWEEP = load_script("sweep")
"""Applies the retention to some topics."""
COMPARE = load_script("compare")
"""Compares what a process knows of topics with what is there."""
READ = load_script("read")
"""Reads a topic after an offset."""
COUNT = load_script("count")
"""Counts events by name."""
LIST = load_script("list")
"""Lists topics of one index."""
HOLDINGS = load_script("holdings")
"""Sums up the topics of one owner."""
TAKE = load_script("quotas")
"""Counts for limits."""
