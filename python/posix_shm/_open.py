"""Opening objects in several steps, and those without a name.

:func:`posix_shm.open_shm` itself is in :mod:`posix_shm._shm`.
"""

from __future__ import annotations

import errno
import os

from . import _shm
from ._shm import SharedMemoryObject
from ._words import bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import EllipsisType
    from typing import Any, SupportsIndex, TypeGuard

    from ._typing import Direction, Flags, IfDoesNotExist, IfExists, Name


def open_prepared(
    *,
    name: Name,
    direction: Direction,
    if_exists: IfExists | None,
    if_does_not_exist: IfDoesNotExist | EllipsisType | None,
    permissions: Flags,
    size: int,
    reserve: bool,
    prepare: Callable[[SharedMemoryObject], None],
) -> SharedMemoryObject | None:
    """:func:`open_shm` that only succeeds if ``prepare`` does, and otherwise leaves no trace.

    An object that supersedes another gets the name when it is prepared.
    """
    oflag, supersede, none_if_exists, none_if_missing = _shm._way_to_open(
        direction, if_exists, if_does_not_exist
    )
    new = (name, oflag, bits("permission", permissions), size, reserve)
    try:
        if supersede:
            return _supersede_prepared(new, prepare)
        shm = _shm._publish_shm(*new)
    except _shm.ShmExistsError:
        if not none_if_exists:
            raise
    except _shm.ShmDoesNotExistError as error:
        if not none_if_missing:
            if if_does_not_exist is ...:
                error.add_note('if_does_not_exist="create" makes the object')
            raise
    else:
        return prepare_or_unpublish(shm, prepare)
    return None


def _supersede_prepared(
    new: tuple[Name, int, int, int, bool],
    prepare: Callable[[SharedMemoryObject], None],
) -> SharedMemoryObject:
    try:
        shm = _shm._draft_shm(*new, True)
    except _shm.ShmError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return prepare_or_unpublish(_shm._supersede_shm(*new), prepare)
    try:
        prepare(shm)
        shm._publish(True)
    except BaseException:
        shm.close()
        raise
    return shm


def prepare_or_unpublish(
    shm: SharedMemoryObject, prepare: Callable[[SharedMemoryObject], None]
) -> SharedMemoryObject:
    """The object, prepared; without its name and closed if that fails and the name was new."""
    try:
        prepare(shm)
    except BaseException:
        with shm:
            shm._unpublish()
        raise
    return shm


def fresh_name() -> str:
    """A random name that fits every platform's limit."""
    return f"/psm-{os.urandom(8).hex()}"


def open_anonymous_shm(
    *,
    direction: Direction = "input",
    permissions: Flags = 0o600,
    attempts: int = 100,
    size: SupportsIndex | None = None,
    sealable: bool = False,
    huge_pages: bool | int = False,
) -> SharedMemoryObject:
    """Make a shared memory object that has no name.

    Other processes get it through :func:`send_shm`, or inherit it.

    :param direction: as for :func:`open_shm`.
    :param permissions: as for :func:`open_shm`.
    :param attempts: how many fresh random names to try; the name is gone when the call returns.
    :param size: bytes, whose memory is reserved.  ``None`` leaves the object empty.
    :param sealable: allow :meth:`SharedMemoryObject.seal`.  Linux only.
    :param huge_pages: ``True`` for the system's huge pages, or a page size in bytes.  Linux only.
        An object that is sealable or of huge pages is always open for "io", and needs no name.
    :raises ShmExistsError: if every name was taken, so also if ``attempts`` is 0.
    :raises ShmError: ENOSPC if there is no room for ``size`` bytes, and for anything else that the
        system reports.
    :raises NotImplementedError: for what exists on Linux only.
    :raises ValueError: for an unknown word or a page size that is not a power of two.

    Source: ``shm_open`` with ``shm_unlink``, ``memfd_create``; the seed's *open-shm\\**.
    """
    return _open_anonymous(
        direction, permissions, attempts, size, sealable, huge_pages, reserve=True
    )


def open_anonymous_prepared(
    *, prepare: Callable[[SharedMemoryObject], None], **arguments: Any
) -> SharedMemoryObject:
    """:func:`open_anonymous_shm` that only succeeds if ``prepare`` does.

    :param arguments: those of :func:`open_anonymous_shm`, and ``reserve``.
    """
    return prepare_or_unpublish(_open_anonymous(**arguments), prepare)


def _open_anonymous(
    direction: Direction,
    permissions: Flags,
    attempts: int,
    size: SupportsIndex | None,
    sealable: bool,
    huge_pages: bool | int,
    *,
    reserve: bool,
) -> SharedMemoryObject:
    """:func:`open_anonymous_shm`, where the memory of ``size`` bytes need not be reserved."""
    oflag, *_ = _shm._way_to_open(direction, "error", "create")
    mode = bits("permission", permissions)
    length = 0 if size is None else size
    if sealable or huge_pages:
        page_size = _check_page_size(huge_pages)
        oflag, *_ = _shm._way_to_open("io", "error", "create")
        return _shm._make_memfd(None, oflag, mode, length, reserve, sealable, page_size)
    for _ in range(attempts):
        try:
            return _shm._make_nameless_shm(fresh_name(), oflag, mode, length, reserve)
        except _shm.ShmExistsError:
            pass
    error = _shm.ShmExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    error.add_note(f"no unused name was found in {attempts} attempts")
    raise error


def _check_page_size(huge_pages: bool | int) -> int:
    """What the C side takes: 0 for small pages, 1 for the system's huge ones, or their size."""
    if not hasattr(_shm, "F_SEAL_SEAL"):
        raise NotImplementedError("sealable objects and huge pages exist on Linux only")
    if not isinstance(huge_pages, int):
        raise TypeError(f"huge_pages must be a bool or an int, not {huge_pages!r}")
    size = int(huge_pages)
    if size < 0 or size & (size - 1):
        raise ValueError(f"a page size is a power of two, not {huge_pages!r}")
    return size


def make_shm(fd: SupportsIndex, name: Name | None = None) -> SharedMemoryObject:
    """Take over a descriptor.

    It becomes close-on-exec, and the object closes it.  On an error it is still the caller's.

    :param fd: of a shared memory object, from wherever.
    :param name: of the object, for :attr:`SharedMemoryObject.name`.
    :raises ShmError: EBADF if the descriptor is not open.

    Source: the seed's *make-shm*.
    """
    return SharedMemoryObject(fd, name)


def is_shm(obj: object) -> TypeGuard[SharedMemoryObject]:
    """Whether this is a shared memory object, open or closed.  Source: the seed's *shm-p*."""
    return isinstance(obj, SharedMemoryObject)


def is_open_shm(obj: object) -> TypeGuard[SharedMemoryObject]:
    """Whether this is an open shared memory object.  Source: the seed's *open-shm-p*."""
    return isinstance(obj, SharedMemoryObject) and not obj.closed
