"""Tells what the place of a SQLite log keeps: its file system, and who may read the file there."""

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from events.log.port import StorageFact

MOUNTS = Path("/proc/self/mountinfo")
"""What is mounted where, on Linux."""
REMOTE = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|beegfs|gpfs|glusterfs|(fuse\.)(sshfs|s3fs|gluster|ceph|rclone|goofys)\S*"
)
"""File systems of other machines, over which processes share no memory and locks fail."""
PASSING = ("tmpfs", "ramfs")
OWN_LAYER = ("overlay", "aufs")
"""What a container writes in when nothing is mounted there."""


class Mount(NamedTuple):
    """A mounted file system."""

    place: str
    kind: str


def survey(path: str) -> list[StorageFact]:
    """Looks at the file of a log that was opened before, and at what it lies on."""
    file = Path(path).resolve()
    mounts = MOUNTS.read_text() if MOUNTS.exists() else ""
    return [_place(mount_of(file, mounts)), _rights(file.stat(), os.geteuid())]


def mount_of(path: Path, mounts: str) -> Mount | None:
    """Returns the file system of an absolute path by the text of MOUNTS; the last one mounted there hides others."""
    found = None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields.split()[4])
        if path.is_relative_to(place) and (found is None or len(place) >= len(found.place)):
            found = Mount(place, rest.split()[0])
    return found


def _place(mount: Mount | None) -> StorageFact:
    advice = "Name a file on a disk of this machine (TRILANE_LOG), or use Redis or PostgreSQL."
    if mount is None:
        return StorageFact("a file in WAL")
    if REMOTE.fullmatch(mount.kind):
        text = f"the file lies on another machine ({mount.kind} at {mount.place}): processes damage it"
        return StorageFact(text, advice, is_loss=True)
    if mount.kind in PASSING:
        return StorageFact(f"the file lies in memory ({mount.kind} at {mount.place}): it goes with the machine", advice)
    if mount.kind in OWN_LAYER:
        text = f"the file lies in the container itself ({mount.kind}): it goes with the container"
        return StorageFact(text, "Mount a volume there, or name a file on one (TRILANE_LOG).")
    return StorageFact(f"a file in WAL on {mount.kind} at {mount.place}: a loss of power takes the last second or two")


def _rights(facts: os.stat_result, user: int) -> StorageFact:
    if facts.st_uid != user:
        text = f"the file belongs to user {facts.st_uid}, and this is user {user}: the next start as another may fail"
        return StorageFact(text, "Run the doctor, and all that use the log, as the user of the gateway.")
    if stat.S_IMODE(facts.st_mode) & 0o077:
        text = f"others on this machine may read the file ({stat.S_IMODE(facts.st_mode):o})"
        return StorageFact(text, "Take their rights away: chmod 600.")
    return StorageFact("nobody but its user reads the file")
