"""Writes `deploy/licences.md`: every package that the gateway is installed with, and its licence.

Run it when `requirements.lock` has changed: `make licences`. Packages of other systems than this one are not installed
here; theirs stand in ELSEWHERE.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
LIST = ROOT / "deploy" / "licences.md"
ELSEWHERE = {
    "async-timeout": "Apache-2.0",
    "colorama": "BSD-3-Clause",
    "httpx2-jsfetch": "BSD-3-Clause",
    "pywin32": "PSF-2.0",
    "tzdata": "Apache-2.0",
}
"""Licences of packages that only other systems and versions of Python need."""
HEAD = """# What is shipped with Trilane, and under which licence

Trilane itself is Apache-2.0. These are the packages of `requirements.lock`, with the models that come as packages; the
console page has no script but its own. `make licences` writes this list, `make sbom` the same with versions and hashes
as CycloneDX (`build/sbom.json`, for a scanner of vulnerabilities), and `make audit` fails when a package has no row,
when a licence is not among those allowed, or when an installed package would run code at every start of Python.

| package | licence |
|---|---|
"""
ROW = re.compile(r"^\| `([^`]+)` \| (.+) \|$", re.MULTILINE)


def locked() -> list[str]:
    """Returns the names of what is shipped, in order."""
    return sorted(set(re.findall(r"^([a-z0-9._-]+)==", LOCK.read_text(), re.MULTILINE)))


def listed() -> dict[str, str]:
    """Returns the licences by package, as the committed list has them."""
    return dict(ROW.findall(LIST.read_text()))


def installed() -> dict[str, str]:
    """Returns the licences that the installed packages declare, by normalized name."""
    command = [Path(sys.executable).with_name("pip-licenses"), "--format=json", "--from=mixed", "--with-system"]
    found: list[dict[str, Any]] = json.loads(subprocess.check_output(command, timeout=60))
    return {re.sub(r"[-_.]+", "-", one["Name"]).lower(): one["License"].splitlines()[0][:80] for one in found}


def write() -> None:
    known = ELSEWHERE | installed()
    rows = [f"| `{name}` | {known.get(name, 'UNKNOWN').replace('|', '/')} |" for name in locked()]
    LIST.write_text(HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
    write()
