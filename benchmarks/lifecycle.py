"""The life of a small object, and attaching to one that exists.

Each contender is written as its users would write it.  A contender is four functions that do
something for each of many names; here the names are one and the same, in ``scaling.py`` they are
up to 100,000.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from multiprocessing import shared_memory
from typing import Protocol

from posix_shm import delete_shm, open_shm

from . import baseline
from .contenders import OURS, POSIX_IPC, SHARED_ARRAY, STDLIB, C, is_installed, variant
from .harness import Repeat, Session, timed

if is_installed(POSIX_IPC):
    import posix_ipc
if is_installed(SHARED_ARRAY):
    import numpy as np
    import SharedArray

SIZE = 4096

ForEach = Callable[[Iterable[str]], float]
"""Does something for each name, and returns the seconds that it took."""


@dataclass(frozen=True)
class Contender:
    """What one library does with many small objects."""

    create_cycles: ForEach  # create 4 KiB, map, touch, unmap, close, delete
    make_all: ForEach  # the same, without deleting
    attach_all: ForEach  # open, map, touch, unmap, close
    delete_all: ForEach
    prefix: str = "/"  # how it spells a name

    def names(self, session: Session, count: int) -> list[str]:
        """Different names that nobody else uses."""
        stem = session.prefix.removeprefix("/")
        return [f"{self.prefix}{stem}-{i}" for i in range(count)]


class Create(Protocol):
    """Creates an object for each name, and deletes each again if it is not to be kept."""

    def __call__(self, names: Iterable[str], *, keep: bool) -> None: ...


def _contender(
    create: Create,
    attach: Callable[[Iterable[str]], None],
    delete: Callable[[Iterable[str]], None],
    prefix: str = "/",
) -> Contender:
    return Contender(
        timed(partial(create, keep=False)),
        timed(partial(create, keep=True)),
        timed(attach),
        timed(delete),
        prefix,
    )


# ---- posix_shm -----------------------------------------------------------------------------


def _ours_create(names: Iterable[str], *, keep: bool, size: int | None = None) -> None:
    for name in names:
        shm = open_shm(name, direction="io", if_exists="error", size=size)
        if size is None:
            shm.truncate(SIZE)
        mapping = shm.mmap()
        mapping[0] = 1
        mapping.unmap()
        shm.close()
        if not keep:
            delete_shm(name)


def _ours_attach(names: Iterable[str]) -> None:
    for name in names:
        shm = open_shm(name, direction="io")
        mapping = shm.mmap()
        mapping[0] = 1
        mapping.unmap()
        shm.close()


def _ours_delete(names: Iterable[str]) -> None:
    for name in names:
        delete_shm(name)


# ---- multiprocessing.shared_memory ---------------------------------------------------------


def _stdlib_create(names: Iterable[str], *, keep: bool) -> None:
    for name in names:
        shm = shared_memory.SharedMemory(name, create=True, size=SIZE)
        shm.buf[0] = 1
        shm.close()
        if not keep:
            shm.unlink()


def _stdlib_attach(names: Iterable[str]) -> None:
    for name in names:
        shm = shared_memory.SharedMemory(name)
        shm.buf[0] = 1
        shm.close()


def _stdlib_delete(names: Iterable[str]) -> None:
    for name in names:
        shm = shared_memory.SharedMemory(name)  # there is no other way to unlink
        shm.close()
        shm.unlink()


# ---- posix_ipc and mmap --------------------------------------------------------------------


def _posix_ipc_create(names: Iterable[str], *, keep: bool) -> None:
    for name in names:
        shm = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=SIZE)
        mapping = mmap.mmap(shm.fd, SIZE)
        mapping[0] = 1
        mapping.close()
        shm.close_fd()
        if not keep:
            shm.unlink()


def _posix_ipc_attach(names: Iterable[str]) -> None:
    for name in names:
        shm = posix_ipc.SharedMemory(name)
        mapping = mmap.mmap(shm.fd, shm.size)
        mapping[0] = 1
        mapping.close()
        shm.close_fd()


def _posix_ipc_delete(names: Iterable[str]) -> None:
    for name in names:
        posix_ipc.unlink_shared_memory(name)


# ---- SharedArray ---------------------------------------------------------------------------


def _shared_array_create(names: Iterable[str], *, keep: bool) -> None:
    for name in names:
        array = SharedArray.create(name, SIZE, np.uint8)
        array[0] = 1
        del array
        if not keep:
            SharedArray.delete(name)


def _shared_array_attach(names: Iterable[str]) -> None:
    for name in names:
        array = SharedArray.attach(name)
        array[0] = 1
        del array


def _shared_array_delete(names: Iterable[str]) -> None:
    for name in names:
        SharedArray.delete(name)


# ---- side by side --------------------------------------------------------------------------

_ALL = {
    C: Contender(
        baseline.for_each("create_cycles"),
        baseline.for_each("make_all"),
        baseline.for_each("attach_all"),
        baseline.for_each("delete_all"),
    ),
    OURS: _contender(_ours_create, _ours_attach, _ours_delete),
    STDLIB: _contender(_stdlib_create, _stdlib_attach, _stdlib_delete, prefix=""),
    POSIX_IPC: _contender(_posix_ipc_create, _posix_ipc_attach, _posix_ipc_delete),
    SHARED_ARRAY: _contender(
        _shared_array_create, _shared_array_attach, _shared_array_delete, prefix="shm://"
    ),
}
CONTENDERS = {label: contender for label, contender in _ALL.items() if is_installed(label)}

CREATE = "create cycle"
PUBLISH = "create cycle with size="
ATTACH = "attach cycle"

UNCHECKED_C = variant(C, "without fstat")

# The cycles in which C claims to make the same system calls; calls.py looks.
SAME_CALLS: dict[str, tuple[ForEach, ForEach]] = {
    CREATE: (CONTENDERS[C].create_cycles, CONTENDERS[OURS].create_cycles),
    PUBLISH: (
        baseline.for_each("publish_cycles"),
        timed(partial(_ours_create, keep=False, size=SIZE)),
    ),
    ATTACH: (CONTENDERS[C].attach_all, CONTENDERS[OURS].attach_all),
}


def _again_and_again(for_each: ForEach, name: str) -> Repeat:
    return lambda count: for_each(itertools.repeat(name, count))


def run(session: Session) -> None:
    """Measure the cycles."""
    rounds = session.effort(600, 60)
    names = {label: c.names(session, 1)[0] for label, c in CONTENDERS.items()}

    create = {
        label: _again_and_again(contender.create_cycles, names[label])
        for label, contender in CONTENDERS.items()
    }
    unchecked = baseline.for_each("unchecked_create_cycles")
    create[UNCHECKED_C] = _again_and_again(unchecked, names[C])
    session.compare(CREATE, create, rounds=rounds, round_seconds=0.001)

    in_c, ours = SAME_CALLS[PUBLISH]
    publish = {
        C: _again_and_again(in_c, names[C]),
        OURS: _again_and_again(ours, names[OURS]),
    }
    session.compare(PUBLISH, publish, rounds=rounds, round_seconds=0.001)

    session.compare(
        ATTACH,
        {label: _attach(contender, names[label]) for label, contender in CONTENDERS.items()},
        rounds=rounds,
        round_seconds=0.001,
    )


def _attach(contender: Contender, name: str) -> Repeat:
    def run(count: int) -> float:
        contender.make_all([name])
        try:
            return contender.attach_all(itertools.repeat(name, count))
        finally:
            contender.delete_all([name])

    return run
