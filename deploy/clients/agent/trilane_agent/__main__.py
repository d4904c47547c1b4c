"""`python -m trilane_agent NAME=MODULE:FUNCTION --url https://gateway`: a worker that runs one agent.

The token stands in TRILANE_TOKEN. `--pipes` is for the gateway, which starts its own agents so.
"""

import argparse
import asyncio
import importlib
import os
import signal
import sys
from functools import reduce
from typing import Any

from trilane_agent.context import AgentFunction
from trilane_agent.http_wire import HttpWire
from trilane_agent.pipes import Pipes
from trilane_agent.worker import Worker


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trilane_agent", description=__doc__)
    parser.add_argument("agent", metavar="NAME=MODULE:FUNCTION")
    parser.add_argument("--url", help="the gateway's address; its token is read from TRILANE_TOKEN")
    parser.add_argument("--runs", type=int, default=100, help="answers at once (default: 100)")
    parser.add_argument("--pipes", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    name, _, place = given.agent.partition("=")
    if not name or ":" not in place or bool(given.url) == given.pipes:
        parser.error("want NAME=MODULE:FUNCTION and --url")
    try:
        asyncio.run(_work(name, place, given))
    except KeyboardInterrupt:
        pass
    finally:
        sys.stderr.flush()


async def _work(name: str, place: str, given: argparse.Namespace) -> None:
    wire = Pipes() if given.pipes else HttpWire(given.url, name, os.environ.get("TRILANE_TOKEN", ""))
    worker = Worker(_function(place), wire, given.runs)
    working = asyncio.ensure_future(worker.run())
    waits: set[asyncio.Future[Any]] = {working}
    if isinstance(wire, Pipes):
        waits.add(asyncio.ensure_future(wire.closed.wait()))
    else:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if working.done() and not working.cancelled():
        working.result()
    sys.stderr.flush()
    os._exit(0)  # nothing waits for threads that are within a request


def _function(place: str) -> AgentFunction:
    """Returns the function at `module:function`; modules are found in this folder, too."""
    module, _, path = place.partition(":")
    return reduce(getattr, path.split("."), importlib.import_module(module))  # pyright: ignore - whatever it names


if __name__ == "__main__":
    main()
