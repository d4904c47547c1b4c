"""A gateway behind a small nginx of a test's own; those of `deploy/proxies` are tested in `tests/deploy`."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.bench.harness.processes import process, search_path
from loadtests.ports import free_port
from loadtests.users.swarm import listens
from tests.conftest import Gateway, eventually

NGINX = """
@USER worker_processes 1; daemon off; master_process off; pid nginx.pid; error_log stderr;
events { worker_connections 256; }
http {
  access_log off; proxy_temp_path proxy; client_body_temp_path body;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen 127.0.0.1:@LISTEN; @LOCATION }
}
"""
ANOTHER_HOST = "location / { proxy_pass http://127.0.0.1:8000; proxy_http_version 1.1; proxy_buffering off; }"
"""nginx passes on the `Host` of its `proxy_pass`, as Vite does when its proxy is one address."""
needs_nginx = pytest.mark.skipif(shutil.which("nginx", path=search_path()) is None, reason="nginx is not installed")


@contextlib.contextmanager
def behind_nginx(gateway: Gateway, location: str, folder: Path) -> Iterator[str]:
    """Yields the URL of the gateway behind nginx."""
    port = free_port()
    lines = location.replace("127.0.0.1:8000", f"127.0.0.1:{gateway.port}")
    config = NGINX.replace("@LISTEN", str(port)).replace("@LOCATION", lines).replace("@USER", "")
    (folder / "nginx.conf").write_text(config)
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with process(command, folder, {}):
        eventually(lambda: listens(port), what="nginx listens")
        yield f"http://127.0.0.1:{port}"
