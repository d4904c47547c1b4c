"""All lanes at once: `locust -f loadtests/mixed.py --host https://gateway.example --headless -u 21 -r 5 -t 2m`.

Of twenty users fourteen chat and two are asked things, where `make load` has started the gateway (else sixteen chat);
three hold `--listeners` event streams each, and one speaks; one more publishes.
"""

import logging

from loadtests.users.asking import AskingUser
from loadtests.users.chat import ChatUser
from loadtests.users.events import EventsUser, PublisherUser

__all__ = ["AskingUser", "ChatUser", "EventsUser", "PublisherUser"]

ChatUser.weight, AskingUser.weight, EventsUser.weight = 14, 2, 3

try:
    from loadtests.users.audio import AudioUser
except ImportError as err:
    logging.warning("Nobody speaks: the audio users need the extra `audio` (pip install 'trilane[audio]'): %s", err)
else:
    AudioUser.weight = 1
    __all__ += ["AudioUser"]
