"""Words for the end of an answer, in the spellings of many servers."""

import pytest

from gateway.chat.upstreams.finish_reasons import finish_reason_of
from tests.support.completions import END, HELLO, Read, chunk, frames

WORDS = {
    "stop": "stop STOP Stop eos eos_token end_turn END_TURN stop_sequence endTurn finish_reason_stop <|im_end|>",
    "length": "length LENGTH max_tokens MAX_TOKENS maxTokens max-tokens model_length max_output_tokens token_limit "
    "FINISH_REASON_MAX_TOKENS model_context_window_exceeded",
    "content-filter": "content_filter content-filter CONTENT_FILTERED SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT "
    "SPII refusal guardrail_intervened sensitive",
    "tool-calls": "tool_calls tool-calls TOOL_CALLS toolCalls tool_use function_call FUNCTION_CALL tool_call",
    "error": "error ERROR abort aborted cancelled user_cancel MALFORMED_FUNCTION_CALL malformed-tool-call failed "
    "UNEXPECTED_TOOL_CALL insufficient_system_resource server_error network_error invalid_tool_call ERROR_TOXIC",
    "other": "bored repetition OTHER 停",
}
PAIRS = [(word, reason) for reason, words in WORDS.items() for word in words.split()]


@pytest.mark.parametrize(("word", "reason"), PAIRS)
def test_a_word_means_the_same_in_any_case_and_spelling(word: str, reason: str) -> None:
    assert finish_reason_of(word) == reason


@pytest.mark.parametrize("word", [None, "", " ", "null", "NULL", "None", "undefined", "FINISH_REASON_UNSPECIFIED"])
def test_some_words_say_that_there_was_no_end(word: str | None) -> None:
    assert finish_reason_of(word) is None
    assert Read(HELLO, frames(chunk(finish=word))).error.code == "upstream_cut"
    assert Read(HELLO, frames(chunk(finish=word)) + END).parser.finish_reason == "stop"


@pytest.mark.parametrize("word", ["error", "MALFORMED_FUNCTION_CALL", "network_error", "Aborted"])
def test_an_end_that_is_a_failure_fails_the_stream_after_its_last_text(word: str) -> None:
    read = Read(HELLO, frames(chunk({"content": "!"}, finish=word), b"[DONE]"))
    assert (read.text, read.parser.complete) == ("Hello!", False)
    assert (read.error.code, repr(word) in read.error.detail) == ("upstream_gave_up", True)


def test_a_failure_after_a_complete_answer_changes_nothing() -> None:
    assert Read(HELLO, frames(chunk(finish="stop"), chunk(finish="error"))).parser.error is None


def test_what_the_upstream_reports_wins_over_its_word_for_it() -> None:
    last = chunk(finish="error", error={"message": "slow down", "code": 429})
    assert Read(HELLO, frames(last)).error.status == 429
