"""A client sends a chat its messages, and the fields that are its application's own."""

import msgspec
import pytest
from msgspec import Raw

from gateway.chat.submission import MAX_EXTRA, SendRequest, extra_fields
from gateway.errors import BadRequest

MESSAGE = b'{"id":"u1","role":"user","parts":[]}'


def request(fields: bytes) -> SendRequest:
    return msgspec.json.decode(b'{"id":"c",%b}' % fields, type=SendRequest)


def test_one_message_or_a_list_of_them_is_posted() -> None:
    one, several = request(b'"message":%b' % MESSAGE).posting(), request(b'"messages":[%b]' % MESSAGE).posting()
    assert [message.id for message in one.messages] == [message.id for message in several.messages] == ["u1"]
    assert (one.is_excerpt, several.is_excerpt) == (True, False)


@pytest.mark.parametrize("fields", [b'"model":"m"', b'"message":%b,"messages":[]' % MESSAGE])
def test_a_request_has_either_a_message_or_messages(fields: bytes) -> None:
    with pytest.raises(BadRequest, match="either"):
        request(fields).posting()


def test_a_message_needs_an_id_that_can_be_one() -> None:
    with pytest.raises(BadRequest, match="message id"):
        request(b'"message":%b' % MESSAGE.replace(b"u1", b"a b")).posting()


def test_null_is_a_field_that_is_not_there() -> None:
    names = ("messages", "trigger", "messageId", "model", "onDisconnect", "truncate", "system", "tools", "toolChoice")
    nulls = b",".join(b'"%b":null' % name.encode() for name in names)
    assert request(b'"message":%b,%b' % (MESSAGE, nulls)).posting() == request(b'"message":%b' % MESSAGE).posting()


def test_a_client_that_truncates_posts_what_it_keeps() -> None:
    assert request(b'"messages":[%b],"truncate":true' % MESSAGE).posting().truncates
    with pytest.raises(BadRequest, match="needs `messages`"):
        request(b'"message":%b,"truncate":true' % MESSAGE).posting()


def test_fields_that_are_not_ours_are_extra() -> None:
    body = {name: Raw(b"1") for name in ("id", "messages", "trigger", "tools", "system", "topP", "truncate", "mood")}
    assert list(extra_fields(body)) == ["mood"]


def test_too_many_extra_fields_are_refused() -> None:
    extra_fields({f"x{number}": Raw(b"1") for number in range(MAX_EXTRA)})
    with pytest.raises(BadRequest, match="65 extra fields"):
        extra_fields({f"x{number}": Raw(b"1") for number in range(MAX_EXTRA + 1)})
