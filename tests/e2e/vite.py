"""Vite serves a newcomer's front end in front of a gateway, with the README's own files."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from loadtests.bench.harness.processes import await_ready, process
from loadtests.ports import free_port
from tests.clients.node import install, tool
from tests.support.readme import readme_block

PACKAGE = Path(__file__).parents[1] / "clients" / "vite"
PROXY = "'/api': { target: 'http://127.0.0.1:8000', ws: true }"
"""The README's own line."""
OWN_CACHE = """import { mergeConfig } from 'vite'
import config from './vite.config.js'
export default mergeConfig(config, { cacheDir: '.vite' })
"""
"""The README's settings with a cache of its own: two servers that make one anew lose each other's pages."""


@contextlib.contextmanager
def behind_vite(gateway_port: int, proxy: str = PROXY, page: str = "") -> Iterator[str]:
    """Yields the URL of the README's front end, whose calls pass through this line of Vite's `server.proxy`.

    `page` is an `App.jsx` of the test's own, beside the README's hook; without one it is the README's.
    """
    port = free_port()
    folder = install(PACKAGE) / "build" / str(port)
    (folder / "src").mkdir(parents=True)
    try:
        for name in ("index.html", "blank.html", "src/main.jsx"):
            shutil.copyfile(PACKAGE / name, folder / name)
        (folder / "src/App.jsx").write_text(page or readme_block("useChat").text)
        (folder / "src/useLiveChat.jsx").write_text(readme_block("useLiveChat").text)
        config = readme_block("defineConfig").at(f"127.0.0.1:{gateway_port}", (PROXY, proxy))
        (folder / "vite.config.js").write_text(config)
        (folder / "own-cache.config.js").write_text(OWN_CACHE)
        program = PACKAGE / "node_modules/vite/bin/vite.js"
        where = ["--config", "own-cache.config.js", "--host", "127.0.0.1", "--port", str(port), "--strictPort"]
        with process([tool("node"), str(program), *where], folder, {}) as vite:
            await_ready(vite, port, "/blank.html")
            yield f"http://127.0.0.1:{port}"
    finally:
        shutil.rmtree(folder)
