"""The two public classes: words and keywords over the C types."""

from __future__ import annotations

from . import _shm
from ._words import bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, SupportsIndex

    import numpy as np
    import numpy.typing as npt

    from ._flags import Flags, MapFlag, Protection


class Mapping(_shm.Mapping):
    """Pages of a shared memory object in this process; made by :meth:`SharedMemoryObject.mmap`.

    A buffer of unsigned bytes: ``memoryview(m)``, ``np.frombuffer(m, dtype)``,
    ``struct.pack_into``, ``sock.recv_into(m)`` and the like work without a copy.  Indexing and
    slicing are those of :class:`mmap.mmap`: ints and bytes.

    What is alive when: docs/lifetimes.md.
    """

    __slots__ = ()
    __module__ = "posix_shm"

    @property
    def protections(self) -> Protection:
        """What may be done with the pages."""
        from ._flags import Protection

        return Protection(self._protections)

    @property
    def flags(self) -> MapFlag:
        """How they are mapped."""
        from ._flags import MapFlag

        return MapFlag(self._flags)

    def protect(self, protections: Flags) -> None:
        """Change what may be done with the pages.

        If a right is taken away and something may still point at the pages, they move to another
        address and zeros take their place.

        :param protections: as for :meth:`SharedMemoryObject.mmap`.
        :raises BufferError: if a live view would lose a right.
        :raises MmapError: EACCES for writing to an object that is opened for input.

        Source: ``mprotect``.
        """
        self._protect(bits("protection", protections))

    def advise(self, advice: int | str, offset: int = 0, length: int | None = None) -> None:
        """Tell the kernel how the pages will be used.

        :param advice: "normal", "random", "sequential", "willneed", "dontneed", and what else
            ``madvise`` knows on this platform; or an ``int``.
        :param offset: bytes into the mapping.
        :param length: bytes; ``None`` is up to the end.  All pages that the range touches are
            meant.
        :raises ValueError: for an unknown word, or a range outside the mapping.
        :raises MmapError: if the kernel refuses.

        Source: ``madvise``.
        """
        self._advise(bits("advice", advice), offset, length)

    def ndarray(
        self,
        shape: SupportsIndex | Sequence[SupportsIndex],
        dtype: npt.DTypeLike = "u1",
        offset: int = 0,
        order: Literal["C", "F"] = "C",
    ) -> np.ndarray[Any, np.dtype[Any]]:
        """A NumPy array over the pages, without a copy.

        It holds an export: the pages live as long as the array and its views.  It is read-only
        if the mapping is.

        :param shape: of the array.
        :param dtype: of its items; no objects.
        :param offset: bytes into the mapping.
        :param order: "C" or "F".
        :raises ValueError: for a dtype with objects, a negative dimension, or an offset outside.
        :raises TypeError: if the mapping is too small.
        """
        import numpy as np

        self.check()
        item_type = np.dtype(dtype)
        if item_type.hasobject:
            raise ValueError(f"an array of {item_type} holds pointers of this process only")
        if not 0 <= offset <= len(self):
            raise ValueError(f"offset {offset} is outside the mapping's {len(self)} bytes")
        if np.min(np.asarray(shape), initial=0) < 0:
            raise ValueError(f"shape {shape} has a negative dimension")
        pages = np.frombuffer(memoryview(self), np.uint8)
        return np.ndarray(shape, item_type, pages[offset:], order=order)


class SharedMemoryObject(_shm.SharedMemoryObject):
    """An open shared memory object; ``SharedMemoryObject(fd, name=None)`` is :func:`make_shm`.

    A context manager that closes it.  ``memoryview(shm)`` maps the whole object for as long as
    the view lives.  Dropping it without :meth:`close` is a :exc:`ResourceWarning`.

    Source: the seed's *shm*, *open-shm*, *closed-shm*.
    """

    __slots__ = ()
    __module__ = "posix_shm"

    def mmap(
        self,
        length: SupportsIndex | None = None,
        *,
        addr: SupportsIndex = 0,
        protections: Flags | None = None,
        flags: Flags = "shared",
        offset: SupportsIndex = 0,
        guard: bool = False,
    ) -> Mapping:
        """Map bytes of the object into memory.

        :param length: bytes; ``None`` is from the offset to the end.
        :param addr: where the first byte should be; 0 is anywhere.  With the flag "fixed" there
            or nowhere, and never in the place of another mapping.
        :param protections: "read", "write", "exec", or "none" alone.  ``None`` is "read" for an
            object opened for input, and "read" and "write" for one opened for io.
        :param flags: "shared" or "private", and "fixed", "noreserve", "populate", "locked".
        :param offset: of the first byte in the object; need not be a multiple of the page size.
        :param guard: read zeros, instead of dying of ``SIGBUS``, if a peer makes the object
            shorter or memory runs out; :attr:`Mapping.faulted` tells.
        :raises MmapError: ENXIO if the range is not inside the object, EINVAL if it is empty,
            EACCES for writing to an object that is opened for input, EEXIST if there is a mapping
            at a fixed address, ENOMEM.
        :raises ValueError: for an unknown word, or once closed.

        Source: ``mmap``; the seed's *mmap-shm*.
        """
        return self._mmap(
            Mapping,
            length,
            addr,
            None if protections is None else bits("protection", protections),
            bits("map", flags),
            offset,
            guard,
        )

    def chmod(self, permissions: Flags) -> None:
        """Change who may open the object.

        :param permissions: as for :func:`open_shm`; the umask does not apply.
        :raises ShmPermissionError: if the object is another user's.

        Source: ``fchmod``; the seed's *chmod-shm*.
        """
        self._chmod(bits("permission", permissions))

    def delete(self) -> None:
        """Remove the object's name: ``delete_shm(shm.name)``.  Works once closed, too.

        :raises ValueError: if the object has no name.
        :raises ShmDoesNotExistError: if the name is gone.

        Source: ``shm_unlink``; the seed's *delete-shm*.
        """
        if self.name is None:
            raise ValueError("an anonymous shared memory object has no name to delete")
        _shm.delete_shm(self.name)

    def seal(self, *seals: str) -> None:
        """Forbid changes of the object for good, whoever has it open.

        :param seals: "shrink", "grow", "write", "future-write" (by mappings made from now on), and
            "seal" (more seals).
        :raises ShmPermissionError: if the object is not of
            ``open_anonymous_shm(sealable=True)``, or has the seal "seal".
        :raises ShmError: EBUSY for "write" while a writable mapping exists.
        :raises ValueError: for an unknown word.

        Source: ``fcntl`` with ``F_ADD_SEALS``.
        """
        self._seal(bits("seal", seals))

    @property
    def seals(self) -> frozenset[str]:
        """The words of the seals that the object has.  One that can't be sealed has "seal"."""
        from ._flags import WORDS

        present = self._seals
        return frozenset(
            word.replace("_", "-") for word, bit in WORDS["seal"].items() if present & bit
        )

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]:
        """Go with a message of multiprocessing; for any other pickler a :exc:`TypeError`."""
        from . import _travel

        return _travel.reduce(self)
