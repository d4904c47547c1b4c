"""The usage of a run that another process ended is what the log tells of it, as its own process would have counted."""

import asyncio

import pytest

from events.log.memory import MemoryLog
from gateway.chat.abandoned import end_run
from gateway.chat.ending import Failed
from gateway.chat.journal import Journal
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.recorder import Recorder
from gateway.core.usage import SETTLED, UsageRow, decode_row, usage_topic
from gateway.errors import TrilaneError

INFO = RunInfo(run_id="r", sub="me", message_id="a", model="asked", prompt_bytes=41)
GONE = Failed(TrilaneError("the process that wrote this answer is gone", code="interrupted", retryable=True))


async def row_of(*written: list[bytes], recorder: Recorder) -> UsageRow:
    """Returns the usage row of a run whose process died after `written`."""
    log = MemoryLog()
    await log.open()
    journal = Journal(INFO, log, lambda failure: None)
    await log.append(*journal.opening(recorder.start(INFO.message_id)))
    for records in written:
        journal.write(records)
    assert await end_run(log, "r", GONE)
    assert not await end_run(log, "r", GONE)
    part = await log.read(usage_topic("me"), 0)
    (row,) = [decode_row(data, 0) for block in part.blocks if block.name == SETTLED for data in block.data]
    return row


def words(recorder: Recorder, *texts: str) -> list[bytes]:
    out: list[bytes] = []
    for text in texts:
        recorder.text("text", text, out)
    return out


def test_an_answer_that_had_begun_counts_its_prompt_and_its_deltas_and_names_who_answered() -> None:
    recorder = Recorder()
    facts: dict[str, object] = {"providerMetadata": {"first": {"system_fingerprint": "fp"}}}
    written = recorder.speaker("answers", facts), words(recorder, "one", " two"), words(recorder, " three")
    row = asyncio.run(row_of(*written, recorder=recorder))
    assert (row.outcome, row.estimated, row.model, row.upstream) == ("interrupted", True, "answers", "first")
    assert row.quantities == {"inputTokens": 11, "outputTokens": 3}


def test_each_step_in_which_a_model_began_to_answer_counts_the_prompt_and_the_last_one_is_named() -> None:
    recorder = Recorder()
    first = [*recorder.speaker("small"), *words(recorder, "one"), *recorder.next_step()]
    written = first, recorder.speaker("large"), words(recorder, " two")
    row = asyncio.run(row_of(*written, recorder=recorder))
    assert (row.model, row.quantities) == ("large", {"inputTokens": 22, "outputTokens": 2})


def test_an_answer_of_whose_server_no_more_is_known_than_its_model_names_that() -> None:
    recorder = Recorder()
    row = asyncio.run(row_of(recorder.speaker("answers"), words(recorder, "one"), recorder=recorder))
    assert (row.model, row.upstream) == ("answers", "")


def test_a_prompt_that_nobody_had_begun_to_answer_counts_nothing() -> None:
    row = asyncio.run(row_of(recorder=Recorder()))
    assert (row.outcome, row.model, row.upstream) == ("interrupted", "asked", "")
    assert row.quantities == {"inputTokens": 0, "outputTokens": 0}


@pytest.mark.parametrize("told", [["one"], ["one", " two"]])
def test_an_answer_whose_records_name_nobody_counts_its_prompt_all_the_same(told: list[str]) -> None:
    recorder = Recorder()
    row = asyncio.run(row_of(words(recorder, *told), recorder=recorder))
    assert (row.model, row.quantities) == ("asked", {"inputTokens": 11, "outputTokens": len(told)})
