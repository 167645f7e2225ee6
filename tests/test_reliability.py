"""docs/reliability.md names the tests that show what it says."""

from __future__ import annotations

import re

import pytest

from .support import ROOT

NAMED = re.findall(
    r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
)


def test_reliability_names_tests() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_reliability_names_exists(file: str, test: str) -> None:
    assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
