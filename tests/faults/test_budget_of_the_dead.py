"""What an answer has cost whose process was killed is spent: its user's budget counts it as any other's."""

from pathlib import Path

import httpx2

from tests.conftest import Gateway, UpstreamThread, eventually
from tests.faults.test_limit_budgets import PRICES, SECRET, ask, auth, spent
from tests.support.sse_client import Frames, chat_body, iter_frames

TOKENS = 40
BUDGET = 0.03
"""What thirty of them cost."""


def test_the_answer_of_a_killed_process_spends_the_budget(upstream: UpstreamThread, tmp_path: Path) -> None:
    (tmp_path / "upstreams.toml").write_text(PRICES.format(url=upstream.url))
    env = {"TRILANE_UPSTREAMS": str(tmp_path / "upstreams.toml"), "TRILANE_JWT_SECRET": SECRET}
    env["TRILANE_LIMIT_USER_MONTHLY_COST"] = str(BUDGET)
    first = Gateway(tmp_path, env, program=("-m", "tests.support.hasty_gateway"))
    second = Gateway(tmp_path, env, program=first.program)
    headers = auth("spender")
    try:
        first.start()
        body, frames = chat_body("long", "T=100000 I=20000"), Frames()
        with httpx2.stream("POST", f"{first.url}/api/chat", json=body, headers=headers, timeout=60) as response:
            for _ in iter_frames(response.iter_lines(), frames):
                if len(frames.events) > TOKENS:
                    break
        first.process.kill()  # type: ignore[union-attr]
        second.start()
        eventually(lambda: spent(second, headers) >= BUDGET, 30, "its row says what it has cost")
        assert len(second.usage("spender")) == 1
        eventually(lambda: ask(second, "more", headers).status_code == 429, 10, "the engine has heard of it")
        assert ask(second, "more", headers).json()["limit"] == "monthly_cost"
        assert ask(second, "other", auth("other")).status_code == 200
    finally:
        first.stop()
        second.stop()
