"""All users of the load tests share the identity under which they ask, and how they read a refusal."""

from argparse import Namespace
from itertools import count
from pathlib import Path

import gevent
from locust.env import Environment

from loadtests.users.fault import Fault
from loadtests.users.origin import Origin, Reply
from loadtests.users.verdict import fault

PATIENCE_S = 5.0
"""Seconds that a refused user waits at most, whatever Retry-After says: it is here to try."""
_turn = count()


def options(environment: Environment) -> Namespace:
    """Returns the options of `loadtests.users.verdict.add_arguments`."""
    assert environment.parsed_options is not None
    return environment.parsed_options


def token_of(environment: Environment) -> str:
    """Returns the next of the tokens, empty where there are none: users of one process take them in turn."""
    arguments = options(environment)
    tokens = Path(arguments.tokens_file).read_text().split() if arguments.tokens_file else []
    return tokens[next(_turn) % len(tokens)] if tokens else arguments.token


def origin_of(environment: Environment) -> Origin:
    """Returns the gateway as one user asks it."""
    return Origin(environment.host or "", token_of(environment), options(environment).insecure)


def blame(environment: Environment, doing: str, reply: Reply) -> None:
    """Notes the fault behind a status that should have been 200, and waits as long as the gateway asks for."""
    kinds = {401: Fault.UNAUTHORIZED, 403: Fault.UNAUTHORIZED, 429: Fault.REFUSED, 503: Fault.REFUSED}
    fault(environment, kinds.get(reply.status, Fault.ERROR), f"{doing}: {reply.status} {_reason_in(reply)}")
    gevent.sleep(min(PATIENCE_S, max(1.0, reply.retry_after_s)))


def _reason_in(reply: Reply) -> str:
    """Returns the heart of a problem document, or the beginning of whatever else came."""
    try:
        problem = reply.json()
        return f"{problem['code']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return repr(reply.body[:200])
