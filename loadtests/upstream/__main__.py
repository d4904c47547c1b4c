"""`python -m loadtests.upstream [--host H] [--port P] [--default BEHAVIOUR] [--list]`."""

import argparse
import asyncio
import contextlib

from loadtests.upstream import TABLE, FakeUpstream


async def _serve(host: str, port: int, default: str | None) -> None:
    async with FakeUpstream(host, port, default) as up:
        print(f"fake upstream on {up.url}", flush=True)
        await up.serve_forever()


def main() -> None:
    """Serves until interrupted."""
    parser = argparse.ArgumentParser(prog="loadtests.upstream", description="A fake OpenAI-compatible upstream.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--default", choices=TABLE, help="what a model with an unknown name does (404 without)")
    parser.add_argument("--list", action="store_true", help="print the behaviours and end")
    args = parser.parse_args()
    if args.list:
        for name, row in TABLE.items():
            print(f"{name:20} {row.does}")
        return
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(args.host, args.port, args.default))


if __name__ == "__main__":
    main()
