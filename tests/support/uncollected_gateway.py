"""A gateway in a process of its own that says what waits for the garbage collector."""

import os
import subprocess
import sys
import time
from typing import Any

import httpx2

from tests.conftest import OURS, START_S, UNMEASURED, Gateway, eventually

LINGER_S = 1.0
"""Seconds for which a closed connection is read."""


class UncollectedGateway(Gateway):
    """Runs `tests.support.uncollected`."""

    def start(self) -> "UncollectedGateway":
        clean = {k: v for k, v in os.environ.items() if not k.upper().startswith(OURS)}
        with (self.folder / f"stderr-{self.port}.txt").open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.uncollected", str(self.port)],
                env={**clean, **UNMEASURED, "TRILANE_DATA_DIR": str(self.folder), **self.env},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        eventually(self._ready, START_S, f"the gateway is ready; {self.stderr()}", every_s=0.05)
        return self

    def rest(self, tasks: int) -> None:
        """Waits until it has no more tasks than this, no session is kept, and no closed connection lingers."""
        eventually(lambda: self.ask("tasks") <= tasks, what="all has ended", every_s=0.1)
        eventually(lambda: not self.gauge("trilane_audio_open_sessions"), what="no session is kept", every_s=0.1)
        time.sleep(LINGER_S + 0.1)

    def ask(self, what: str) -> Any:
        return httpx2.get(f"{self.url}/{what}").json()
