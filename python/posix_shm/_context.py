"""Context managers that combine: opening, sizing and mapping in one ``with``."""

from __future__ import annotations

import errno
import os
from operator import index

from . import _shm
from ._open import open_anonymous_prepared, open_prepared
from ._shm import open_shm
from ._words import bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import EllipsisType, TracebackType
    from typing import Any, SupportsIndex, overload

    from ._shm import Mapping, SharedMemoryObject
    from ._typing import Direction, Flags, IfDoesNotExist, IfExists, Name


class _Opened:
    """Opens on the way in, closes on the way out.

    :param arguments: of :func:`open_shm`.
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments

    def __enter__(self) -> SharedMemoryObject | None:
        shm: SharedMemoryObject | None = open_shm(**self._arguments)
        self._shm = shm
        return shm

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shm is not None:
            self._shm.__exit__(exc_type, exc_value, traceback)


class _OpenedAndMapped:
    """Opens, sizes and maps on the way in, unmaps and closes on the way out.

    :param open_it: opens an object, and prepares it before anybody else can see a new one.
    :param opening: its arguments, beside ``size``, ``reserve`` and ``prepare``.
    :param mapping: the arguments of :meth:`SharedMemoryObject.mmap`.
    :param size: of an object that this creates.
    :param truncate: whether one that exists gets this size, too.
    :param reserve: whether its memory is reserved.
    """

    def __init__(
        self,
        open_it: Callable[..., SharedMemoryObject | None],
        opening: dict[str, Any],
        mapping: dict[str, Any],
        *,
        size: int,
        truncate: bool,
        reserve: bool,
    ) -> None:
        self._open_it = open_it
        self._opening = opening
        self._how_to_map = mapping
        self._size = size
        self._truncate = truncate
        self._reserve = reserve

    def __enter__(self) -> tuple[SharedMemoryObject, Mapping] | tuple[None, None]:
        self._mapping: Mapping | None = None
        try:
            self._shm = self._open_it(
                **self._opening, size=self._size, reserve=self._reserve, prepare=self._prepare
            )
        except BaseException:
            if self._mapping is not None:
                self._mapping.close()
            raise
        if self._shm is None or self._mapping is None:
            return None, None
        return self._shm, self._mapping

    def _prepare(self, shm: SharedMemoryObject) -> None:
        reserve = self._reserve and shm.direction == "io"
        if reserve:  # first: if there is no room, the object stays as it is
            shm.reserve(self._size if self._truncate else None)
        if self._truncate and shm.size != self._size:
            shm.truncate(self._size)
        self._mapping = shm.mmap(**self._how_to_map)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shm is None or self._mapping is None:
            return
        try:
            self._mapping.__exit__(exc_type, exc_value, traceback)
        finally:
            self._shm.__exit__(exc_type, exc_value, traceback)


def _opened_and_mapped(
    open_it: Callable[..., SharedMemoryObject | None],
    opening: dict[str, Any],
    *,
    writable: bool,
    size: SupportsIndex | None,
    length: SupportsIndex | None,
    truncate: bool | None,
    reserve: bool,
    offset: SupportsIndex,
    protections: Flags | None,
    flags: Flags,
    addr: SupportsIndex,
    guard: bool,
) -> _OpenedAndMapped:
    """Check everything that can be checked before an object is touched."""
    # NumPy's ints would be added modulo their size.
    length = None if length is None else index(length)
    size = 0 if size is None else index(size)
    offset = index(offset)
    addr = index(addr)
    if length is not None and (length <= 0 or offset < 0):
        error = errno.EINVAL if length <= 0 else errno.ENXIO
        exception = _shm.MmapError(error, os.strerror(error))
        exception.add_note(f"{length} bytes from offset {offset} on can't be mapped")
        raise exception
    if truncate and length is None:
        raise ValueError("truncate=True needs a length")
    if addr.bit_length() > 64:
        raise OverflowError(f"{addr} is no address")
    mapping = {
        "length": length,
        "addr": addr,
        "protections": None if protections is None else bits("protection", protections),
        "flags": bits("map", flags),
        "offset": offset,
        "guard": guard,
    }
    truncates = length is not None and (writable if truncate is None else truncate)
    return _OpenedAndMapped(
        open_it,
        opening,
        mapping,
        size=length + offset if truncates and length is not None else size,
        truncate=truncates,
        reserve=reserve,
    )


if TYPE_CHECKING:

    @overload
    def opened_shm(
        name: Name,
        *,
        direction: Direction = ...,
        if_exists: IfExists = ...,
        if_does_not_exist: IfDoesNotExist | EllipsisType = ...,
        permissions: Flags = ...,
        size: SupportsIndex | None = ...,
    ) -> AbstractContextManager[SharedMemoryObject]: ...

    @overload
    def opened_shm(
        name: Name,
        *,
        direction: Direction = ...,
        if_exists: IfExists | None = ...,
        if_does_not_exist: IfDoesNotExist | EllipsisType | None = ...,
        permissions: Flags = ...,
        size: SupportsIndex | None = ...,
    ) -> AbstractContextManager[SharedMemoryObject | None]: ...


def opened_shm(
    name: Name,
    *,
    direction: Direction = "input",
    if_exists: IfExists | None = "overwrite",
    if_does_not_exist: IfDoesNotExist | EllipsisType | None = ...,
    permissions: Flags = 0o600,
    size: SupportsIndex | None = None,
) -> AbstractContextManager[SharedMemoryObject | None]:
    """Open an object on the way into a ``with`` block and close it on the way out.

    Like ``with open_shm(...)``, and binds ``None`` where :func:`open_shm` returns ``None``.

    :param name: this and the others are those of :func:`open_shm`, which raises what it raises.

    Source: the seed's *with-open-shm*.
    """
    return _Opened(
        name=name,
        direction=direction,
        if_exists=if_exists,
        if_does_not_exist=if_does_not_exist,
        permissions=permissions,
        size=size,
    )


if TYPE_CHECKING:

    @overload
    def open_shm_and_mmap(
        name: Name,
        length: SupportsIndex | None = ...,
        *,
        truncate: bool | None = ...,
        reserve: bool = ...,
        direction: Direction = ...,
        if_exists: IfExists = ...,
        if_does_not_exist: IfDoesNotExist | EllipsisType = ...,
        permissions: Flags = ...,
        size: SupportsIndex | None = ...,
        addr: SupportsIndex = ...,
        protections: Flags | None = ...,
        flags: Flags = ...,
        offset: SupportsIndex = ...,
        guard: bool = ...,
    ) -> AbstractContextManager[tuple[SharedMemoryObject, Mapping]]: ...

    @overload
    def open_shm_and_mmap(
        name: Name,
        length: SupportsIndex | None = ...,
        *,
        truncate: bool | None = ...,
        reserve: bool = ...,
        direction: Direction = ...,
        if_exists: IfExists | None = ...,
        if_does_not_exist: IfDoesNotExist | EllipsisType | None = ...,
        permissions: Flags = ...,
        size: SupportsIndex | None = ...,
        addr: SupportsIndex = ...,
        protections: Flags | None = ...,
        flags: Flags = ...,
        offset: SupportsIndex = ...,
        guard: bool = ...,
    ) -> AbstractContextManager[tuple[SharedMemoryObject, Mapping] | tuple[None, None]]: ...


def open_shm_and_mmap(
    name: Name,
    length: SupportsIndex | None = None,
    *,
    truncate: bool | None = None,
    reserve: bool = True,
    direction: Direction = "input",
    if_exists: IfExists | None = "overwrite",
    if_does_not_exist: IfDoesNotExist | EllipsisType | None = ...,
    permissions: Flags = 0o600,
    size: SupportsIndex | None = None,
    addr: SupportsIndex = 0,
    protections: Flags | None = None,
    flags: Flags = "shared",
    offset: SupportsIndex = 0,
    guard: bool = False,
) -> AbstractContextManager[tuple[SharedMemoryObject, Mapping] | tuple[None, None]]:
    """Open an object, give it a size and map it; unmap and close it on the way out.

    Binds ``(shm, mapping)``, or ``(None, None)`` where :func:`open_shm` returns ``None``.  If a
    step fails, an object that this created is deleted, and one that existed is left as it was
    before that step.

    :param name: as for :func:`open_shm`.
    :param length: bytes to map; ``None`` is from the offset to the end.
    :param truncate: whether to make the object ``length + offset`` bytes long first.  ``None``: if
        the direction is "io" and a length is given.
    :param reserve: whether to commit its memory, so that a full file system is an error now and
        not a dead process later.  Not for an object opened for input, which can't.
    :param direction: this and the next four are those of :func:`open_shm`.
    :param addr: this and the next four are those of :meth:`SharedMemoryObject.mmap`.
    :raises ShmError: what :func:`open_shm`, ``truncate`` and ``reserve`` raise.
    :raises MmapError: what :meth:`SharedMemoryObject.mmap` raises.
    :raises ValueError: for an unknown word, or ``truncate=True`` without a length.

    Source: the seed's *with-open-shm-and-mmap*.
    """
    return _opened_and_mapped(
        open_prepared,
        {
            "name": name,
            "direction": direction,
            "if_exists": if_exists,
            "if_does_not_exist": if_does_not_exist,
            "permissions": permissions,
        },
        writable=direction == "io",
        size=size,
        length=length,
        truncate=truncate,
        reserve=reserve,
        offset=offset,
        protections=protections,
        flags=flags,
        addr=addr,
        guard=guard,
    )


def open_anonymous_shm_and_mmap(
    length: SupportsIndex,
    *,
    truncate: bool | None = None,
    reserve: bool = True,
    direction: Direction = "input",
    permissions: Flags = 0o600,
    attempts: int = 100,
    size: SupportsIndex | None = None,
    sealable: bool = False,
    huge_pages: bool | int = False,
    addr: SupportsIndex = 0,
    protections: Flags | None = None,
    flags: Flags = "shared",
    offset: SupportsIndex = 0,
    guard: bool = False,
) -> AbstractContextManager[tuple[SharedMemoryObject, Mapping]]:
    """Make an object without a name, give it a size and map it; unmap and close it on the way out.

    Binds ``(shm, mapping)``.

    :param length: bytes to map.
    :param truncate: this and the next are those of :func:`open_shm_and_mmap`.
    :param direction: this and the next five are those of :func:`open_anonymous_shm`.
    :param addr: this and the next four are those of :meth:`SharedMemoryObject.mmap`.
    :raises ShmError: what :func:`open_anonymous_shm`, ``truncate`` and ``reserve`` raise.
    :raises MmapError: what :meth:`SharedMemoryObject.mmap` raises.
    :raises ValueError: for an unknown word.

    Source: the seed's *with-open-shm-and-mmap\\**.
    """
    context = _opened_and_mapped(
        open_anonymous_prepared,
        {
            "direction": direction,
            "permissions": permissions,
            "attempts": attempts,
            "sealable": sealable,
            "huge_pages": huge_pages,
        },
        writable=direction == "io" or sealable or bool(huge_pages),
        size=size,
        length=length,
        truncate=truncate,
        reserve=reserve,
        offset=offset,
        protections=protections,
        flags=flags,
        addr=addr,
        guard=guard,
    )
    return context  # type: ignore[return-value]  # an anonymous object is never None
