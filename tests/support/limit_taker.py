"""A process that tries to get work admitted, many times at once, as it is told by lines of `<limit> <attempts>`.

It answers each line with the number of attempts that were admitted, and holds what it got until it is killed.
`release` gives everything back.
"""

import asyncio
import json
import os
import sys

from gateway.access.grants import Principal
from gateway.core.engines import make_log
from gateway.core.leases import Lease
from gateway.core.limits import Limiter
from gateway.core.telemetry import Metrics
from gateway.errors import Overloaded
from gateway.settings import load


async def admitted(limiter: Limiter, key: str, attempts: int) -> list[Lease]:
    async def attempt(number: int) -> Lease | None:
        try:
            return await limiter.admit(Principal(sub=f"u{number % 7}"), {key: 1})
        except Overloaded:
            return None

    leases = await asyncio.gather(*map(attempt, range(attempts)))
    return [lease for lease in leases if lease is not None]


async def main() -> None:
    settings = load({name: value for name, value in os.environ.items() if name.startswith("TRILANE_")})
    log = make_log(settings)
    await log.open()
    limiter = Limiter(settings, log, Metrics(), {})
    held: list[Lease] = []
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.startswith("release"):
            for lease in held:
                lease.end()
            await asyncio.sleep(0.3)
            print(json.dumps(len(held)), flush=True)
            held.clear()
            continue
        key, attempts = line.split()
        leases = await admitted(limiter, key, int(attempts))
        held += leases
        print(json.dumps(len(leases)), flush=True)
    await limiter.close()
    await log.close()


if __name__ == "__main__":
    asyncio.run(main())
