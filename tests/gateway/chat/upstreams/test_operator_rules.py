"""An operator gives an upstream a system prompt, and says which options clients may set."""

from typing import Any

import pytest

from gateway.chat.records.provider_fields import SIGNED
from gateway.chat.upstreams.operator_rules import allowing, for_upstream, options_of
from gateway.errors import BadRequest
from gateway.upstream_settings import UpstreamSettings

HI = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "Be brief."}


def upstream(name: str = "one", url: str = "http://up/v1", **more: Any) -> UpstreamSettings:
    return UpstreamSettings(name=name, base_url=url, **more)


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        ([HI], [{"role": "system", "content": "Rules."}, HI]),
        ([SYSTEM, HI], [{"role": "system", "content": "Rules.\n\nBe brief."}, HI]),
        ([HI, SYSTEM], [{"role": "system", "content": "Rules."}, HI, SYSTEM]),
        ([], [{"role": "system", "content": "Rules."}]),
    ],
)
def test_the_operators_prompt_comes_first(messages: list[Any], sent: list[Any]) -> None:
    request = {"messages": messages, "seed": 1}
    assert for_upstream(request, upstream(system="Rules.")) == {"messages": sent, "seed": 1}
    assert for_upstream(request, upstream()) == request == {"messages": messages, "seed": 1}


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"tools": []}, {"tools"}),
        ({"temperature": 0, "top_p": None}, {"temperature"}),
        ({"max_completion_tokens": 5, "stop": "x"}, {"maxOutputTokens", "stopSequences"}),
        ({"messages": [HI, SYSTEM]}, {"system"}),
        ({"messages": [{"role": "developer", "content": "x"}]}, {"system"}),
        ({"messages": [HI]}, set()),
        ({"messages": "odd", "user": "me"}, set()),
    ],
)
def test_an_option_is_found_by_every_name_it_has(fields: dict[str, Any], options: set[str]) -> None:
    assert options_of(fields) == options


def test_an_upstream_that_does_not_allow_an_option_is_passed_over() -> None:
    strict, open_to_all = upstream("strict", client_options=["temperature"]), upstream("open")
    assert allowing([strict, open_to_all], {"messages": [HI], "temperature": 1}) == ["strict", "open"]
    assert allowing([strict, open_to_all], {"messages": [SYSTEM, HI]}) == ["open"]


def test_an_option_that_nobody_allows_is_refused_with_its_name() -> None:
    with pytest.raises(BadRequest, match="`seed` may not be set"):
        allowing([upstream(client_options=[]), upstream("two", client_options=["tools"])], {"seed": 1})
    assert allowing([], {"seed": 1}) == []


def test_openai_itself_is_sent_the_name_that_all_its_models_take() -> None:
    request = {"messages": [HI], "max_tokens": 5}
    sent = for_upstream(request, upstream(url="https://api.openai.com/v1"))
    assert sent == {"messages": [HI], "max_completion_tokens": 5}
    assert request == {"messages": [HI], "max_tokens": 5}
    assert for_upstream(request, upstream()) == request


def test_what_a_provider_added_goes_back_to_it_alone() -> None:
    signed = {"one": {"reasoning_details": [1], "content": "not this"}, "two": {"extra": 2}}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a", SIGNED: signed}]
    for name, fields in (("one", {"reasoning_details": [1]}), ("two", {"extra": 2}), ("three", {})):
        sent = for_upstream({"messages": messages}, upstream(name))["messages"]
        assert sent == [messages[0], {"role": "assistant", "content": "a"} | fields | {"content": "a"}]


@pytest.mark.parametrize("message", [7, "text", None, {SIGNED: 7}, {SIGNED: {"one": 7}}, [SIGNED]])
def test_messages_of_any_shape_are_the_upstreams_to_judge(message: Any) -> None:
    [sent, _] = for_upstream({"messages": [message, {SIGNED: {}}]}, upstream())["messages"]  # type: ignore[misc]
    assert sent == ({} if isinstance(message, dict) else message)
