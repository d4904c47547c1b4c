"""Agents for tests of workers, run by the package that users import in processes of their own: it knows nothing of us.

What they do leaves a line in the file that NOTES names; a call that must wait does until there is a file of its name.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from trilane_agent import Context

NOTES = Path(os.environ["NOTES"])


def note(text: str) -> None:
    with NOTES.open("a") as notes:
        notes.write(f"{text}\n")


async def pay(key: str) -> str:
    """Has its effect, and then does not return until it may."""
    note(f"pay {key} {os.getpid()}")
    await asyncio.to_thread(_until_it_may)
    return "paid"


def _until_it_may() -> None:
    while not NOTES.with_name("go").exists():
        time.sleep(0.05)


async def pays_again(ctx: Context) -> AsyncIterator[str]:
    """Pays with an idempotent step, after an approval where its user wants one."""
    print("this goes to stderr, and disturbs nothing")
    yield "One moment. "
    await ctx.step("look", lambda key: note(f"look {key}"), effect="read")
    if "ask" not in ctx.text or await ctx.approve("pay", {"amount": 30}):
        yield str(await ctx.step("pay", pay, effect="idempotent"))


async def pays_once(ctx: Context) -> AsyncIterator[str]:
    yield "One moment. "
    yield str(await ctx.step("pay", pay, effect="once"))


async def tells(ctx: Context) -> AsyncIterator[str]:
    """Tells what it was given, and what it can see of the gateway."""
    names = [name for name in ("gateway", "msgspec", "litestar") if name in sys.modules]
    secrets = [name for name in os.environ if name.startswith(("TRILANE_", "OPENAI_"))]
    yield f"{ctx.user.sub}: {ctx.text}; imported {names}, sees {secrets}"


async def counts(ctx: Context) -> AsyncIterator[str]:
    """Has one step, and then many words, one after the other."""
    await ctx.step("look", lambda key: note(f"look {key}"), effect="read")
    for number in range(60):
        yield f"word{number} "
        await asyncio.sleep(0.01)


async def heeds(ctx: Context) -> AsyncIterator[str]:
    """Says what it was sent meanwhile, until that is `stop`."""
    yield "A "
    note(f"heeds {os.getpid()}")
    text = ""
    while text != "stop":
        for message in ctx.steers():
            text = message["parts"][0]["text"]
            await ctx.step(f"saw-{text}", lambda key, text=text: note(f"saw {text}"), effect="read")
            yield f"{text}. "
        await asyncio.sleep(0.02)


async def crashes(ctx: Context) -> AsyncIterator[str]:
    yield "a"
    await asyncio.sleep(0.1)
    os._exit(3)


async def hangs(ctx: Context) -> AsyncIterator[str]:
    yield "a"
    try:
        note("hangs")
        await asyncio.sleep(600)
    finally:
        note(f"stopped {time.monotonic()}")
