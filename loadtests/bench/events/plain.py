"""The events unit runs under uvicorn as it comes: with its own HTTP protocol, so that every stream is an ASGI task.

python -m loadtests.bench.events.plain PORT
"""

import sys

from gateway.serving.server import Server, server_config
from gateway.settings import load
from gateway.units import UNITS


def main() -> None:
    """Serves until a signal ends it."""
    settings = load()
    unit = UNITS["events"](settings)
    uvicorn_config = server_config(unit, settings, "127.0.0.1", int(sys.argv[1]))
    uvicorn_config.http = "httptools"
    Server(uvicorn_config, unit, settings).run()


if __name__ == "__main__":
    main()
