"""The place of a SQLite log is looked at: its file system, and who may read it."""

import os
import tempfile
from pathlib import Path

import pytest

from events.log.port import StorageFact
from events.log.sqlite import survey as survey_module
from events.log.sqlite.survey import Mount, mount_of, survey

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /dev/shm rw,nosuid,nodev shared:4 - tmpfs tmpfs rw
41 22 0:40 / /srv/with\\040space rw - nfs4 server:/export rw
42 22 254:1 / /srv rw - xfs /dev/vdb rw
43 42 0:41 / /srv/data rw - xfs /dev/vdc rw
44 43 0:42 / /srv/data rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/var/lib/trilane/trilane.db", Mount("/", "ext4")),
        ("/srv/trilane.db", Mount("/srv", "xfs")),
        ("/srvdata/trilane.db", Mount("/", "ext4")),
        ("/srv/with space/trilane.db", Mount("/srv/with space", "nfs4")),
        ("/srv/data/deep/trilane.db", Mount("/srv/data", "cifs")),
        ("/dev/shm/trilane.db", Mount("/dev/shm", "tmpfs")),
    ],
)
def test_the_file_system_of_a_path_is_the_innermost_that_was_mounted_last(path: str, mount: Mount) -> None:
    assert mount_of(Path(path), MOUNTS) == mount


def test_without_a_table_of_mounts_nothing_is_known() -> None:
    assert mount_of(Path("/a"), "") is None


def made(folder: Path, rights: int = 0o600) -> str:
    file = folder / "trilane.db"
    file.touch()
    file.chmod(rights)
    return str(file)


def flawed(facts: list[StorageFact]) -> list[StorageFact]:
    return [fact for fact in facts if fact.advice]


@pytest.mark.parametrize(
    ("kind", "fault", "advice", "is_loss"),
    [
        ("nfs4", "on another machine (nfs4 at /", "a disk of this machine", True),
        ("fuse.sshfs", "on another machine", "a disk of this machine", True),
        ("9p", "on another machine", "a disk of this machine", True),
        ("smb3", "on another machine", "a disk of this machine", True),
        ("tmpfs", "lies in memory", "a disk of this machine", False),
        ("overlay", "goes with the container", "Mount a volume", False),
    ],
)
def test_a_file_system_that_keeps_no_log_is_told(
    kind: str, fault: str, advice: str, is_loss: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 254:0 / / rw - {kind} none rw\n")
    monkeypatch.setattr(survey_module, "MOUNTS", table)
    (fact,) = flawed(survey(made(tmp_path)))
    assert fault in fact.text
    assert advice in fact.advice
    assert fact.is_loss is is_loss


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "apfs", "fuseblk"])
def test_a_disk_of_this_machine_is_well(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 254:0 / / rw - {kind} none rw\n")
    monkeypatch.setattr(survey_module, "MOUNTS", table)
    place, rights = survey(made(tmp_path))
    assert (place.advice, rights.advice) == ("", "")
    assert f"WAL on {kind} at /" in place.text


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no file system in memory")
def test_the_memory_of_this_machine_is_known_by_its_own_table() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert "lies in memory (tmpfs" in survey(made(Path(folder)))[0].text


@pytest.mark.parametrize("rights", [0o644, 0o640, 0o604])
def test_a_file_that_others_may_read_is_told(rights: int, tmp_path: Path) -> None:
    fact = survey(made(tmp_path, rights))[1]
    assert f"({rights:o})" in fact.text
    assert "chmod 600" in fact.advice


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_told(tmp_path: Path) -> None:
    path = made(tmp_path)
    os.chown(path, 65_534, 65_534)
    assert "belongs to user 65534, and this is user 0" in survey(path)[1].text
