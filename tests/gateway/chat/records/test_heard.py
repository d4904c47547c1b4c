"""A model is sent no more of an answer than was heard of it; the message itself keeps all of its text."""

import json

import pytest
from msgspec import UNSET, Raw

from gateway.chat.change import Posting, reconcile
from gateway.chat.history import History
from gateway.chat.records.chat_record import ReplySpoken, RunFinished, RunStarted
from gateway.chat.records.heard import as_heard, with_speech
from gateway.chat.records.messages import UIMessage, text_of, to_upstream
from gateway.core.usage import Usage

TEXT = "Paris is old. It lies on the Seine."


def answer(*texts: str, metadata: str | None = None) -> UIMessage:
    parts = [Raw(json.dumps({"type": "text", "text": text}).encode()) for text in texts]
    return UIMessage(
        id="a", role="assistant", parts=parts, metadata=UNSET if metadata is None else Raw(metadata.encode())
    )


def spoken(state: str, chars: int, message_id: str = "a") -> ReplySpoken:
    return ReplySpoken(run_id="r", message_id=message_id, session="s", state=state, chars=chars)


@pytest.mark.parametrize(
    ("texts", "chars", "expected"),
    [
        ([TEXT], 13, "Paris is old. —"),
        ([TEXT], 0, "—"),
        ([TEXT], len(TEXT), TEXT),
        (["One. ", "Two. ", "Three."], 9, "One. Two. —"),
        (["One.", "Two."], 4, "One.—"),
        (["日本語です。はい。"], 6, "日本語です。 —"),
        (["👍🏽 Good."], 2, "👍🏽 —"),
    ],
)
def test_an_interrupted_answer_ends_with_the_last_word_that_was_heard(
    texts: list[str], chars: int, expected: str
) -> None:
    message = with_speech(answer(*texts), spoken("interrupted", chars))
    assert text_of(as_heard(message)) == expected
    assert text_of(message) == "".join(texts)


@pytest.mark.parametrize("state", ["speaking", "paused", "spoken", "stopped", "unspoken", "text_only"])
def test_an_answer_that_was_not_interrupted_is_sent_whole(state: str) -> None:
    message = with_speech(answer(TEXT), spoken(state, 5))
    assert as_heard(message) is message


@pytest.mark.parametrize(
    "metadata", [None, "{}", '"speech"', '{"speech":5}', '{"speech":{"state":"interrupted","chars":"x"}}']
)
def test_what_an_application_calls_speech_changes_nothing(metadata: str | None) -> None:
    message = answer(TEXT, metadata=metadata)
    assert as_heard(message) is message


def test_what_it_has_done_with_tools_stays() -> None:
    tool = Raw(b'{"type":"tool-look","toolCallId":"c","state":"output-available","input":{},"output":1}')
    message = answer("Let me look that up.", "It is raining.")
    message.parts.insert(1, tool)
    heard = as_heard(with_speech(message, spoken("interrupted", 3)))
    assert heard.parts[1] is tool
    assert text_of(heard) == "Let —"


def test_metadata_of_others_is_kept() -> None:
    message = with_speech(answer(TEXT, metadata='{"model":"m"}'), spoken("spoken", 3))
    assert isinstance(message.metadata, Raw)
    assert json.loads(bytes(message.metadata)) == {
        "model": "m",
        "speech": {"session": "s", "state": "spoken", "chars": 3},
    }


def told(history: History, *states: ReplySpoken) -> History:
    for state in states:
        history._apply(state)
    return history


def asked() -> History:
    history = History(chat_id="c", by_id={})
    question = UIMessage(id="q", role="user", parts=[Raw(b'{"type":"text","text":"Where?"}')])
    history._apply(question)
    history._apply(RunStarted(run_id="r", message_id="a"))
    return history


def finished() -> RunFinished:
    return RunFinished(
        run_id="r", outcome="finish", usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2), message=answer(TEXT)
    )


@pytest.mark.parametrize("is_told_first", [True, False])
def test_the_next_prompt_has_what_was_heard_in_whichever_order_the_chat_is_told(is_told_first: bool) -> None:
    history = asked()
    if is_told_first:
        told(history, spoken("interrupted", 13))._apply(finished())
    else:
        history._apply(finished())
        told(history, spoken("interrupted", 13))
    follow_up = UIMessage(id="q2", role="user", parts=[Raw(b'{"type":"text","text":"And?"}')])
    change = reconcile(history, Posting([follow_up], is_excerpt=True))
    assert [turn["content"] for turn in to_upstream(change.conversation)] == ["Where?", "Paris is old. —", "And?"]
    assert text_of(history.by_id["a"]) == TEXT


def test_the_run_that_is_spoken_is_the_newest_that_is() -> None:
    history = asked()
    assert history.spoken_run == ""
    told(history, spoken("speaking", 0))
    assert history.spoken_run == "r"
    told(history, spoken("spoken", 9))
    assert history.spoken_run == ""
