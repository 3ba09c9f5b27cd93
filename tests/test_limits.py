"""No test may fail because the machine is slow: one guard against what hangs, and nothing shorter."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import ROOT
from tests.limits import GUARD_S


def test_no_test_has_a_time_limit_of_its_own() -> None:
    found = []
    for path in sorted((ROOT / "tests").glob("*.py")):
        if path.name != "conftest.py":  # which has the one deadline, for all
            found += [
                f"{path.name}: {limit}"
                for limit in re.findall(r"\btimeout=[\d.]+|\bdeadline=\w+", path.read_text("utf-8"))
            ]
    assert found == []


def test_pytest_has_the_same_guard() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["tool"]["pytest"]["ini_options"]["timeout"] == GUARD_S
