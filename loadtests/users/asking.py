"""People whose chats ask them things, and who allow, refuse, stop or talk of something else.

They need a gateway with the tools of `loadtests.counting_server`, which `make load` starts; no other is asked.
"""

import secrets

from locust import User, between, task

from loadtests.users.access import origin_of
from loadtests.users.asked_chat import AskedChat


class AskingUser(User):
    """Has one chat after the other ask something."""

    wait_time = between(0.5, 2)

    def on_start(self) -> None:
        self.origin = origin_of(self.environment)

    def on_stop(self) -> None:
        self.origin.close()

    @task
    def be_asked(self) -> None:
        AskedChat(self.environment, self.origin, f"asks-{secrets.token_hex(8)}").run()
