"""What a type checker makes of a program that uses the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import posix_shm
import pytest

pytest.importorskip("mypy")

PACKAGE = Path(posix_shm.__file__).parent
SHM = "posix_shm._shm.SharedMemoryObject"
MAPPING = "posix_shm._shm.Mapping"
BOTH = f"tuple[{SHM}, {MAPPING}]"

# An expression, or the target of a `with`, and its type.
TYPES = {
    "open_shm(name)": SHM,
    "open_shm(name, direction='io', if_exists='error', size=10)": SHM,
    "open_shm(name, if_exists='supersede', if_does_not_exist='create')": SHM,
    "open_shm(name, if_exists=None, if_does_not_exist='create')": f"{SHM} | None",
    "open_shm(name, if_does_not_exist=None)": f"{SHM} | None",
    "open_shm(b'name', permissions=['rusr', Permission.RGRP])": SHM,
    "open_shm(pathlib.Path('name'), permissions=0o600)": SHM,
    "open_anonymous_shm(direction='io')": SHM,
    "make_shm(3)": SHM,
    "open_shm(name).mmap(10, protections='read')": MAPPING,
    "opened_shm(name).__enter__()": SHM,
    "opened_shm(name, if_does_not_exist=None).__enter__()": f"{SHM} | None",
    "open_shm(name).__enter__()": SHM,
    "mapping.__enter__()": MAPPING,
    "open_shm_and_mmap(name, 10).__enter__()": BOTH,
    "open_shm_and_mmap(name, 10, if_exists=None).__enter__()": f"{BOTH} | tuple[None, None]",
    "open_anonymous_shm_and_mmap(10).__enter__()": BOTH,
    "mapping[0]": "int",
    "mapping[0:1]": "bytes",
    "mapping.protections": "posix_shm._flags.Protection",
    "memoryview(mapping)": "memoryview[int]",
    "memoryview(open_shm(name))": "memoryview[int]",
    "ShmError().name": "str | None",
    "ffi.shm_open(name, 'rdwr', 0o600)": "int",
}
ERRORS = [
    "open_shm(name, direction='output')",
    "open_shm(name, if_exists='append')",
    "open_shm(name, if_does_not_exist='make')",
    "open_shm(5)",
    "open_shm(name, 'io')",
    "open_shm(name, permissions=1.5)",
    "open_shm(name, if_does_not_exist=None).size",
    "mapping.nbytes + '1'",
    "posix_shm.bogus",
]

NARROWED = "is_open_shm(value) and reveal_type(value)"
HEAD = """\
import pathlib, posix_shm
from typing import reveal_type
from posix_shm import *
from posix_shm import ffi
def use(name: str, mapping: Mapping, value: object) -> None:
"""
# NumPy's own types are not what is asked about, and take long.
CONFIG = """\
[mypy]
strict = true
[mypy-numpy.*]
follow_imports = skip
follow_imports_for_stubs = true
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What mypy says of each expression, if it says anything."""
    directory = tmp_path_factory.mktemp("typing")
    expressions = [*(f"reveal_type({known})" for known in TYPES), NARROWED, *ERRORS]
    body = "".join(f"    {expression}\n" for expression in expressions)
    (directory / "program.py").write_text(HEAD + body, encoding="utf-8")
    (directory / "posix_shm").symlink_to(PACKAGE)  # wherever it is installed, if it is
    (directory / "mypy.ini").write_text(CONFIG, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "program.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # there are errors
    lines = re.findall(r"^program.py:(\d+): (.*)$", done.stdout, re.MULTILINE)
    first = HEAD.count("\n") + 1
    lines.reverse()  # of several lines on one expression the first one counts
    return {expressions[int(number) - first]: text for number, text in lines}


@pytest.mark.parametrize(("expression", "known"), TYPES.items(), ids=TYPES.keys())
def test_a_type_checker_knows_what_a_call_returns(
    said: dict[str, str], expression: str, known: str
) -> None:
    assert said[f"reveal_type({expression})"] == f'note: Revealed type is "{known}"'


def test_a_type_checker_knows_an_open_object_by_is_open_shm(said: dict[str, str]) -> None:
    assert said[NARROWED] == f'note: Revealed type is "{SHM}"'


@pytest.mark.parametrize("expression", ERRORS)
def test_a_type_checker_finds_what_is_wrong(said: dict[str, str], expression: str) -> None:
    assert said.get(expression, "nothing").startswith("error: ")
