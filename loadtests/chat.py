"""People who chat: `locust -f loadtests/chat.py --host https://gateway.example --headless -u 50 -r 10 -t 2m`."""

from loadtests.users.chat import ChatUser

__all__ = ["ChatUser"]
