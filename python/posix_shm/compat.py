"""The interface of :class:`multiprocessing.shared_memory.SharedMemory`, less its surprises.

A program changes one import.  How it differs: docs/migrating.md.
"""

from __future__ import annotations

from contextlib import suppress

from ._open import fresh_name
from ._shm import delete_shm, open_shm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ._shm import SharedMemoryObject

__all__ = ["SharedMemory"]


class SharedMemory:
    """A shared memory object and a mapping of all of it, as in the standard library.

    An object lives until :meth:`unlink`, whatever process ends: there is no resource tracker.  A
    context manager that closes it.

    :param name: of the object, with or without a slash in front.  ``None`` is a fresh random one,
        if ``create`` is true.
    :param create: whether to make an object, or to attach to one.
    :param size: bytes of a new object, whose memory is reserved.  No effect when attaching.
    :param track: no effect.
    :raises FileExistsError: if ``create`` is true and the object exists.
    :raises FileNotFoundError: if ``create`` is false and it does not.
    :raises ValueError: for a negative size, a new object of 0 bytes, attaching to an object of 0
        bytes or without a name.
    :raises ShmError: ENOSPC if there is no room for the object, and for anything else that the
        system reports.

    Source: :mod:`multiprocessing.shared_memory`.
    """

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        if size < 0 or (create and size == 0):
            raise ValueError(f"size must be a positive number of bytes, not {size}")
        with _create(name, size) if create else _attach(name) as shm:
            try:
                self._mapping = shm.mmap()
            except BaseException:
                shm._unpublish()
                raise
            self._name = str(shm.name)
        self._size = len(self._mapping)
        self._buf: memoryview | None = memoryview(self._mapping)

    @property
    def buf(self) -> memoryview | None:
        """The bytes of the object; ``None`` once closed."""
        return self._buf

    @property
    def name(self) -> str:
        """The name of the object, without a slash."""
        return self._name[1:]

    @property
    def size(self) -> int:
        """The bytes that are mapped, once closed too."""
        return self._size

    def close(self) -> None:
        """Let go of the object, which lives on.

        Never raises because of a live view: the pages go with the last one.  Again: no effect.
        """
        if self._buf is not None:
            with suppress(BufferError):
                self._buf.release()
            self._buf = None
        self._mapping.close()

    def unlink(self) -> None:
        """Remove the name of the object, which lives until the last process lets go of it.

        :raises FileNotFoundError: if the name is gone.
        """
        delete_shm(self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[str, bool, int]]:
        return type(self), (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, size={self.size})"


def _create(name: str | None, size: int) -> SharedMemoryObject:
    if name is not None:
        return open_shm(name, direction="io", if_exists="error", size=size)
    shm = None
    while shm is None:
        shm = open_shm(fresh_name(), direction="io", if_exists=None, size=size)
    return shm


def _attach(name: str | None) -> SharedMemoryObject:
    if name is None:
        raise ValueError("attaching to an object needs its name")
    shm = open_shm(name, direction="io")
    if shm.size == 0:
        shm.close()
        raise ValueError(f"{shm.name} is empty, and no bytes can't be mapped")
    return shm
