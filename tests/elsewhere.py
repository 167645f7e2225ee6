"""Run the body of a test in an interpreter of its own.

What may crash, or changes something that belongs to the whole process, must not take the test
runner with it.  The interpreter may have a small /dev/shm of its own, which is a real one: a tmpfs
that is mounted over the system's in a mount namespace.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import gc
import importlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from .support import ROOT

Json = str | int | bool | None

OPTIONS = ("-W", "error")
TIMEOUT = 60

_DEV_SHM = "/dev/shm"


def run(
    body: Callable[..., None],
    arguments: Mapping[str, Json] | None = None,
    *,
    options: tuple[str, ...] = OPTIONS,
    dev_shm: int | None = None,
    mount_options: str = "mode=1777",
) -> subprocess.CompletedProcess[str]:
    """Call a function of a test module in another interpreter, whatever comes of it.

    :param body: a function at the top of its module, perhaps one of the decorated tests below.
    :param arguments: of the function, by name.
    :param options: of the interpreter.
    :param dev_shm: bytes that its /dev/shm holds; ``None`` is the system's /dev/shm.
    :param mount_options: of that /dev/shm.
    """
    command = [sys.executable, *options, "-m", __name__, body.__module__, body.__qualname__]
    command += [json.dumps(arguments or {}), json.dumps(dev_shm is not None)]
    return _run_command(command, dev_shm, mount_options)


def in_a_process(test: Callable[..., None]) -> Callable[..., None]:
    """A test whose body runs in an interpreter of its own; its parameters are JSON."""

    @functools.wraps(test)
    def wrapper(**arguments: Json) -> None:
        _assert_success(run(test, arguments))

    return wrapper


def in_a_dev_shm(
    size: int, mount_options: str = "mode=1777"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test whose body runs where /dev/shm holds `size` bytes.

    After it, /dev/shm must hold what it held before: nothing.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def wrapper(**arguments: Json) -> None:
            done = run(test, arguments, dev_shm=size, mount_options=mount_options)
            _assert_success(done)

        return wrapper

    return decorate


@contextmanager
def alone_with(what: str) -> Iterator[None]:
    """Tests in other processes that want the same thing for themselves wait."""
    with Path(tempfile.gettempdir(), f"posix-shm-test-{os.getuid()}-{what}.lock").open(
        "w"
    ) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def setting(path: Path, value: str) -> Iterator[None]:
    """A setting of the kernel has a value, and then the one that it had before.

    The test is skipped where it can't be set.
    """
    with alone_with(path.name):
        before = path.read_text()
        try:
            path.write_text(value)
        except OSError as error:
            pytest.skip(f"{path} can't be set to {value}: {error}")
        try:
            yield
        finally:
            path.write_text(before)


def hide_proc() -> None:
    """Cover /proc, for the rest of a test in a /dev/shm of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/proc"], check=True)
    assert not Path("/proc/self").exists()


def hunt(program: str, *options: str, dev_shm: int | None = None) -> str:
    """Run one of :mod:`tests.hunts`, which must find nothing, and return what it printed."""
    command = [sys.executable, *OPTIONS, "-m", f"tests.hunts.{program}", *options]
    done = _run_command(command, dev_shm)
    _assert_success(done)
    return done.stdout


def with_dev_shm(command: list[str], size: int, mount_options: str = "mode=1777") -> list[str]:
    """What runs a command where /dev/shm is a new one that holds `size` bytes.

    The test is skipped where none can be mounted.
    """
    return [*namespace(), *_mounted(size, mount_options, command)]


def free_bytes() -> int:
    """How many bytes the file system of shared memory has left."""
    found = os.statvfs(_DEV_SHM)
    return found.f_bavail * found.f_frsize


def no_room(error: OSError) -> bool:
    """Whether this is the error of a full file system, with the note that the contract wants."""
    notes = " ".join(getattr(error, "__notes__", ()))
    return error.errno == errno.ENOSPC and str(free_bytes()) in notes and "container" in notes


def _run_command(
    command: list[str], dev_shm: int | None, mount_options: str = "mode=1777"
) -> subprocess.CompletedProcess[str]:
    if dev_shm is not None:
        command = with_dev_shm(command, dev_shm, mount_options)
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )


def _assert_success(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert not done.stderr, done.stderr


@functools.cache
def namespace() -> tuple[str, ...]:
    """The command that enters a mount namespace of its own; skips the test where none may."""
    for command in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
        try:
            subprocess.run(
                [*command, *_mounted(1 << 20, "mode=1777", ["true"])],
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    pytest.skip("mounting a file system in a namespace needs a privilege")


def _mounted(size: int, mount_options: str, command: list[str]) -> list[str]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},{mount_options}", "tmpfs", _DEV_SHM]
    return ["sh", "-c", f"{shlex.join(mount)} && exec {shlex.join(command)}"]


def _state_of_dev_shm() -> tuple[list[str], int]:
    gc.collect()
    return sorted(os.listdir(_DEV_SHM)), free_bytes()


def _main(module: str, function: str, arguments: str, has_own_dev_shm: str) -> None:
    test = getattr(importlib.import_module(module), function)
    body = getattr(test, "__wrapped__", test)
    before = _state_of_dev_shm()
    body(**json.loads(arguments))
    if json.loads(has_own_dev_shm):
        assert _state_of_dev_shm() == before


if __name__ == "__main__":
    _main(*sys.argv[1:])
