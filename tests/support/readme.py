"""The README's blocks of code, for the tests that run them as they stand."""

import re
from collections.abc import Iterator

import msgspec

from tests.readme_settings import README

GATEWAY = "127.0.0.1:8000"
"""The address that the README gives the gateway; tests put another in its place."""
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class CodeBlock(msgspec.Struct, frozen=True):
    """A fenced block; `text` as its language is output, or a shape, and runs nowhere."""

    language: str
    text: str

    def at(self, address: str, *changes: tuple[str, str]) -> str:
        """Returns its text, with these changes, for a gateway at this address (without the scheme)."""
        text = self.text
        for old, new in changes:
            assert old in text, f"the README's block has no {old!r} any more"
            text = text.replace(old, new)
        return text.replace(GATEWAY, address)


def blocks(text: str) -> Iterator[CodeBlock]:
    """Yields every fenced block of a page."""
    for fence in FENCE.finditer(text):
        yield CodeBlock(fence["language"], fence["text"])


def readme_block(mark: str) -> CodeBlock:
    """Returns the one block of the README that contains this mark."""
    [found] = [block for block in blocks(README.read_text()) if mark in block.text]
    return found
