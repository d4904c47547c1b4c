"""The page works behind nginx, with the README's own lines and with lines that write another `Host`."""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from loadtests.bench.harness.processes import process, search_path
from loadtests.users.swarm import listens
from tests.conftest import Gateway, eventually, free_port
from tests.e2e.console import Console

README = Path(__file__).resolve().parents[2] / "README.md"
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
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(60),
    pytest.mark.skipif(shutil.which("nginx", path=search_path()) is None, reason="nginx is not installed"),
]


def readme_location() -> str:
    found = re.search(r"```nginx\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, "the README has no block for nginx"
    return found[1]


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


@pytest.mark.parametrize("location", [readme_location(), ANOTHER_HOST], ids=["README", "another Host"])
def test_a_page_behind_nginx_asks_and_is_answered(
    gateway: Gateway, new_tab: Callable[[], Any], tmp_path: Path, location: str
) -> None:
    with behind_nginx(gateway, location, tmp_path) as url:
        console = Console(new_tab(), url)
        console.send("hello through a proxy")
        console.expect_answer("hello through a proxy")


def test_the_microphones_socket_opens_behind_nginx(gateway: Gateway, tmp_path: Path) -> None:
    with behind_nginx(gateway, readme_location(), tmp_path) as url:
        address = f"{url.replace('http', 'ws')}/api/audio"
        with websockets.sync.client.connect(address, origin=url, subprotocols=["trilane.audio.v1"]) as socket:
            socket.send('{"type":"start"}')
            assert '"ready"' in str(socket.recv(timeout=30))
