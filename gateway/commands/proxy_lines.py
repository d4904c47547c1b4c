"""The lines of a proxy's configuration that the doctor names: of the proxy that it saw, else of each that is common."""

from collections.abc import Mapping
from typing import Literal

Mistake = Literal[
    "buffers", "compresses", "cuts", "renames", "hides the scheme", "strips the cursor", "strips the upgrade"
]
LINES: dict[Mistake, dict[str, str]] = {
    "buffers": {
        "nginx": "`proxy_buffering off;`, and no `gzip` of text/event-stream",
        "Caddy": "no `response_buffers`, and no `encode` of event streams",
        "HAProxy": "no `http-response wait-for-body`",
        "Traefik": "no `buffering` middleware",
    },
    "compresses": {
        "nginx": "`gzip off;`, or `gzip_types` without text/event-stream",
        "Caddy": "`encode` with a `match` of `header Content-Type` that leaves text/event-stream out",
        "HAProxy": "`compression type` without text/event-stream",
        "Traefik": "`compress` with `excludedContentTypes: [text/event-stream]`",
    },
    "cuts": {
        "nginx": "`proxy_read_timeout 75s;`",
        "Caddy": "no `read_timeout` in `transport http`, and no `write` in `timeouts`",
        "HAProxy": "`timeout server 75s`",
        "Traefik": "`respondingTimeouts` with `writeTimeout: 0s`",
    },
    "renames": {
        "nginx": "`proxy_set_header Host $http_host;`",
        "Caddy": "no `header_up Host`",
        "HAProxy": "no `http-request set-header Host`",
        "Traefik": "`passHostHeader: true`",
    },
    "hides the scheme": {
        "nginx": "`proxy_set_header X-Forwarded-Proto $scheme;`",
        "Caddy": "no `header_up -X-Forwarded-Proto`",
        "HAProxy": "`http-request set-header X-Forwarded-Proto https`",
        "Traefik": "no `customRequestHeaders` with X-Forwarded-Proto",
    },
    "strips the cursor": {
        "nginx": "no `proxy_set_header Last-Event-ID`",
        "Caddy": "no `header_up -Last-Event-ID`",
        "HAProxy": "no `http-request del-header Last-Event-ID`",
        "Traefik": "no `customRequestHeaders` with Last-Event-ID",
    },
    "strips the upgrade": {
        "nginx": (
            "`proxy_http_version 1.1;`, `proxy_set_header Upgrade $http_upgrade;` and "
            '`proxy_set_header Connection "upgrade";`'
        ),
        "Caddy": "no `header_up` for Upgrade or Connection",
        "HAProxy": "no `http-request del-header Upgrade`",
        "Traefik": "no `customRequestHeaders` with Upgrade",
    },
}


def proxy_of(headers: Mapping[str, str]) -> str:
    """Returns the name of the proxy that an answer passed, as far as it tells; HAProxy and Traefik do not."""
    words = f"{headers.get('server', '')} {headers.get('via', '')}".lower()
    return next((name for name in ("nginx", "Caddy") if name.lower() in words), "")


def line_of(mistake: Mistake, proxy: str) -> str:
    """Returns what to write, on a line of its own: for the `proxy` that is known by name, or one for each."""
    lines = LINES[mistake]
    shown = [proxy] if proxy in lines else lines
    return "".join(f"\n{name}: {lines[name]}" for name in shown)
