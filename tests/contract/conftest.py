import os
from pathlib import Path

import pytest

from tests.contract.engines import Engine


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Returns each engine in turn."""
    return Engine(request.param, tmp_path)


@pytest.fixture(params=["sqlite"])
def shared_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Returns each engine that several processes may have open."""
    return Engine(request.param, tmp_path)


@pytest.fixture
def root() -> Path:
    """Returns the folder that holds the packages."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def python_path(root: Path) -> dict[str, str]:
    """Returns the environment of a separate Python process."""
    return {**os.environ, "PYTHONPATH": str(root)}
