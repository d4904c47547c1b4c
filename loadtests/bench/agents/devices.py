"""Devices answer the same asks at random, by any process, in both ways; a judgement says whether one answer counted."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import httpx2

from loadtests.bench.agents.gateways import chat_of, client, kinds_of, responded

POSTING = 4
"""One device of so many posts its answers with the message, as AI SDK clients do."""


class Told(NamedTuple):
    """What a device said of an ask, and what it was told."""

    text: str
    """The input of the call, which no other has."""
    said: bool
    status: int
    is_first: bool
    approved: bool | None
    """What is so, as the device was told; None when it was told nothing of that."""


class AnsweringDevice:
    """Answers all asks of `chats`, which are the asks of each chat by its id, in an order of its own."""

    def __init__(self, number: int, urls: Sequence[str], chats: Mapping[str, list[dict[str, Any]]], seed: int) -> None:
        self._random = random.Random(seed + number)
        self._is_posting = number % POSTING == 0
        self._urls = urls
        self._shown = {chat_id: chat_of(urls[0], chat_id)["messages"][-1] for chat_id in chats if self._is_posting}
        self._asks = [(chat_id, ask) for chat_id, asks in chats.items() for ask in asks]
        self._random.shuffle(self._asks)

    def answer_all(self) -> list[Told]:
        answer = self._post if self._is_posting else self._answer
        with client() as http:
            return [answer(http, chat_id, ask) for chat_id, ask in self._asks]

    def _answer(self, http: httpx2.Client, chat_id: str, ask: dict[str, Any]) -> Told:
        said, url = self._random.random() < 0.5, self._random.choice(self._urls)
        reply = http.post(f"{url}/api/chat/{chat_id}/approvals/{ask['approvalId']}", json={"approved": said})
        told = reply.json()
        is_first = reply.status_code == 200 and not told["duplicate"]
        return Told(ask["input"]["text"], said, reply.status_code, is_first, told.get("approved"))

    def _post(self, http: httpx2.Client, chat_id: str, ask: dict[str, Any]) -> Told:
        """Posts the answer with all that this device has said of its message before."""
        said, url = self._random.random() < 0.5, self._random.choice(self._urls)
        message = self._shown[chat_id] = responded(self._shown[chat_id], ask, approved=said)
        reply = http.post(f"{url}/api/chat", json={"id": chat_id, "message": message})
        kinds = kinds_of(reply.text.splitlines(), ask["toolCallId"])
        approved = True if "tool-output-available" in kinds else False if "tool-output-denied" in kinds else None
        return Told(ask["input"]["text"], said, reply.status_code, False, approved)


class Judgement(NamedTuple):
    """What became of asks that many devices answered."""

    decisions: int
    executions: int
    """Calls that were made."""
    wrong: int
    """Calls that were made twice, or though they were refused, or not though they were allowed."""
    misled: int
    """Answers after which a device was told what is not so."""


def judged(told: Sequence[Told], decided: Mapping[str, bool], calls: Sequence[str]) -> Judgement:
    """Judges by what was `decided` of each call, by its text, and by the `calls` that were made."""
    made = Counter(call for call in calls if call in decided)
    wrong = sum(made[text] != is_allowed for text, is_allowed in decided.items())
    firsts = Counter(one.text for one in told if one.is_first)
    misled = [one for one in told if not _is_true(one, decided[one.text])]
    return Judgement(
        decisions=len(decided),
        executions=made.total(),
        wrong=wrong,
        misled=len(misled) + sum(count > 1 for count in firsts.values()),
    )


def _is_true(told: Told, is_allowed: bool) -> bool:
    if told.status != 200 and (told.status != 409 or told.said == is_allowed):
        return False
    return (told.approved in (None, is_allowed)) and (not told.is_first or told.said == is_allowed)
