"""What a type checker makes of a program that uses the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import posix_shm
import pytest

pytest.importorskip("mypy")

PACKAGE = Path(posix_shm.__file__).parent
SHM = "posix_shm._objects.SharedMemoryObject"
MAPPING = "posix_shm._objects.Mapping"
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


def test_a_type_checker_knows_what_each_call_returns(tmp_path: Path) -> None:
    head = [
        "import pathlib, posix_shm",
        "from typing import reveal_type",
        "from posix_shm import *",
        "from posix_shm import ffi",
        "def use(name: str, mapping: Mapping, value: object) -> None:",
    ]
    revealed = [f"    reveal_type({expression})" for expression in TYPES]
    wrong = [f"    {expression}" for expression in ERRORS]
    narrowed = ["    if is_open_shm(value): reveal_type(value)"]
    program = tmp_path / "program.py"
    program.write_text("\n".join([*head, *revealed, *narrowed, *wrong, ""]), encoding="utf-8")
    config = tmp_path / "mypy.ini"
    # NumPy's own types are not what is asked about, and take long.
    config.write_text(
        "[mypy]\nstrict = true\n[mypy-numpy.*]\nfollow_imports = skip\n"
        "follow_imports_for_stubs = true\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), str(program)],
        env={**os.environ, "MYPYPATH": str(PACKAGE.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = re.findall(r"^program.py:(\d+): (.*)$", done.stdout, re.MULTILINE)
    first = len(head) + 1
    said = {int(number) - first: text for number, text in lines}
    types = dict(enumerate([*TYPES.values(), SHM]))
    assert {
        number: re.sub(r'note: Revealed type is "(.*)"', r"\1", said.get(number, "nothing"))
        for number in types
    } == types, done.stdout + done.stderr
    errors = range(len(types), len(types) + len(ERRORS))
    accepted = [ERRORS[n - len(types)] for n in errors if n not in said]
    assert not accepted, "these are wrong, but a type checker takes them"
