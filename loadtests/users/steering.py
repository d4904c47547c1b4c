"""People who do not wait for an answer to end: they steer it, queue what they say next, take it back, or stop it."""

import secrets

from locust import User, between, task

from loadtests.users.access import options, origin_of
from loadtests.users.steered_chat import SteeredChat


class SteeringUser(User):
    """Has one chat after the other, on several devices."""

    wait_time = between(0.5, 2)

    def on_start(self) -> None:
        self.origin = origin_of(self.environment)

    def on_stop(self) -> None:
        self.origin.close()

    @task
    def talk_on(self) -> None:
        SteeredChat(
            self.environment, self.origin, f"steers-{secrets.token_hex(8)}", options(self.environment).model
        ).run()
