"""`trilane forget` and `trilane export` as an operator calls them: what they write, what they ask, how they end."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from events.log.port import Append, EventLog
from events.log.sealed.engine import SealedLog
from events.log.sqlite.engine import SqliteLog
from events.log.topics import stored, user_topic
from gateway.chat.records.chat_record import ChatCreated, MessagesDeleted, encode_event
from gateway.chat.topics import chat_topic
from gateway.cli import main
from gateway.core.usage import reserved
from gateway.settings import load
from tests.contract.engines import keep_all, put
from tests.support.chats import answer, user

CANARIES = ["typed-1b", "answered-2c", "removed-3d", "spoken-4e", "noticed-5f", "running-6a", "upload-7b"]
NAME = "alice/../*"


async def live(log: EventLog, sub: str) -> None:
    """Leaves something of each kind that a user leaves, each with a canary."""
    messages = [user("m1", "typed-1b"), answer("a1", "answered-2c"), user("m2", "removed-3d")]
    for name, data in map(encode_event, [ChatCreated(id="c1"), *messages, MessagesDeleted(["m2"])]):
        await put(log, chat_topic(sub, "c1"), data, name=name, owner=sub)
    await put(log, stored("audio/s"), b'"spoken-4e"', owner=sub, name="transcript-final")
    await put(log, stored(user_topic(sub)), b'"noticed-5f"')
    await put(log, "run/r1", b'"running-6a"', owner=sub)
    await put(log, "upload/1", b'"upload-7b"', owner=sub)
    await log.append(reserved(sub, "r1"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder of a gateway whose log has two users."""
    monkeypatch.setenv("TRILANE_DATA_DIR", str(tmp_path))

    async def fill() -> None:
        log = SqliteLog(tmp_path / "trilane.db", keep_all)
        await log.open()
        await live(log, NAME)
        await log.append(Append(topic="chat/other", data=[b'"of bob"'], owner="bob"))
        await log.append(Append(topic="event/team/a", data=[b'"of nobody"']))
        await log.close()

    asyncio.run(fill())
    return tmp_path


def trilane(*args: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, args, input=answer)


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def on_disk(folder: Path) -> str:
    return b"".join(path.read_bytes() for path in folder.iterdir()).decode("latin-1")


def test_an_export_has_everything_that_a_user_typed_said_or_was_told(folder: Path) -> None:
    result = trilane("export", NAME)
    assert result.exit_code == 0, result.output
    first, *lines = lines_of(result)
    assert (first["type"], first["sub"], first["topics"]) == ("export", NAME, 6)
    assert [canary for canary in CANARIES if canary not in result.stdout] == []
    assert "of bob" not in result.stdout
    (chat,) = [line for line in lines if line["type"] == "chat"]
    assert (chat["id"], [message["id"] for message in chat["messages"]]) == ("c1", ["m1", "a1"])
    assert {line["topic"] for line in lines if line["type"] == "event"} == {
        *(chat_topic(NAME, "c1"), stored("audio/s"), stored(user_topic(NAME)), "run/r1", "upload/1", f"usage/{NAME}")
    }
    assert f"{len(lines)} lines" in result.stderr


def test_an_export_goes_to_a_file_and_nothing_of_a_stranger_is_there(folder: Path) -> None:
    target = folder / "alice.jsonl"
    assert trilane("export", NAME, "--to", str(target)).exit_code == 0
    assert "typed-1b" in target.read_text()
    result = trilane("export", "nobody")
    assert result.exit_code == 1
    assert "nothing of the user 'nobody'" in result.output


def test_a_user_is_forgotten_down_to_the_bytes_of_the_file(folder: Path) -> None:
    assert [canary for canary in CANARIES if canary not in on_disk(folder)] == []
    result = trilane("forget", NAME, "--yes")
    assert result.exit_code == 0, result.output
    assert "1 chats, 1 runs (1 were stopped), 1 audio sessions, 2 topics of their own" in result.output
    assert "has no owner" in result.output
    assert [canary for canary in CANARIES if canary in on_disk(folder)] == []
    assert "of bob" in on_disk(folder)
    assert "of nobody" in on_disk(folder)
    assert trilane("export", NAME).exit_code == 1
    again = trilane("forget", NAME, "--yes")
    assert (again.exit_code, "0 chats, 0 runs, 0 audio sessions" in again.output) == (0, True)


def test_the_keys_of_a_user_are_revoked_and_those_of_others_stay(folder: Path) -> None:
    for sub in (NAME, NAME, "bob"):
        assert trilane("keys", "add", "--sub", sub).exit_code == 0
    result = trilane("forget", NAME, "--yes")
    assert "2 API keys are revoked" in result.output
    statuses = lines_of(trilane("keys", "list", "--json"))
    assert [(status["sub"], status["revoked_at"] is None) for status in statuses] == [
        (NAME, False),
        (NAME, False),
        ("bob", True),
    ]


def test_nobody_is_forgotten_without_a_yes(folder: Path) -> None:
    for args in (("forget", NAME), ("forget", "")):
        assert trilane(*args, answer="n\n").exit_code == 1
    assert trilane("forget", "", "--yes").exit_code == 0
    assert "of nobody" in on_disk(folder)
    assert "Deleted of '': 0 chats, 0 runs, 0 audio sessions, 0 topics" in trilane("forget", "", "--yes").output
    stored = trilane("export", NAME).output
    assert [canary for canary in CANARIES if canary not in stored] == []


def test_an_encrypted_log_is_exported_with_its_key_and_refused_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILANE_DATA_DIR", str(tmp_path))
    text = "k1:" + "AAEC" * 10 + "AAE="
    monkeypatch.setenv("TRILANE_ENCRYPTION_KEY", text)

    async def fill() -> None:
        log = SealedLog(SqliteLog(tmp_path / "trilane.db", keep_all), load().encryption_key)
        await log.open()
        await live(log, "alice")
        await log.close()

    asyncio.run(fill())
    assert [canary for canary in CANARIES if canary in on_disk(tmp_path)] == []
    result = trilane("export", "alice")
    assert [canary for canary in CANARIES if canary not in result.stdout] == []
    monkeypatch.delenv("TRILANE_ENCRYPTION_KEY")
    for args in (("export", "alice"), ("forget", "alice", "--yes"), ("tail", "x"), ("publish", "x", "1")):
        refusal = trilane(*args)
        assert refusal.exit_code == 1
        assert "encrypted with the key 'k1'" in refusal.output
