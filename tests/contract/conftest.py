import os
from pathlib import Path

import pytest

from tests.contract.engines import Engine


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Every engine."""
    return Engine(request.param, tmp_path)


@pytest.fixture(params=["sqlite"])
def shared_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """The engines that several processes may have open."""
    return Engine(request.param, tmp_path)


@pytest.fixture
def root() -> Path:
    """Where the packages are."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def python_path(root: Path) -> dict[str, str]:
    """The environment of a process of its own."""
    return {**os.environ, "PYTHONPATH": str(root)}
