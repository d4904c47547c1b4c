"""All lanes at once: `locust -f loadtests/mixed.py --host https://gateway.example --headless -u 21 -r 5 -t 2m`.

Of twenty users twelve chat, two talk on while they are answered, and two are asked things, where `make load` has
started the gateway (else none is); three hold `--listeners` event streams each, and one speaks; one more publishes.
"""

import logging

from loadtests.users.asking import AskingUser
from loadtests.users.chat import ChatUser
from loadtests.users.events import EventsUser, PublisherUser
from loadtests.users.steering import SteeringUser

__all__ = ["AskingUser", "ChatUser", "EventsUser", "PublisherUser", "SteeringUser"]

ChatUser.weight, SteeringUser.weight, AskingUser.weight, EventsUser.weight = 12, 2, 2, 3

try:
    from loadtests.users.audio import AudioUser
except ImportError as err:
    logging.warning("Nobody speaks: the audio users need the extra `audio` (pip install 'trilane[audio]'): %s", err)
else:
    AudioUser.weight = 1
    __all__ += ["AudioUser"]
