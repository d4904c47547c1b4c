"""Is the `trilane` command, for tests that kill processes: it takes one for dead after seconds, not a quarter minute.

It starts what is due within a second, too, and has less patience with receivers of webhooks.

`python -m tests.support.hasty_gateway serve chat ...`
"""


def main() -> None:
    from events.log import quotas

    quotas.LIVE_S, quotas.HEARTBEAT_S = 3, 0.5  # before the engines have read them
    from gateway.chat import due, journal, silence, sweeper, topics
    from gateway.core import webhook

    journal.HEARTBEAT_S, silence.SILENCE_S = 0.3, 2.0
    topics.BUCKET_MS = due.BUCKET_MS = 500
    due.SWEEP_S = sweeper.SWEEP_S = sweeper.WRITERS_TURN_S = 0.2
    webhook.TIMEOUT_S = 1.0
    from gateway.cli import main as trilane

    trilane()


if __name__ == "__main__":
    main()
