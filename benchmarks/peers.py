"""Large objects, the same way from every library.

Where one object takes milliseconds, a few more calls of Python in front of it do not matter; where
it takes microseconds, as in ``lifecycle.py``, each library is written out.
"""

from __future__ import annotations

import mmap
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import shared_memory
from typing import Any

from posix_shm import Mapping, delete_shm, open_shm

from .contenders import OURS, POSIX_IPC, SHARED_ARRAY, STDLIB, is_installed
from .harness import Repeat

if is_installed(POSIX_IPC):
    import posix_ipc
if is_installed(SHARED_ARRAY):
    import numpy as np
    import numpy.typing as npt
    import SharedArray


POPULATING_THREADS = 2


class Peer(ABC):
    """A library.  Names have a leading slash; what a method returns is the library's own."""

    @abstractmethod
    def create(self, name: str, size: int) -> Any:
        """Make an object and map it, and close what can be closed then."""

    @abstractmethod
    def attach(self, name: str) -> Any:
        """Map an object that exists, and close what can be closed then."""

    def pages(self, handle: Any) -> Any:
        """What can be indexed."""
        return handle

    def copy(self, handle: Any, start: int, data: bytes) -> None:
        """Copy bytes in."""
        self.pages(handle)[start : start + len(data)] = data

    def close(self, handle: Any) -> None:
        """Unmap."""
        handle.close()

    @abstractmethod
    def delete(self, handle: Any, name: str) -> None:
        """Remove the name."""

    @contextmanager
    def fresh(self, name: str, size: int) -> Iterator[Any]:
        """A new object that is gone afterwards."""
        handle = self.create(name, size)
        try:
            yield handle
        finally:
            self.delete(handle, name)
            self.close(handle)


class Ours(Peer):
    """``posix_shm``, with its memory reserved."""

    def create(self, name: str, size: int) -> Mapping:
        with open_shm(name, direction="io", if_exists="error", size=size) as shm:
            return shm.mmap()

    def attach(self, name: str) -> Mapping:
        with open_shm(name) as shm:
            return shm.mmap()

    def delete(self, handle: Mapping, name: str) -> None:
        delete_shm(name)


class Populating(Ours):
    """Ours, with the pages faulted in by two threads before anything is copied."""

    def __init__(self, *, reserve: bool) -> None:
        self._reserve = reserve

    def create(self, name: str, size: int) -> Mapping:
        with open_shm(name, direction="io", if_exists="error") as shm:
            if self._reserve:
                shm.reserve(size)
            else:
                shm.truncate(size)
            mapping = shm.mmap()
        mapping.populate(workers=POPULATING_THREADS)
        return mapping


class Stdlib(Peer):
    """``multiprocessing.shared_memory``, which keeps its descriptor while it is mapped."""

    def create(self, name: str, size: int) -> shared_memory.SharedMemory:
        return shared_memory.SharedMemory(name[1:], create=True, size=size)

    def attach(self, name: str) -> shared_memory.SharedMemory:
        return shared_memory.SharedMemory(name[1:])

    def pages(self, handle: shared_memory.SharedMemory) -> memoryview:
        return handle.buf

    def delete(self, handle: shared_memory.SharedMemory, name: str) -> None:
        handle.unlink()


class PosixIpc(Peer):
    """``posix_ipc`` with ``mmap``, which keeps a descriptor of its own."""

    def create(self, name: str, size: int) -> mmap.mmap:
        return self._map(posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=size))

    def attach(self, name: str) -> mmap.mmap:
        return self._map(posix_ipc.SharedMemory(name))

    @staticmethod
    def _map(shm: posix_ipc.SharedMemory) -> mmap.mmap:
        mapping = mmap.mmap(shm.fd, shm.size)
        shm.close_fd()
        return mapping

    def delete(self, handle: mmap.mmap, name: str) -> None:
        posix_ipc.unlink_shared_memory(name)


class SharedArrays(Peer):
    """``SharedArray``, which unmaps when the array is dropped."""

    def create(self, name: str, size: int) -> npt.NDArray[np.uint8]:
        return SharedArray.create(self._url(name), size, np.uint8)

    def attach(self, name: str) -> npt.NDArray[np.uint8]:
        return SharedArray.attach(self._url(name))

    @staticmethod
    def _url(name: str) -> str:
        return f"shm:/{name}"

    def copy(self, handle: npt.NDArray[np.uint8], start: int, data: bytes) -> None:
        handle[start : start + len(data)] = np.frombuffer(data, np.uint8)

    def close(self, handle: npt.NDArray[np.uint8]) -> None:
        pass

    def delete(self, handle: npt.NDArray[np.uint8], name: str) -> None:
        SharedArray.delete(self._url(name))


def fill(peer: Peer, name: str, size: int, piece: bytes) -> Repeat:
    """Make an object and fill it with copies of some bytes; letting go of it is not timed."""

    def run(count: int) -> float:
        nanoseconds = 0
        for _ in range(count):
            start = time.perf_counter_ns()
            with peer.fresh(name, size) as handle:
                for at in range(0, size, len(piece)):
                    peer.copy(handle, at, piece)
                nanoseconds += time.perf_counter_ns() - start
            del handle
        return nanoseconds / 1e9

    return run


_ALL = {OURS: Ours(), STDLIB: Stdlib(), POSIX_IPC: PosixIpc(), SHARED_ARRAY: SharedArrays()}
PEERS: dict[str, Peer] = {label: peer for label, peer in _ALL.items() if is_installed(label)}
