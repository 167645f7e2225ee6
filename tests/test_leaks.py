"""Every public callable, over and over: nothing is more than before.

A round is one use of a callable that succeeds and, where there is one, one that fails on each of
the ways out.  Each is repeated 20,000 times, or less often where it says why.  A callable without
a round fails `test_every_public_callable_has_a_round`.  POSIX_SHM_ROUNDS, in the environment, is
another number than 20,000.
"""

from __future__ import annotations

import copy
import errno
import gc
import itertools
import mmap
import os
import pickle
import socket
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import posix_shm
import pytest
from posix_shm import (
    MapFlag,
    Mapping,
    MmapError,
    OpenFlag,
    Permission,
    Protection,
    SharedMemoryObject,
    ShmDoesNotExistError,
    ShmError,
    ShmExistsError,
    ShmPermissionError,
    _shm,
    delete_shm,
    ffi,
    is_open_shm,
    is_shm,
    make_shm,
    open_anonymous_shm,
    open_anonymous_shm_and_mmap,
    open_shm,
    open_shm_and_mmap,
    opened_shm,
    recv_shm,
    send_shm,
)

from . import support
from .support import PAGE

ROUNDS = int(os.environ.get("POSIX_SHM_ROUNDS", "20000"))
ABSURD = 1 << 60


class Bench:
    """What the rounds work on: one of each, open, closed and without rights."""

    def __init__(self, names: support.NameFactory, stack: ExitStack) -> None:
        self.name = names()
        self.taken = names()
        self.shm = stack.enter_context(
            open_shm(self.taken, direction="io", if_exists="error", size=2 * PAGE)
        )
        self.reader = stack.enter_context(open_shm(self.taken))
        self.anonymous = stack.enter_context(open_anonymous_shm(direction="io", size=2 * PAGE))
        self.empty = stack.enter_context(open_anonymous_shm(direction="io"))
        self.sealable = stack.enter_context(open_anonymous_shm(sealable=True, size=2 * PAGE))
        self.closed = open_anonymous_shm()
        self.closed.close()
        self.m = stack.enter_context(self.shm.mmap())
        self.readable = stack.enter_context(self.reader.mmap())
        self.none = stack.enter_context(self.shm.mmap(protections="none"))
        self.closed_m = self.shm.mmap()
        self.closed_m.close()
        self.large_bytes = bytes(300 << 10)
        self.ours, self.theirs = socket.socketpair()
        stack.enter_context(self.ours)
        stack.enter_context(self.theirs)


@pytest.fixture
def bench(names: support.NameFactory) -> Iterator[Bench]:
    """A bench of its own for each test."""
    with ExitStack() as stack:
        yield Bench(names, stack)


# ---- the rounds -----------------------------------------------------------------------------

Round = Callable[[Bench], object]
CASES: list[tuple[tuple[str, ...], Round, int]] = []


def of(*callables: str, rounds: int = ROUNDS) -> Callable[[Round], Round]:
    """Register a round of these callables."""

    def register(function: Round) -> Round:
        CASES.append((callables, function, min(rounds, ROUNDS)))
        return function

    return register


def fails(
    error: type[BaseException], function: Callable[..., object], *args: Any, **keywords: Any
) -> None:
    """The call raises this."""
    try:
        function(*args, **keywords)
    except error:
        return
    raise AssertionError(f"{function} did not fail")


def fails_with(error: int, function: Callable[..., object], *args: Any, **keywords: Any) -> None:
    """The call raises an OSError with this errno."""
    try:
        function(*args, **keywords)
    except OSError as caught:
        if caught.errno != error:
            raise
        return
    raise AssertionError(f"{function} did not fail")


@of("OpenFlag")
def _(_: Bench) -> None:
    assert OpenFlag(OpenFlag.CREAT) is OpenFlag.CREATE
    fails(ValueError, OpenFlag, "create")


@of("Permission")
def _(b: Bench) -> None:
    assert Permission(0o400) is Permission.USER_READ
    fails(TypeError, Permission)


@of("Protection")
def _(b: Bench) -> None:
    assert Protection(1) is Protection.READ
    fails(ValueError, Protection, "read")


@of("MapFlag")
def _(b: Bench) -> None:
    assert MapFlag(1) is MapFlag.SHARED
    fails(ValueError, MapFlag, None)


@of("ShmError", "ShmExistsError", "ShmDoesNotExistError", "ShmPermissionError")
def _(b: Bench) -> None:
    for kind in (ShmError, ShmExistsError, ShmDoesNotExistError, ShmPermissionError):
        assert kind(errno.ENOENT, "no", b.name).name == b.name
        kind().add_note(b.name)


@of("MmapError")
def _(b: Bench) -> None:
    assert MmapError(errno.ENXIO, "no", b.name).filename == b.name


@of("SharedMemoryObject", "make_shm")
def _(b: Bench) -> None:
    for make in (SharedMemoryObject, make_shm):
        fd = os.dup(b.shm.fd)
        fails(ShmError, make, fd, "/a/b")
        fails(TypeError, make, fd, 3)
        fails(ValueError, make, fd, "a\0b")
        make(fd, b.name).close()
        fails_with(errno.EBADF, make, fd, b.name)
        fails(TypeError, make, "3")
        fails(TypeError, make)


@of("delete_shm")
def _(b: Bench) -> None:
    open_shm(b.name, direction="io", if_exists="error").close()
    delete_shm(b.name)
    fails_with(errno.ENOENT, delete_shm, b.name)
    fails_with(errno.EINVAL, delete_shm, "")
    fails_with(errno.ENAMETOOLONG, delete_shm, "x" * 256)
    fails(TypeError, delete_shm, 3)


@of("is_shm", "is_open_shm")
def _(b: Bench) -> None:
    assert is_shm(b.shm)
    assert is_shm(b.closed)
    assert is_open_shm(b.shm)
    assert not is_open_shm(b.closed)
    assert not is_shm(b)


@of("open_shm")
def _(b: Bench) -> None:
    open_shm(b.name, direction="io", if_exists="error", permissions=["rusr", "wusr"]).close()
    fails_with(errno.EEXIST, open_shm, b.name, direction="io", if_exists="error")
    assert open_shm(b.name, direction="io", if_exists=None) is None
    delete_shm(b.name)
    fails_with(errno.ENOENT, open_shm, b.name)
    assert open_shm(b.name, if_does_not_exist=None) is None


@of("open_shm")
def _(b: Bench) -> None:
    open_shm(b.name, direction="io", if_exists="error", size=PAGE).close()
    open_shm(b.name, direction="io", if_exists="supersede", size=10).close()
    open_shm(b.name, direction="io", if_exists="truncate", size=PAGE).close()
    delete_shm(b.name)


@of("open_shm")
def _(b: Bench) -> None:
    options = {"direction": "io", "if_exists": "error"}
    fails_with(errno.ENOSPC, open_shm, b.name, **options, size=ABSURD)
    fails_with(errno.ENOSPC, open_shm, b.taken, direction="io", if_exists="supersede", size=ABSURD)
    fails_with(errno.EINVAL, open_shm, b.name, **options, size=-1)
    fails_with(errno.EINVAL, open_shm, "/a/b")
    fails(OverflowError, open_shm, b.name, **options, size=1 << 70)
    fails(TypeError, open_shm, b.name, **options, size="1")
    fails(ValueError, open_shm, b.name, direction="output")
    fails(ValueError, open_shm, b.name, **options, permissions="readable")
    fails(TypeError, open_shm, 3)


@of("open_anonymous_shm")
def _(b: Bench) -> None:
    open_anonymous_shm().close()
    open_anonymous_shm(direction="io", size=PAGE).close()
    fails(ShmExistsError, open_anonymous_shm, attempts=0)
    fails(ValueError, open_anonymous_shm, direction="output")


@of("open_anonymous_shm")
def _(b: Bench) -> None:
    open_anonymous_shm(sealable=True, size=PAGE).close()
    fails_with(errno.ENOSPC, open_anonymous_shm, size=ABSURD)
    fails_with(errno.ENOSPC, open_anonymous_shm, size=ABSURD, sealable=True)
    fails(ValueError, open_anonymous_shm, huge_pages=3)


@of("opened_shm")
def _(b: Bench) -> None:
    with opened_shm(b.taken) as shm:
        assert shm.size
    with opened_shm(b.name, if_does_not_exist=None) as nothing:
        assert nothing is None
    fails_with(errno.ENOENT, opened_shm(b.name).__enter__)
    try:
        with opened_shm(b.taken):
            raise KeyError
    except KeyError:
        pass


@of("open_shm_and_mmap")
def _(b: Bench) -> None:
    with open_shm_and_mmap(b.name, 10, direction="io", if_exists="error") as (shm, m):
        m[0] = 1
        view = memoryview(m)
        shm.delete()
    view.release()
    try:
        with open_shm_and_mmap(b.taken):
            raise KeyError
    except KeyError:
        pass


@of("open_shm_and_mmap")
def _(b: Bench) -> None:
    absurd = open_shm_and_mmap(b.name, ABSURD, direction="io", if_exists="error")
    fails_with(errno.ENOSPC, absurd.__enter__)
    fails_with(errno.ENXIO, open_shm_and_mmap(b.taken, offset=10 * PAGE).__enter__)
    fails_with(errno.ENOENT, open_shm_and_mmap(b.name).__enter__)
    fails(ValueError, open_shm_and_mmap, b.name, protections="readable")
    with open_shm_and_mmap(b.name, if_does_not_exist=None) as nothing:
        assert nothing == (None, None)


@of("open_anonymous_shm_and_mmap")
def _(b: Bench) -> None:
    with open_anonymous_shm_and_mmap(10, direction="io") as (_, m):
        m[0] = 1
    fails_with(errno.ENOSPC, open_anonymous_shm_and_mmap(ABSURD, direction="io").__enter__)
    fails(ShmExistsError, open_anonymous_shm_and_mmap(10, attempts=0).__enter__)
    fails_with(errno.EINVAL, open_anonymous_shm_and_mmap, 0)


@of("send_shm", "recv_shm")
def _(b: Bench) -> None:
    send_shm(b.ours, b.shm)
    recv_shm(b.theirs, b.taken).close()
    send_shm(b.ours, b.shm)
    fails_with(errno.EINVAL, recv_shm, b.theirs, "/a/b")
    fails(ValueError, send_shm, b.ours, b.closed)
    fails(TypeError, send_shm, b.ours, b)
    b.ours.send(b"\0")
    fails(ShmError, recv_shm, b.theirs)
    b.theirs.setblocking(False)
    fails(BlockingIOError, recv_shm, b.theirs)


# ---- SharedMemoryObject ---------------------------------------------------------------------


@of(*(f"SharedMemoryObject.{name}" for name in ("name", "closed")))
def _(b: Bench) -> None:
    assert (b.shm.name, b.shm.closed) == (b.taken, False)
    assert (b.closed.name, b.closed.closed) == (None, True)


@of(*(f"SharedMemoryObject.{name}" for name in ("fd", "fileno", "direction", "size", "seals")))
def _(b: Bench) -> None:
    assert b.shm.fd == b.shm.fileno()
    assert b.shm.direction == "io"
    assert b.shm.size == 2 * PAGE
    assert b.shm.seals == {"seal"}
    for name in ("fd", "direction", "size", "seals"):
        fails(ValueError, getattr, b.closed, name)
    fails(ValueError, b.closed.fileno)


@of("SharedMemoryObject.truncate")
def _(b: Bench) -> None:
    b.anonymous.truncate(0)
    b.anonymous.truncate(size=2 * PAGE)
    fails_with(errno.EINVAL, b.shm.truncate, -1)
    fails_with(errno.EINVAL, b.reader.truncate, 1)
    fails(OverflowError, b.shm.truncate, 1 << 70)
    fails(TypeError, b.shm.truncate, 1.0)
    fails(TypeError, b.shm.truncate, length=1)
    fails(ValueError, b.closed.truncate, 1)


@of("SharedMemoryObject.reserve")
def _(b: Bench) -> None:
    b.anonymous.truncate(PAGE)
    b.anonymous.reserve(2 * PAGE)
    b.shm.reserve()
    fails_with(errno.ENOSPC, b.shm.reserve, ABSURD)
    fails_with(errno.EINVAL, b.shm.reserve, -1)
    fails_with(errno.EBADF, b.reader.reserve)
    fails(OverflowError, b.shm.reserve, 1 << 70)
    fails(ValueError, b.closed.reserve)


@of("SharedMemoryObject.stat")
def _(b: Bench) -> None:
    assert b.shm.stat().st_size == 2 * PAGE
    fails(ValueError, b.closed.stat)


@of("SharedMemoryObject.chmod", "SharedMemoryObject.chown")
def _(b: Bench) -> None:
    b.shm.chmod(("rusr", "wusr"))
    b.shm.chmod(0o600)
    fails(ValueError, b.shm.chmod, "readable")
    fails(OverflowError, b.shm.chmod, 1 << 70)
    fails(ValueError, b.closed.chmod, 0)
    b.shm.chown()
    b.shm.chown(uid=os.getuid(), gid=-1)
    fails(TypeError, b.shm.chown, "root")
    fails(OverflowError, b.shm.chown, gid=-2)
    fails(ValueError, b.closed.chown)


@of("SharedMemoryObject.close", "SharedMemoryObject.with")
def _(b: Bench) -> None:
    shm = open_shm(b.taken)
    shm.close()
    shm.close()
    with open_shm(b.taken):
        pass
    fails(ValueError, shm.__enter__)
    shm = open_shm(b.taken)
    os.close(shm.fd)
    fails_with(errno.EBADF, shm.close)


@of("SharedMemoryObject.detach")
def _(b: Bench) -> None:
    shm = open_shm(b.taken)
    os.close(shm.detach())
    fails(ValueError, shm.detach)


@of("SharedMemoryObject.delete")
def _(b: Bench) -> None:
    with open_shm(b.name, direction="io", if_exists="error") as shm:
        shm.delete()
        fails_with(errno.ENOENT, shm.delete)
    fails(ValueError, b.anonymous.delete)


@of("SharedMemoryObject.seal")
def _(b: Bench) -> None:
    b.sealable.seal("shrink", "grow")
    assert b.sealable.seals == {"shrink", "grow"}
    fails(ShmPermissionError, b.sealable.truncate, 1)
    fails(ValueError, b.sealable.seal, "tight")
    fails(ShmError, b.shm.seal, "grow")
    fails(ValueError, b.closed.seal, "grow")


@of("SharedMemoryObject.mmap")
def _(b: Bench) -> None:
    b.shm.mmap(10, offset=PAGE + 1, protections="read", flags=["private", "noreserve"]).close()
    b.shm.mmap()  # and dropped
    b.shm.mmap(guard=True).close()
    fails_with(errno.ENXIO, b.shm.mmap, 10 * PAGE)
    fails_with(errno.EINVAL, b.empty.mmap)
    fails_with(errno.EACCES, b.reader.mmap, protections="write")
    fails_with(errno.EACCES, b.reader.mmap, protections="write", guard=True)


@of("SharedMemoryObject.mmap")
def _(b: Bench) -> None:
    fixed = ["shared", "fixed"]
    fails_with(errno.EEXIST, b.shm.mmap, addr=b.m.address, flags=fixed)
    fails_with(errno.EINVAL, b.shm.mmap, addr=b.m.address + 1, flags=fixed)
    fails_with(errno.EINVAL, b.shm.mmap, flags=0)
    fails(OverflowError, b.shm.mmap, addr=1 << 70)
    fails(ValueError, b.shm.mmap, protections=["none", "read"])
    fails(ValueError, b.shm.mmap, flags="sharde")
    fails(TypeError, b.shm.mmap, "1")
    fails(TypeError, b.shm.mmap, offset=None)
    fails(ValueError, b.closed.mmap)


@of("SharedMemoryObject.memoryview")
def _(b: Bench) -> None:
    view = memoryview(b.shm)
    with memoryview(b.shm), view[1:], memoryview(b.reader):
        view[0] = 1
    view.release()
    fails(BufferError, memoryview, b.empty)
    fails(ValueError, memoryview, b.closed)
    fails(TypeError, b.theirs.recv_into, b.reader)


@of("SharedMemoryObject.memoryview")
def _(b: Bench) -> None:
    with open_shm(b.taken) as shm:  # so that the addresses are given back, too
        view = memoryview(shm)
    assert view[0] in (0, 1)


@of("SharedMemoryObject.repr")
def _(b: Bench) -> None:
    assert repr(b.shm) != repr(b.closed)


@of("SharedMemoryObject.pickle")
def _(b: Bench) -> None:
    fails(TypeError, pickle.dumps, b.shm)
    fails(TypeError, copy.copy, b.shm)


@of("SharedMemoryObject.drop")
def _(b: Bench) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        open_shm(b.taken)


# Fewer: the record of a warning is slow to make.
@of("SharedMemoryObject.drop", rounds=4_000)
def _(b: Bench) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_shm(b.taken)
    kept = caught.pop().source
    assert kept is not None
    assert kept.closed


# ---- Mapping --------------------------------------------------------------------------------

NUMBERS = ("address", "offset", "protections", "flags", "readonly", "nbytes")


@of("Mapping")
def _(b: Bench) -> None:
    fails(TypeError, Mapping)


@of(*(f"Mapping.{name}" for name in (*NUMBERS, "closed", "faulted")))
def _(b: Bench) -> None:
    for name in NUMBERS:
        getattr(b.m, name)
        fails(ValueError, getattr, b.closed_m, name)
    assert (b.closed_m.closed, b.m.closed, b.m.faulted) == (True, False, False)


@of("Mapping.unmap", "Mapping.close", "Mapping.with")
def _(b: Bench) -> None:
    m = b.shm.mmap()
    view = memoryview(m)
    fails(BufferError, m.unmap)
    view.release()
    m.unmap()
    m.unmap()
    m = b.shm.mmap()
    with memoryview(m):
        m.close()
        m.close()
        fails(BufferError, m.unmap)
    with b.shm.mmap() as m:
        pass
    fails(ValueError, m.__enter__)
    try:
        with b.shm.mmap() as m:
            raise KeyError
    except KeyError:
        pass


@of("Mapping.check")
def _(b: Bench) -> None:
    b.m.check()
    b.closed_m.check()


# Fewer: a signal each.
@of("Mapping.check", "Mapping.faulted", rounds=2_000)
def _(b: Bench) -> None:
    b.anonymous.truncate(PAGE)
    m = b.anonymous.mmap(guard=True)
    b.anonymous.truncate(0)
    assert m[0] == 0
    assert m.faulted
    fails_with(errno.EFAULT, m.check)
    fails_with(errno.EFAULT, m.flush)
    fails_with(errno.EFAULT, m.__exit__, None, None, None)


@of("Mapping.flush", "Mapping.advise")
def _(b: Bench) -> None:
    b.m.flush()
    b.m.flush(PAGE, length=1)
    fails(ValueError, b.m.flush, 10 * PAGE)
    fails(TypeError, b.m.flush, "1")
    fails(ValueError, b.closed_m.flush)
    b.m.advise("willneed", 1, 1)
    b.m.advise(0)
    fails_with(errno.EINVAL, b.m.advise, 12_345)
    fails(ValueError, b.m.advise, "remember")
    fails(ValueError, b.m.advise, 0, -1)
    fails(ValueError, b.closed_m.advise, 0)


@of("Mapping.protect")
def _(b: Bench) -> None:
    m = b.shm.mmap()
    m.protect("read")
    with memoryview(m):
        m.protect(["read", "write"])
        fails(BufferError, m.protect, "none")
    m.close()
    fails_with(errno.EACCES, b.readable.protect, "write")
    fails(ValueError, b.m.protect, "readable")
    fails(ValueError, b.closed_m.protect, "read")


@of("Mapping.protect")
def _(b: Bench) -> None:
    # The pages move, because a pointer may be kept, and zeros stay in their place.
    for guard in (False, True):
        with b.shm.mmap(guard=guard) as m:
            for protections in ("read", "none"):
                memoryview(m).release()
                m.protect(protections)


@of("Mapping.lock", "Mapping.unlock")
def _(b: Bench) -> None:
    b.m.lock()
    b.m.unlock()
    fails(ValueError, b.closed_m.lock)
    fails(ValueError, b.closed_m.unlock)


@of("Mapping.populate")
def _(b: Bench) -> None:
    b.m.populate(workers=4)
    b.readable.populate(write=False)
    fails(TypeError, b.readable.populate, write=True)
    fails(BufferError, b.none.populate)
    fails(ValueError, b.m.populate, workers=0)
    fails(ValueError, b.closed_m.populate)


# Fewer: each starts threads and touches many pages.
@of("Mapping.populate", rounds=20)
def _(b: Bench) -> None:
    b.anonymous.truncate(17 << 20)
    with b.anonymous.mmap() as m:
        m.populate(write=False, workers=3)
    b.anonymous.truncate(0)


@of("Mapping.ndarray")
def _(b: Bench) -> None:
    a = b.m.ndarray((2, 3), "u2", 4, "F")
    a[0, 0] = 1
    fails(TypeError, b.m.ndarray, 10 * PAGE)
    fails(ValueError, b.m.ndarray, 1, "O")
    fails(ValueError, b.m.ndarray, 1, offset=-1)
    fails(BufferError, b.none.ndarray, 1)
    fails(ValueError, b.closed_m.ndarray, 1)


@of("Mapping.ndarray")
def _(b: Bench) -> None:
    m = b.shm.mmap()
    a = m.ndarray(3)
    m.close()
    a[0] = 1


@of("Mapping.item")
def _(b: Bench) -> None:
    b.m[0] = 200
    assert b.m[0] == 200
    fails(IndexError, b.m.__getitem__, 10 * PAGE)
    fails(IndexError, b.m.__setitem__, -10 * PAGE, 1)
    fails(ValueError, b.m.__setitem__, 0, 300)
    fails(TypeError, b.m.__setitem__, 0, "1")
    fails(TypeError, b.m.__getitem__, "0")
    fails(TypeError, b.m.__delitem__, 0)
    fails(TypeError, b.readable.__setitem__, 0, 1)
    fails(BufferError, b.none.__getitem__, 0)
    fails(ValueError, b.closed_m.__getitem__, 0)


@of("Mapping.slice")
def _(b: Bench) -> None:
    b.m[1:601] = b.m[:600]
    b.m[::-2] = b.m[::2]
    b.m[:100:2] = memoryview(b.m)[:50]
    fails(IndexError, b.m.__setitem__, slice(3), b"")
    fails(IndexError, b.m.__setitem__, slice(0, 9, 2), b"")
    fails(TypeError, b.m.__setitem__, slice(3), 3)
    fails(ValueError, b.m.__getitem__, slice(0, 1, 0))
    fails(TypeError, b.m.__getitem__, slice("1"))
    fails(TypeError, b.readable.__setitem__, slice(1), b"x")
    fails(BufferError, b.none.__getitem__, slice(1))
    fails(ValueError, b.closed_m.__getitem__, slice(1))
    fails(ValueError, b.closed_m.__setitem__, slice(1), b"x")


# Fewer: long enough to let the GIL go.
@of("Mapping.slice", rounds=1_000)
def _(b: Bench) -> None:
    size = len(b.large_bytes)
    b.anonymous.truncate(size)
    with b.anonymous.mmap() as m:
        m[:] = b.large_bytes
        assert len(m[:]) == size


@of("Mapping.sequence")
def _(b: Bench) -> None:
    assert len(b.m) == 2 * PAGE
    fails(ValueError, len, b.closed_m)
    assert list(iter(b.shm.mmap(3, offset=PAGE))) == [0, 0, 0]


@of("Mapping.memoryview")
def _(b: Bench) -> None:
    with memoryview(b.m) as view, view.cast("i") as ints, view[3:]:
        ints[0] = 1
    fails(TypeError, b.theirs.recv_into, b.readable)
    fails(BufferError, memoryview, b.none)
    fails(ValueError, memoryview, b.closed_m)


@of("Mapping.repr")
def _(b: Bench) -> None:
    assert repr(b.m) != repr(b.closed_m)


@of("Mapping.pickle")
def _(b: Bench) -> None:
    fails(TypeError, pickle.dumps, b.m)
    fails(TypeError, copy.copy, b.m)


class DerivedObject(SharedMemoryObject):
    """A class of a user."""


@of("subclasses")
def _(b: Bench) -> None:
    with DerivedObject(os.dup(b.shm.fd)) as shm, shm.mmap() as mapping, memoryview(mapping):
        pass


# ---- ffi ------------------------------------------------------------------------------------


@of("ffi.shm_open", "ffi.shm_unlink", "ffi.close")
def _(b: Bench) -> None:
    ffi.close(ffi.shm_open(b.name, ["rdwr", "creat"], "rusr"))
    ffi.shm_unlink(b.name)
    fails_with(errno.ENOENT, ffi.shm_open, b.name, ffi.O_RDONLY, 0)
    fails_with(errno.ENOENT, ffi.shm_unlink, b.name)
    fails_with(errno.EBADF, ffi.close, -1)
    fails(ValueError, ffi.shm_open, b.name, "readonly", 0)
    fails(TypeError, ffi.shm_open, 3, 0, 0)
    fails(TypeError, ffi.shm_unlink, None)


@of(*(f"ffi.{name}" for name in ("fchmod", "fchown", "fstat", "ftruncate")))
def _(b: Bench) -> None:
    fd = b.anonymous.fd
    ffi.fchmod(fd, ["rusr", "wusr"])
    ffi.fchown(fd, -1, -1)
    ffi.ftruncate(fd, PAGE)
    assert ffi.fstat(fd).st_size == PAGE
    fails(ValueError, ffi.fchmod, fd, "readable")
    fails_with(errno.EBADF, ffi.fchmod, -1, 0)
    fails_with(errno.EBADF, ffi.fchown, -1, 0, 0)
    fails_with(errno.EBADF, ffi.fstat, -1)
    fails_with(errno.EINVAL, ffi.ftruncate, fd, -1)


@of("ffi.mmap", "ffi.munmap")
def _(b: Bench) -> None:
    address = ffi.mmap(0, PAGE, ["read", "write"], "shared", b.shm.fd, 0)
    ffi.munmap(address, PAGE)
    fails_with(errno.EBADF, ffi.mmap, 0, PAGE, 1, "shared", -1, 0)
    fails_with(errno.EINVAL, ffi.munmap, 1, PAGE)
    fails(ValueError, ffi.mmap, 0, PAGE, "readable", "shared", -1, 0)
    fails(TypeError, ffi.munmap, "1", PAGE)
    fails(OverflowError, ffi.munmap, 1 << 70, PAGE)


@of("ffi.strerror")
def _(b: Bench) -> None:
    assert ffi.strerror(errno.ENOENT)
    fails(TypeError, ffi.strerror, "1")


# ---- counting -------------------------------------------------------------------------------

# What a reference too many, or too few, would be of.  Where these are immortal their count stands
# still, and only the other Pythons tell.
SINGLETONS: tuple[object, ...] = (
    *(None, True, False, 0, 1, "", b"", (), ...),
    *(int, bytes, memoryview, OSError, os.stat_result, os.fstat),
    *(SharedMemoryObject, Mapping, _shm.SharedMemoryObject, _shm.Mapping, _shm),
    *(ShmError, ShmExistsError, ShmDoesNotExistError, ShmPermissionError, MmapError),
    *(OpenFlag.CREAT, Permission.RUSR, Protection.READ, MapFlag.SHARED),
    DerivedObject,
)


class Count:
    """How much of everything there is."""

    def __init__(self, bench: Bench) -> None:
        gc.collect()
        gc.collect()  # frees what a Python without a GIL put off during the first
        ours = (*vars(bench).values(), *SINGLETONS)
        self.descriptors = len(support.descriptors())
        self.shared = len(support.shared_mappings())
        self.objects = len(support.objects())
        self.ranges = len(Path("/proc/self/maps").read_text().splitlines())
        self.references = sum(sys.getrefcount(item) for item in ours)
        self.blocks = sys.getallocatedblocks()
        pages = Path("/proc/self/statm").read_text().split()
        self.addresses = int(pages[0]) * PAGE
        self.resident = int(pages[1]) * PAGE


# What allocators keep for later: mimalloc, which a Python without a GIL has, keeps more.
SPARE = 1 << 20 if sysconfig.get_config_var("Py_GIL_DISABLED") else 256 << 10

# With an allocator of a sanitizer Python counts no blocks, and what is freed stays mapped.
MEMORY = ("blocks", "addresses", "resident")
MEMORY_IS_COUNTED = sys.getallocatedblocks() > 0


def growth(bench: Bench, function: Round, rounds: int) -> dict[str, int]:
    """What there is more of after so many rounds, beyond what the interpreter does by itself."""
    for _ in itertools.repeat(None, 50):
        function(bench)
    before = Count(bench)
    for _ in itertools.repeat(None, rounds):
        function(bench)
    after = Count(bench)
    # The interpreter's caches and its allocator have a life of their own; what a round leaves
    # behind, it leaves in each round.  The least that it can leave is a block of 32 bytes.
    allowed = {
        "descriptors": 0,
        "shared": 0,
        "objects": 0,
        "ranges": 10 + rounds // 100,
        "references": 10 + rounds // 100,
        "blocks": 150 + rounds // 20,
        "addresses": (8 << 20) + rounds * PAGE // 4,  # ranges side by side count as one above
        "resident": SPARE + 8 * rounds,
    }
    if not MEMORY_IS_COUNTED:
        allowed = {what: allowed[what] for what in allowed if what not in MEMORY}
    more = {what: getattr(after, what) - getattr(before, what) for what in allowed}
    return {what: amount for what, amount in more.items() if amount > allowed[what]}


def leaks(bench: Bench, function: Round, rounds: int) -> dict[str, int]:
    """What the rounds leave behind each time that it is tried; noise doesn't come thrice."""
    for _ in range(3):
        found = growth(bench, function, rounds)
        if not found:
            break
    return found


def case_ids() -> Iterator[str]:
    """The name of the first callable of each round, numbered where it has several."""
    seen: Counter[str] = Counter()
    for callables, _, _ in CASES:
        name = callables[0]
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}"


@pytest.mark.parametrize(("callables", "function", "rounds"), CASES, ids=list(case_ids()))
def test_nothing_is_more_than_before(
    bench: Bench, callables: tuple[str, ...], function: Round, rounds: int
) -> None:
    if "Mapping.ndarray" in callables:
        pytest.importorskip("numpy")
    assert leaks(bench, function, rounds) == {}


def public_members(kind: type) -> set[str]:
    """The names of its public methods and properties."""
    return {f"{kind.__name__}.{name}" for name in dir(kind) if not name.startswith("_")}


# What is not a public name, and is used all the same.
PROTOCOLS = {
    *(f"SharedMemoryObject.{use}" for use in ("with", "memoryview", "repr", "pickle", "drop")),
    *(f"Mapping.{use}" for use in ("with", "memoryview", "repr", "pickle")),
    *("Mapping.item", "Mapping.slice", "Mapping.sequence", "subclasses"),
}


def test_every_public_callable_has_a_round() -> None:
    public = {name for name in posix_shm.__all__ if callable(getattr(posix_shm, name))}
    public |= public_members(SharedMemoryObject) | public_members(Mapping)
    public |= {f"ffi.{name}" for name in ffi.__all__ if callable(getattr(ffi, name))}
    covered = {name for callables, _, _ in CASES for name in callables}
    assert covered == public | PROTOCOLS


# ---- the count itself -----------------------------------------------------------------------


def touched(size: int) -> mmap.mmap:
    """Pages that were not there before, unlike those of the allocator."""
    pages = mmap.mmap(-1, size)
    pages[:] = b"x" * size
    return pages


uncounted = pytest.mark.not_under_sanitizers("their allocators count nothing and keep everything")


@pytest.mark.parametrize(
    "what",
    [
        *("descriptors", "shared", "objects", "ranges", "references"),
        *(pytest.param(what, marks=uncounted) for what in MEMORY),
    ],
)
def test_each_kind_of_leak_is_found(bench: Bench, names: support.NameFactory, what: str) -> None:
    kept: list[Any] = []
    leaky: dict[str, Round] = {
        "descriptors": lambda b: kept.append(os.dup(b.shm.fd)),
        "shared": lambda b: kept.append(b.shm.mmap()),
        "objects": lambda _: open_shm(names(), direction="io", if_exists="error").close(),
        "ranges": lambda _: kept.append(mmap.mmap(-1, PAGE, mmap.MAP_SHARED)),
        "references": lambda b: kept.append(b.shm),
        "blocks": lambda _: kept.append(object()),
        "addresses": lambda _: kept.append(mmap.mmap(-1, 1 << 20)),
        "resident": lambda _: kept.append(touched(16 * PAGE)),
    }
    found = growth(bench, leaky[what], 200)
    for item in kept:
        if what == "descriptors":
            os.close(item)
        elif what in ("shared", "ranges", "addresses", "resident"):
            item.close()
    assert what in found
