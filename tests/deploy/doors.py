"""Runs the files of `deploy/proxies` in real proxies, with a test's names, ports and certificate in place of theirs."""

import contextlib
import os
import shutil
import ssl
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from loadtests.bench.harness.processes import NotStarted, process, search_path
from loadtests.ports import free_port
from loadtests.users.swarm import listens
from tests.conftest import eventually
from tests.support.authority import Authority

PROXIES = Path(__file__).resolve().parents[2] / "deploy" / "proxies"
NAME = "trilane.localhost"
"""The public name in these tests: every gateway answers to it without sign-in, and it is none of its addresses."""
ADDRESSES = ("chat-1:8001", "chat-2:8001", "events-1:8002", "events-2:8002", "audio-1:8003", "audio-2:8003")
"""Where the files say that the processes are."""
Addresses = Mapping[str, str]
Change = tuple[str, str]


class Site(NamedTuple):
    """The certificate of a test's public name, in a folder of its own."""

    folder: Path
    certificate: Path
    key: Path
    context: ssl.SSLContext
    """A client's end of TLS that trusts it."""


def make_site(folder: Path) -> Site:
    authority = Authority(folder)
    certificate, key = authority.sign("tls", f"DNS:{NAME}")
    shutil.copy(certificate, folder / "tls.crt")
    context = ssl.create_default_context(cafile=str(authority.pem))
    return Site(folder, folder / "tls.crt", key, context)


class Door(NamedTuple):
    """A proxy that runs, and how to reach it under its public name."""

    name: str
    port: int
    site: Site

    @property
    def host(self) -> str:
        return f"{NAME}:{self.port}"

    @property
    def origin(self) -> str:
        return f"https://{self.host}"

    def client(self, **how: Any) -> httpx2.Client:
        """Returns a client that finds the public name on this machine."""
        transport = _ToThisMachine(httpx2.HTTPTransport(verify=self.site.context, retries=0))
        return httpx2.Client(base_url=self.origin, transport=transport, timeout=20, trust_env=False, **how)


class _ToThisMachine(httpx2.BaseTransport):
    """Connects to this machine, whatever name a request has, and keeps that name in `Host` and in TLS."""

    def __init__(self, transport: httpx2.HTTPTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host="127.0.0.1")
        return self._transport.handle_request(request)

    def close(self) -> None:
        self._transport.close()


def changed(file: str, *changes: Change) -> str:
    """Returns the text of a file in `deploy/proxies` with these changes, each of which must apply."""
    text = (PROXIES / file).read_text()
    for old, new in changes:
        assert old in text, f"{file} has no {old!r} any more"
        text = text.replace(old, new)
    return text


def program(name: str, package: str) -> str:
    """Returns the path of a proxy's program; on CI it must be there, elsewhere a test without it is skipped."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:{search_path()}")
    if path is None and "CI" in os.environ:
        pytest.fail(f"{name} is not installed: .ci/run installs {package}")
    if path is None:
        pytest.skip(f"{name} is not installed: {package} brings it")
    return path


# The command of each proxy, after its files are written


def caddy(folder: Path, site: Site, port: int, addresses: Addresses) -> list[str]:
    text = changed(
        "Caddyfile",
        ("http_port 80", f"http_port {free_port()}\n\tdefault_bind 127.0.0.1\n\tadmin off\n\tskip_install_trust"),
        ("https_port 443", f"https_port {port}"),
        ("trilane.example.com", NAME),
        ("# tls /etc/trilane/tls.crt /etc/trilane/tls.key", f"tls {site.certificate} {site.key}"),
        *addresses.items(),
    )
    (folder / "Caddyfile").write_text(text)
    return [program("caddy", "`make dev`"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def nginx(folder: Path, site: Site, port: int, addresses: Addresses) -> list[str]:
    temporary = " ".join(f"{part}_temp_path {part};" for part in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = changed(
        "nginx.conf",
        ("user www-data;", "user root;" if os.geteuid() == 0 else ""),
        ("access_log /var/log/nginx/access.log;", f"access_log off; {temporary}"),
        ("listen [::]:80;", ""),
        ("listen [::]:443 ssl http2;", ""),
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("trilane.example.com", NAME),
        ("/etc/trilane/tls.crt", str(site.certificate)),
        ("/etc/trilane/tls.key", str(site.key)),
        *addresses.items(),
    )
    (folder / "nginx.conf").write_text(text)
    options = ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    return [program("nginx", "nginx-light"), *options, "-g", f"daemon off; pid {folder}/nginx.pid;"]


def haproxy(folder: Path, site: Site, port: int, addresses: Addresses) -> list[str]:
    text = changed(
        "haproxy.cfg",
        ("HTTP :80", f"HTTP 127.0.0.1:{free_port()}"),
        ("HTTPS :443", f"HTTPS 127.0.0.1:{port}"),
        ("/etc/trilane/tls.crt", str(site.certificate)),
        ("maxconn 30000", "maxconn 1000"),
        *addresses.items(),
    )
    (folder / "haproxy.cfg").write_text(text)
    return [program("haproxy", "haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


def traefik(folder: Path, site: Site, port: int, addresses: Addresses) -> list[str]:
    routes = changed(
        "traefik-routes.yaml",
        ("trilane.example.com", NAME),
        ("/etc/trilane/tls.crt", str(site.certificate)),
        ("/etc/trilane/tls.key", str(site.key)),
        *addresses.items(),
    )
    (folder / "traefik-routes.yaml").write_text(routes)
    text = changed(
        "traefik.yaml",
        ('":80"', f'"127.0.0.1:{free_port()}"'),
        ('":443"', f'"127.0.0.1:{port}"'),
        ("/etc/traefik/traefik-routes.yaml", str(folder / "traefik-routes.yaml")),
        ("requestAcceptGraceTimeout: 5s", "requestAcceptGraceTimeout: 0s"),
    )
    (folder / "traefik.yaml").write_text(text)
    return [program("traefik", "`make dev`"), f"--configFile={folder / 'traefik.yaml'}"]


COMMANDS: dict[str, Callable[[Path, Site, int, Addresses], list[str]]] = {
    "Caddy": caddy,
    "nginx": nginx,
    "HAProxy": haproxy,
    "Traefik": traefik,
}


@contextlib.contextmanager
def door(name: str, folder: Path, site: Site, addresses: Addresses, *changes: Change) -> Generator[Door]:
    """Runs a proxy with its file of `deploy/proxies`; `addresses` are those of ADDRESSES, each with the test's own.

    `changes` are made to its files where they apply.
    """
    assert set(addresses) == set(ADDRESSES)
    port = free_port()
    command = COMMANDS[name](folder, site, port, addresses)
    for path in folder.iterdir() if changes else ():
        text = path.read_text()
        for old, new in changes:
            text = text.replace(old, new)
        path.write_text(text)
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with process(command, folder, home) as child:
        eventually(lambda: listens(port) or child.poll() is not None, 30, what=f"{name} listens")
        if child.poll() is not None:
            raise NotStarted(f"{name} ended with {child.returncode}")
        opened = Door(name, port, site)
        eventually(lambda: has_routes(opened), 30, what=f"{name} has its routes", every_s=0.05)
        yield opened


def has_routes(opened: Door) -> bool:
    """Returns whether the proxy routes already: Traefik listens before it has read its certificate and routes."""
    with opened.client() as client, contextlib.suppress(httpx2.TransportError):
        return client.get("/docs").status_code == 200
    return False
