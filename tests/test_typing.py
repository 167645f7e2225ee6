"""What type checkers make of a program that uses the package: mypy here, pyright in .ci/run."""

from __future__ import annotations

import site
import subprocess
import sys
from pathlib import Path

import posix_shm
import pytest

from .support import ROOT

pytest.importorskip("mypy")

PACKAGE = Path(posix_shm.__file__).parent


def test_a_type_checker_knows_what_is_returned_and_finds_what_is_wrong(tmp_path: Path) -> None:
    if str(PACKAGE.parent) not in site.getsitepackages():  # no type checker finds it by itself
        (tmp_path / PACKAGE.name).symlink_to(PACKAGE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", ROOT / "tests" / "consumer.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
