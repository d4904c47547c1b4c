"""An output is JSON of a bounded size that says when it was cut; progress is paced, and its newest is told."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from msgspec import UNSET, Raw

from gateway.chat.tools.output import PACE_S, ProgressPace, bounded, tool_result
from gateway.chat.tools.toolbox import ToolResult

TEXT = {"type": "text", "text": "hello"}
PICTURE = {"type": "image", "data": "aGk=", "mimeType": "image/png"}


def result(structured: object = UNSET, *content: object, is_error: bool = False, size: int | None = None) -> ToolResult:
    return tool_result(structured, content, is_error=is_error, max_bytes=300, size=size)


@pytest.mark.parametrize(
    ("structured", "content", "output"),
    [
        (UNSET, [TEXT], "hello"),
        (UNSET, [TEXT, TEXT], "hello\nhello"),
        (UNSET, [], ""),
        (UNSET, [TEXT, PICTURE], [TEXT, PICTURE]),
        (UNSET, [PICTURE], [PICTURE]),
        ({"a": [1, None]}, [TEXT], {"a": [1, None]}),
        (None, [TEXT], None),
        ([], [], []),
        (0, [TEXT], 0),
    ],
)
def test_structure_comes_before_text_and_text_before_a_list(
    structured: object, content: list[Any], output: Any
) -> None:
    answered = result(structured, *content)
    assert (json.loads(bytes(answered.output)), answered.error_text) == (output, "")


def test_an_error_says_what_went_wrong_in_every_case() -> None:
    assert result(UNSET, TEXT, is_error=True).error_text == "hello"
    assert result({"code": 3}, is_error=True).error_text == '{"code":3}'
    assert result(UNSET, {"type": "text", "text": ""}, is_error=True).error_text
    assert len(result(UNSET, {"type": "text", "text": "é" * 9000}, is_error=True).error_text.encode()) == 4096


@pytest.mark.parametrize("value", ["x" * 5000, "é" * 5000, '"\n\x00' * 5000, {"a": ["ü\t"] * 5000}, "😀" * 5000])
@pytest.mark.parametrize("max_bytes", [200, 201, 202, 203, 1000])
def test_a_large_output_is_cut_to_its_limit_and_says_so(value: object, max_bytes: int) -> None:
    output = bytes(bounded(value, max_bytes))
    text = json.loads(output)
    assert len(output) <= max_bytes
    assert "TRILANE_LIMIT_TOOL_BYTES" in text
    assert f"the {max_bytes} of" in text
    assert text[0] in ("x", "é", '"', "{", "😀")


def test_an_output_at_its_limit_is_whole_and_one_that_was_cut_on_the_way_says_how_large_it_was() -> None:
    assert bytes(bounded("x" * 298, 300)) == b'"%b"' % (b"x" * 298)
    assert b"[cut: the tool gave 301 bytes" in bytes(bounded("x" * 299, 300))
    assert b"[cut: the tool gave 50000000 bytes" in bytes(result(UNSET, TEXT, size=50_000_000).output)
    assert b"[cut" in bytes(bounded("x" * 100, 0))


def test_progress_is_told_four_times_a_second_and_the_newest_is_not_lost() -> None:
    async def flood() -> list[tuple[float, int]]:
        loop = asyncio.get_running_loop()
        told: list[tuple[float, int]] = []
        pace = ProgressPace(lambda progress: told.append((loop.time(), json.loads(bytes(progress))["progress"])))
        for step in range(60):
            pace.tell(step, None, None)
            await asyncio.sleep(0.01)
        await asyncio.sleep(2 * PACE_S)
        pace.tell(100, 100, "m" * 5000)
        pace.tell(101, None, None)
        pace.close()
        await asyncio.sleep(2 * PACE_S)
        return told

    told = asyncio.run(flood())
    steps = [step for _, step in told]
    assert steps[0] == 0
    assert steps[-2:] == [59, 100]
    assert all(later - earlier > 0.9 * PACE_S for (earlier, _), (later, _) in pairwise(told))


def test_progress_holds_what_the_tool_gave_of_it() -> None:
    async def tell() -> list[Raw]:
        told: list[Raw] = []
        ProgressPace(told.append).tell(1.5, 3, "m" * 5000)
        return told

    [progress] = asyncio.run(tell())
    assert json.loads(bytes(progress)) == {"progress": 1.5, "total": 3, "message": "m" * 1000}
