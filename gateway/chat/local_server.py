"""The child process of the embedded model. Run by `gateway.chat.local` only; the only importer of `xllamacpp`."""

import ctypes
import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any

from gateway.chat.local import LocalModel, weights

SLOTS = 4
TOKENS_PER_SLOT = 4096
MAX_OUTPUT_TOKENS = 2048
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Loads the model, listens on a free loopback port, says `ready <url>`, and leaves when its parent does."""
    parent, key = int(os.environ["TRILANE_LOCAL_PARENT"]), os.environ.pop("TRILANE_LOCAL_KEY")
    signal.signal(signal.SIGTERM, _leave)
    _die_with(parent)
    os.nice(5)  # the gateway's own turn comes first
    server = _serve(key)
    print(f"ready {server.listening_address}", flush=True)
    while sys.stdin.buffer.read(4096):  # the parent writes nothing: this ends when it does
        pass
    os._exit(0)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _serve(key: str) -> Any:
    xllamacpp: Any = importlib.import_module("xllamacpp")

    threads = min(4, os.cpu_count() or 1)
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {LocalModel.model_name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * TOKENS_PER_SLOT
    params.n_predict = MAX_OUTPUT_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 64
    params.ui = params.warmup = False
    params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.verbosity = 0
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
