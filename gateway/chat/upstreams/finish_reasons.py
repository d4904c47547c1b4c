"""The words with which upstreams say why an answer ended, in any case and spelling, are mapped to our own. Pure."""

import re

from gateway.chat.records.record import FinishReason

_WORDS: dict[FinishReason, str] = {
    "stop": "stop stopped stop_sequence stop_token stop_str stop_word eos eos_token eos_token_id end end_turn "
    "end_of_turn end_of_text end_of_sequence end_of_sentence im_end eot eot_id complete completed done finish finished "
    "normal success ok pause_turn",
    "length": "length max_length max_tokens max_tokens_reached max_output_tokens max_completion_tokens "
    "max_new_tokens max_token token_limit token_limit_reached token_limit_exceeded length_limit length_capped "
    "model_length context_length context_length_exceeded context_window_exceeded model_context_window_exceeded "
    "max_context_length truncated truncate incomplete out_of_tokens",
    "content-filter": "content_filter content_filtered contentfilter content_policy content_policy_violation "
    "filter filtered safety image_safety image_prohibited_content image_recitation recitation blocklist blocked "
    "prohibited_content spii sensitive refusal guardrail guardrails guardrail_intervened guardrail_blocked "
    "moderation moderated policy_violation risk_control language",
    "tool-calls": "tool_calls tool_call toolcalls tool_use tooluse tools tool function_call function_calls function "
    "functioncall",
    "error": "error malformed_response unexpected_tool_call too_many_tool_calls missing_thought_signature no_image "
    "insufficient_system_resource insufficient_system_resources timeout timed_out overloaded interrupted preempted "
    "server_busy unavailable exception killed",
}
_REASONS: dict[str, FinishReason] = {word: reason for reason, words in _WORDS.items() for word in words.split()}
_NO_WORD = {"", "null", "none", "nil", "undefined", "nan", "unspecified", "not_finished", "in_progress", "unfinished"}
_FAILURES = ("error", "malformed", "abort", "cancel", "fail", "invalid")
"""Parts of words that are no answer's end, in whatever they stand."""


def finish_reason_of(word: str | None) -> FinishReason | None:
    """Returns what an upstream's word for the end of an answer means; None when it says that there was no end.

    A word that nobody knows is `other`.
    """
    if word is None:
        return None
    if reason := _REASONS.get(word):
        return reason
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word)
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    name = name.removeprefix("finish_reason_").removeprefix("finishreason_").removeprefix("stop_reason_")
    if name in _NO_WORD:
        return None if name or not word.strip() else "other"
    if reason := _REASONS.get(name):
        return reason
    return "error" if any(part in name for part in _FAILURES) else "other"
