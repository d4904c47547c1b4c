"""The embedded model's own process: loads the packaged weights and serves them on a free loopback port.

The only importer of `xllamacpp`. `local.py` beside it runs this file by its path, and it imports nothing of the
gateway: what it needs comes as one JSON line on stdin. When stdin ends, its parent has left or has no more use for it,
and it leaves too. Nothing here is worth saving, so it goes without `Server`'s destructor, which waits for ever when it
is called right after the start.

It ignores SIGTERM, SIGINT and SIGHUP: a terminal and systemd send those to every process of a service at once, and the
answers of a gateway that drains still come from here.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

SLOTS = 4
"""Answers that are written at the same time; further requests wait in llama.cpp's own queue."""
TOKENS_PER_SLOT = 2048
"""Tokens of prompt and answer together. They take 47 MB; a cache of half that size reads a prompt at half the speed."""
OUTPUT_TOKENS = 1024
"""Maximum tokens of an answer whose request names no limit; one that does is held by TOKENS_PER_SLOT."""
BATCH_TOKENS = 64
"""Tokens of a prompt read at once, in half a second on one core; then the other answers get a turn, and a client that
left is noticed. All of it in one piece would stop them for seconds; pieces of 32 take half as long again."""
PROMPT_CACHE_MIB = 32
HTTP_THREADS = 32
"""Number of threads for requests: each request holds one until its answer ends, the waiting ones too."""
NICENESS = 5
OOM_SCORE = 500
WARNINGS = 2
LOG_S = 0.5
"""Seconds that a failed start gets to say why: llama.cpp's log has a thread of its own and no flush."""
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Says `ready <url>` on stdout once the model can answer, then nothing, until stdin ends."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    order = json.loads(sys.stdin.buffer.readline() or b"{}")
    if order.get("parent") != os.getppid():
        os._exit(0)  # it died before the kernel was told to take us with it
    _give_way()
    report = _stdout_for_us_alone()
    try:
        server = _serve(order["weights"], order["model"], order["api_key"])
    except Exception as err:  # the outermost boundary here: native code raises what it likes, the parent shows it
        time.sleep(LOG_S)
        sys.exit(f"{type(err).__name__}: {err}")
    os.write(report, f"ready {server.listening_address}\n".encode())
    os.close(report)
    while os.read(0, 4096):
        pass
    os._exit(0)


def _die_with_parent() -> None:
    """Has Linux kill this process when the thread that started it ends: that of the parent's event loop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _give_way() -> None:
    """Leaves the processor to the gateway first; when memory runs out, this process goes first."""
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def _stdout_for_us_alone() -> int:
    """Returns a descriptor for the one line that the parent reads; from now on native code prints to stderr."""
    report = os.dup(1)
    os.dup2(2, 1)
    return report


def _serve(weights: str, model: str, api_key: str) -> Any:
    # It has no type stubs, so it is `Any` from here on.
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = weights, {model}
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [api_key]
    params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.offline, params.verbosity = True, WARNINGS
    params.n_parallel, params.n_ctx, params.n_predict = SLOTS, SLOTS * TOKENS_PER_SLOT, OUTPUT_TOKENS
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cache_ram_mib, params.n_threads_http = PROMPT_CACHE_MIB, HTTP_THREADS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads()
    params.warmup = params.fit_params = False  # both only make the start longer: it fits, and the weights are small
    return xllamacpp.Server(params)


def threads() -> int:
    """Returns half of the cores, at most 4.

    llama.cpp's threads wait for each other by spinning, hundreds of times per token. Measured on two cores with one
    busy elsewhere: two threads write 1 token a second, one writes 132. On two idle cores they write 147 and 131.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(4, cores // 2))


if __name__ == "__main__":
    main()
