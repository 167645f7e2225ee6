"""``python -m posix_shm demo``: the seed's usage example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .support import exists, path_of

TEN_INTS = "0 10 20 30 40 50 60 70 80 90"


def posix_shm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line, from outside the source tree."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "posix_shm", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_demo_shows_ten_ints_and_leaves_nothing(tmp_path: Path) -> None:
    done = posix_shm("demo", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert re.findall(r"^\d+(?: \d+)+$", done.stdout, re.MULTILINE) == [TEN_INTS]
    (name,) = set(re.findall(r"/psm-\w+", done.stdout))
    assert not exists(name)


def test_the_demo_says_what_it_does_in_the_order_in_which_it_does_it(tmp_path: Path) -> None:
    lines = posix_shm("demo", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["made", "wrote"]
    assert lines[-2] == TEN_INTS
    assert lines[-1].startswith("deleted /psm-")


def test_the_second_process_reads_what_the_first_wrote(tmp_path: Path, name: str) -> None:
    path_of(name).write_bytes(bytes(memoryview(b"").cast("i").itemsize) * 3)
    done = posix_shm("demo", "--read", name, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "0 0 0"


def test_the_second_process_says_in_one_line_that_there_is_nothing(
    tmp_path: Path, name: str
) -> None:
    done = posix_shm("demo", "--read", name, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert name in done.stderr


@pytest.mark.parametrize("arguments", [(), ("bogus",), ("demo", "--bogus")], ids=str)
def test_a_wrong_usage_exits_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = posix_shm(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "usage" in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help")], ids=str)
def test_help_says_what_there_is(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = posix_shm(*arguments, cwd=tmp_path)
    assert done.returncode == 0
    assert "demo" in done.stdout
