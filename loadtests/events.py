"""Followers of topics: `locust -f loadtests/events.py --host https://gateway.example --headless -u 21 -r 2 -t 2m`.

One user publishes, each other one holds `--listeners` streams. A token must be allowed to read and publish `load/*`.
"""

from loadtests.users.events import EventsUser, PublisherUser

__all__ = ["EventsUser", "PublisherUser"]
