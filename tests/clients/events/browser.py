"""Chromium's own `EventSource` runs on a page of the gateway; Playwright has a thread of its own here.

Its synchronous form would keep an event loop running in the main thread, where other tests run theirs.
"""

import asyncio
import functools
import shutil
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.clients.events.application import NAMES, Application, Event
from tests.clients.node import JS
from tests.e2e.conftest import ARGUMENTS, CHROMIUM

DEADLINE_S = 20.0
LISTEN = """([url, names]) => { listen(EventSource, url, names, { tell, end }); }"""
Result = TypeVar("Result")


class Chromium:
    """Holds one browser; each client is a tab of it."""

    def __init__(self) -> None:
        self._playwright_api = pytest.importorskip("playwright.async_api", reason="no playwright")
        path = next(filter(None, map(shutil.which, CHROMIUM)), None)
        if path is None:
            pytest.skip("no Chromium: `apt-get install chromium-headless-shell` brings the browser tests")
        self._script = (JS / "event_source.mjs").read_text().replace("export function", "function")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._playwright, self._browser = self._run(self._launch(path))

    def follow(self, kind: str, url: str, application: Application) -> Callable[[], None]:
        page = self._run(self._open(url, application))
        return functools.partial(self._close_page, page)

    def close(self) -> None:
        self._run(self._browser.close())
        self._run(self._playwright.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _close_page(self, page: Any) -> None:
        self._run(page.close())

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    async def _launch(self, path: str) -> tuple[Any, Any]:
        playwright = await self._playwright_api.async_playwright().start()
        return playwright, await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)

    async def _open(self, url: str, application: Application) -> Any:
        """Opens a tab that stands on a page of the same origin, and listens."""
        page = await self._browser.new_page(bypass_csp=True)
        await page.expose_function("tell", lambda event: application.tell(msgspec.convert(event, Event)))
        await page.expose_function("end", application.end)
        await page.goto("{0.scheme}://{0.netloc}/healthz".format(urlsplit(url)))
        await page.add_script_tag(content=self._script)
        await page.evaluate(LISTEN, [url, NAMES])
        return page
