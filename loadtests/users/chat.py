"""A person chats: asks, reads the answer as it comes, and sometimes loses the connection, stops, or looks twice."""

import random
import secrets

from locust import User, between, task

from loadtests.users.access import blame, options, origin_of
from loadtests.users.bursts import Buffering, held_back
from loadtests.users.exchange import Exchange
from loadtests.users.fault import Fault
from loadtests.users.origin import Unreachable
from loadtests.users.pulse import LATE_S
from loadtests.users.question import Plan, Question
from loadtests.users.verdict import fault, late_since

TURNS = 5
"""Questions in a chat, after which it is deleted, so that a long test does not fill the log."""
SECOND_READER = 0.1
"""Share of answers that a second device reads too."""
TOKENS = range(40, 121)
INTERVAL_US = 20_000
FIRST_GUESS_BYTES = 8_000
STOPPED_TOKENS = 1000
"""Tokens of an answer that is to be stopped: 20 s, for it must not be over before."""


class ChatUser(User):
    """Thinks for a second or so between answers. The fake upstream does what the question says; a model answers it."""

    wait_time = between(0.5, 2)

    def on_start(self) -> None:
        self.origin = origin_of(self.environment)
        self.answer_bytes = FIRST_GUESS_BYTES
        self.chat_id = ""
        self.turn = 0

    def on_stop(self) -> None:
        self.origin.close()

    @task
    def ask(self) -> None:
        if not self.chat_id:
            self.chat_id, self.turn = f"load-{secrets.token_hex(8)}", 0
        self.turn += 1
        plan = self._plan()
        question = self._question(STOPPED_TOKENS if plan.stop_after else random.choice(TOKENS))
        exchange = Exchange(self.environment, self.origin, question, plan)
        exchange.run()
        if exchange.whole:
            self._judge(exchange)
        if self.turn == TURNS:
            self._delete()

    def _question(self, tokens: int) -> Question:
        text = f"T={tokens} I={INTERVAL_US} Count from 1 to {tokens} in words."
        return Question(
            self.chat_id, f"m{self.turn}-{secrets.token_hex(4)}", text, tokens, options(self.environment).model
        )

    def _plan(self) -> Plan:
        arguments = options(self.environment)
        early = random.randint(1, TOKENS.start // 2)
        if random.random() < arguments.stop:  # and not cut, so that what is measured is the stop
            return Plan(stop_after=early)
        second = early if random.random() < SECOND_READER else 0
        return Plan(arguments.cut, cut_within_bytes=self.answer_bytes, second_after=second)

    def _judge(self, exchange: Exchange) -> None:
        self.answer_bytes = exchange.received_bytes
        if late_since(self.environment, exchange.asked_s) > LATE_S:
            return
        tokens = exchange.answer.tokens
        if _buffering.judge(held_back(tokens, exchange.waited_s)):
            first, last = (tokens[at].arrived_s - exchange.asked_s for at in (0, -1))
            evidence = f"{len(tokens)} tokens came from {first:.2f} s to {last:.2f} s after the question, in bursts"
            fault(
                self.environment,
                Fault.BUFFERED,
                f"{evidence}, and so did {_buffering.held_count} of {_buffering.judged_count} answers",
            )

    def _delete(self) -> None:
        try:
            reply = self.origin.ask("DELETE", f"/api/chat/{self.chat_id}")
        except Unreachable as err:
            fault(self.environment, Fault.UNREACHABLE, str(err))
        else:
            if reply.status not in (200, 204, 404):
                blame(self.environment, "to delete a chat", reply)
        self.chat_id = ""


_buffering = Buffering()
