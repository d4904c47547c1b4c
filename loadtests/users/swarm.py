"""Tests run Locust as a process of its own, and put proxies between it and a gateway.

A process of its own, because Locust patches the standard library of whoever imports it.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.bench.harness.processes import ROOT, await_ready, process
from loadtests.ports import free_port
from tests.conftest import eventually

END_S = 60.0
"""Seconds that a run may take longer than it should before it is killed."""


@dataclass(frozen=True)
class Swarm:
    """Says how a run came out."""

    exit_code: int
    output: str
    verdict: dict[str, Any]

    @property
    def faults(self) -> set[str]:
        return {row["fault"] for row in self.verdict["faults"]}

    @property
    def counts(self) -> dict[str, int]:
        """Returns how often each thing was measured, by `lane/name`."""
        return {f"{row['lane']}/{row['name']}": row["count"] for row in self.verdict["measures"]}


def swarm(locustfile: Path | str, host: str, folder: Path, *options: str, seconds: float = 6) -> Swarm:
    """Runs a locustfile, named from the root of the repository, without its web page; `folder` gets what it leaves."""
    verdict = folder / "verdict.json"
    verdict.unlink(missing_ok=True)
    run = ["--headless", "--only-summary", "-r", "100", "-t", f"{seconds}s", "--host", host, "--verdict", str(verdict)]
    port = str(free_port())  # otherwise the workers of one run join the master of another that runs beside it
    run += ["--master-port", port, "--master-bind-port", port]
    process = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(locustfile), *run, *options],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + END_S,
        check=False,
    )
    assert verdict.exists(), f"Locust ended with {process.returncode} and no verdict:\n{process.stdout[-3000:]}"
    return Swarm(process.returncode, process.stdout, json.loads(verdict.read_text()))


@contextlib.contextmanager
def behind(port: int, folder: Path, *mistakes: str) -> Generator[str]:
    """Yields the URL of the gateway on `port` behind a proxy with these switches of `loadtests.lossy_proxy`."""
    listen = free_port()
    command = [sys.executable, "-m", "loadtests.lossy_proxy", "--port", str(listen), "--to", f"127.0.0.1:{port}"]
    with process([*command, *mistakes], folder, {"PYTHONPATH": str(ROOT)}) as child:
        await_ready(child, listen, "/readyz")
        yield f"http://127.0.0.1:{listen}"


NGINX = """
worker_processes 1; daemon off; master_process off; pid nginx.pid; error_log stderr;
events { worker_connections 256; }
http {
  access_log off; proxy_temp_path proxy; client_body_temp_path body;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen 127.0.0.1:@LISTEN ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem;
    location / { proxy_pass http://127.0.0.1:@PORT; proxy_http_version 1.1; }
  }
}
"""


@contextlib.contextmanager
def over_tls(port: int, folder: Path) -> Generator[str]:
    """Yields the URL of the gateway on `port` behind nginx with an unsigned certificate. Needs nginx and openssl."""
    listen = free_port()
    (folder / "nginx.conf").write_text(NGINX.replace("@LISTEN", str(listen)).replace("@PORT", str(port)))
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*request, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with process(command, folder, {}):
        eventually(lambda: listens(listen), what="nginx listens")
        yield f"https://127.0.0.1:{listen}"


def listens(port: int) -> bool:
    """Returns whether somebody listens on a port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
