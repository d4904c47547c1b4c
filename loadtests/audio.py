"""People who speak: `locust -f loadtests/audio.py --host https://gateway.example --headless -u 4 -r 1 -t 2m -s 20`.

Each user speaks a recording at the pace of speech, again and again; `--speech DIR` gives others than the repository's.
How many may speak at once is the gateway's to say: it refuses more than it keeps up with.
"""

from loadtests.users.audio import AudioUser

__all__ = ["AudioUser"]
