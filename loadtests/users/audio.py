"""People speak: each says a recording over `WS /api/audio` again and again, a session each time.

A share of the sessions (`--cut`) loses its connection once, somewhere in the middle, and comes back after a moment.
"""

import random
from argparse import ArgumentParser

from locust import User, constant, events, task
from locust.exception import StopUser

from loadtests.users.access import options, token_of
from loadtests.users.audio_speaker import Speaker
from loadtests.users.fault import Fault
from loadtests.users.speech import NoSpeech, speeches
from loadtests.users.verdict import fault


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--words-wrong",
        type=float,
        default=40.0,
        metavar="PERCENT",
        env_var="LOCUST_WORDS_WRONG",  # type: ignore[call-arg] - Locust's parser knows it
        help="a transcript with more wrong words than this is a fault (40)",
    )


class AudioUser(User):
    """Speaks again and again, a second of rest between; each time a session of its own."""

    wait_time = constant(1.0)

    def on_start(self) -> None:
        try:
            self.token = token_of(self.environment)
            self.speeches = speeches(options(self.environment).speech)
        except (NoSpeech, OSError) as err:
            fault(self.environment, Fault.ERROR, str(err))
            raise StopUser from err

    @task
    def speak(self) -> None:
        Speaker(self.environment, self.token, random.choice(self.speeches)).run()
