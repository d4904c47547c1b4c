"""A gateway behind another: what one wire format says is told by the other, both ways."""

from pathlib import Path
from typing import Any

from tests.conftest import Gateway, serving

TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {}}},
}


def behind(folder: Path, gateway: Gateway, more: str = "", wire: str = "messages") -> Gateway:
    """Returns a gateway whose upstream is another one, by Anthropic's format unless `wire` says otherwise."""
    folder.mkdir(exist_ok=True)
    table = f'[[upstream]]\nname = "behind"\nwire = "{wire}"\nbase_url = "{gateway.url}/v1"\napi_key = "k"\n{more}'
    (folder / "upstreams.toml").write_text(table)
    return serving(folder, "", OPENAI_BASE_URL="", TRILANE_MODEL="", TRILANE_UPSTREAMS=str(folder / "upstreams.toml"))
