"""How soon a worker's first token is there, that has come to the process of the run, or to another one."""

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from loadtests.bench.agents.gateways import asking, body_of, client, first_token_ms
from loadtests.bench.harness.processes import CLIENT_CORE, ROOT, NotStarted, on_core, process
from loadtests.bench.harness.records import Record

if TYPE_CHECKING:
    from trilane_agent import Context

NEAR, FAR = "near", "far"
"""Names of the agents: the worker of the first comes to the process that is asked, that of the second to another."""
WORKERS = "".join(f'[[upstream]]\nname = "{name}"\nkind = "worker"\nfirst_token_s = 60\n' for name in (NEAR, FAR))
PACKAGE = ROOT / "deploy" / "clients" / "agent"
COMES_S = 60.0


async def one_word(ctx: "Context") -> AsyncIterator[str]:
    """Answers at once."""
    yield "word"


def measure(port: int, answers: int, settings: dict[str, str]) -> Record:
    """Times the first token after a question to the fake model, and to each worker, in turns."""
    times: dict[str, list[float]] = {}
    with asking(port, 2, settings, WORKERS) as there, _workers(there.urls), client() as http:
        for name in (NEAR, FAR):
            _await_worker(http, there.urls[0], name)
        for number in range(answers):
            for name in ("question", NEAR, FAR):
                took_ms = first_token_ms(http, "POST", f"{there.urls[0]}/api/chat", json=_body(name, number))
                times.setdefault(name, []).append(took_ms)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        **{name: {"p50_ms": median} for name, median in medians.items()},
        "more_ms": {name: median - medians["question"] for name, median in medians.items()},
    }


def _body(name: str, number: int) -> dict[str, Any]:
    body = body_of(f"{name}-{number}", f"{name}-{number} T=1 I=0")
    return body if name == "question" else body | {"model": name}


@contextlib.contextmanager
def _workers(urls: list[str]) -> Generator[None]:
    env = {"PYTHONPATH": f"{PACKAGE}:{ROOT}"}
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder, contextlib.ExitStack() as stack:
        for name, url in zip((NEAR, FAR), urls, strict=True):
            agent = f"{name}={__name__}:{one_word.__name__}"
            command = [sys.executable, "-m", "trilane_agent", agent, "--url", url]
            stack.enter_context(process(on_core(CLIENT_CORE, command), Path(folder), env))
        yield


def _await_worker(http: httpx2.Client, url: str, name: str) -> None:
    """Waits until a worker has answered. Raises NotStarted."""
    end, number = time.monotonic() + COMES_S, 0
    while time.monotonic() < end:
        with contextlib.suppress(NotStarted, httpx2.HTTPError):
            first_token_ms(http, "POST", f"{url}/api/chat", json=_body(name, -1 - number))
            return
        number += 1
        time.sleep(0.1)
    raise NotStarted(f"the worker {name!r} has not come within {COMES_S:g} s")
