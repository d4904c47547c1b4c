"""What is shipped is listed with an allowed licence, and runs no code before the gateway does."""

import json
import re
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version

import pytest

from tests.licences import ELSEWHERE, ROOT, installed, listed, locked

ALLOWED = {
    *("MIT", "MIT-0", "MIT License", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "3-Clause BSD License", "0BSD"),
    *("Apache-2.0", "Apache Software License", "PSF-2.0", "Zlib", "CC0-1.0"),
    *("MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)"),  # of a file that is changed, its source
    *("LGPL-3.0-only", "LGPL-2.1-or-later"),  # used as libraries that anyone can replace
}
"""Licences under which a product may ship what is listed, beside its own code under any other."""
RUNS_AT_START = {"setuptools": "distutils-precedence.pth"}
"""The one `.pth` file with code that is known: it builds, and serves nothing."""


def test_every_package_that_is_shipped_has_a_row() -> None:
    assert list(listed()) == locked(), "run `make licences`"


@pytest.mark.parametrize("name", locked())
def test_a_licence_is_one_of_those_allowed(name: str) -> None:
    licence = listed()[name]
    assert {part.strip() for part in re.split(r" AND | OR |;", licence)} <= ALLOWED, licence


def test_the_list_says_what_the_packages_declare() -> None:
    here = installed()
    declared = {name: here.get(name, ELSEWHERE.get(name)) for name in locked()}
    assert {name: licence for name, licence in listed().items() if declared[name] != licence} == {}


def test_the_bill_of_materials_has_the_gateway_and_every_package_with_its_hashes() -> None:
    subprocess.run(["make", "-s", "-o", "dev", "sbom"], cwd=ROOT, check=True, capture_output=True, timeout=60)
    bill = json.loads((ROOT / "build" / "sbom.json").read_text())
    gateway = bill["metadata"]["component"]
    assert (gateway["name"], gateway["version"]) == ("trilane", version("trilane"))
    assert gateway["licenses"][0]["license"]["id"] == "Apache-2.0"
    assert sorted({package["name"] for package in bill["components"]}) == locked()
    assert all(package["externalReferences"][0]["hashes"] for package in bill["components"])


@pytest.mark.parametrize("name", locked())
def test_no_package_runs_code_at_every_start_of_python(name: str) -> None:
    """A poisoned release of another gateway came as a `.pth` file: Python executes each of its lines with `import`."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        assert name in ELSEWHERE
        return
    files = package.files
    assert files is not None
    for file in files:
        if file.suffix == ".pth" and file.name != RUNS_AT_START.get(name):
            lines = package.locate_file(file).read_text().splitlines()  # type: ignore[attr-defined]
            assert not [line for line in lines if line.startswith(("import ", "import\t"))], file
        assert file.name not in ("sitecustomize.py", "usercustomize.py"), file
