"""Processes of their own need what the contract suite gives its processes."""

from tests.contract.conftest import python_path, root

__all__ = ["python_path", "root"]
