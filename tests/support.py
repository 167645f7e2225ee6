"""What several test files need."""

from __future__ import annotations

import mmap
import os
import secrets
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NameFactory = Callable[[], str]

ROOT = Path(__file__).parent.parent
PAGE = mmap.PAGESIZE

# Of every name that this process and its children make; a stale object of a killed run with the
# same process ID has another one.
PREFIX = f"/psm-test-{os.getpid()}-{secrets.token_hex(3)}-"

_DIRECTORY = Path("/dev/shm")


def exists(name: str) -> bool:
    """Whether a canonical name refers to an object."""
    return path_of(name).exists()


def path_of(name: str | bytes) -> Path:
    """The file that is an object, by its canonical name."""
    return _DIRECTORY / os.fsdecode(name)[1:]


def mode_of(name: str) -> int:
    """The permission bits of an object."""
    return stat.S_IMODE(path_of(name).stat().st_mode)


def objects() -> set[str]:
    """The canonical names with this process's prefix that refer to an object."""
    return {f"/{path.name}" for path in _DIRECTORY.glob(f"{PREFIX[1:]}*")}


def descriptors() -> dict[int, str]:
    """This process's open descriptors and what each refers to."""
    result = {}
    for entry in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that the listing was read from
            result[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
    return result


def shared_mappings() -> set[str]:
    """The lines of this process's memory map that are shared memory objects."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return {line for line in lines if " /dev/shm/" in line or " /memfd:" in line}


def run_python(
    code: str, *arguments: str, check: bool = True, options: tuple[str, ...] = ("-W", "error")
) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own and return what it printed.

    If it should succeed and does not, its standard error is shown.
    """
    done = subprocess.run(
        [sys.executable, *options, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if check:
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done
