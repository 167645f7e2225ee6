"""Opening, making and deleting objects: the words of Common Lisp's ``open`` over ``shm_open``."""

from __future__ import annotations

import errno
import os

from . import _shm
from ._objects import SharedMemoryObject
from ._words import bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import EllipsisType
    from typing import Literal, NoReturn, SupportsIndex, TypeGuard, overload

    from ._flags import Flags

    Name = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    Direction = Literal["input", "io"]
    IfExists = Literal["error", "overwrite", "truncate", "supersede"]
    IfDoesNotExist = Literal["error", "create"]

_ACCESS = {"input": _shm.O_RDONLY, "io": _shm.O_RDWR}
_NEW = _shm.O_CREAT | _shm.O_EXCL
_IF_EXISTS = ("error", "overwrite", "truncate", "supersede", None)
_IF_DOES_NOT_EXIST = ("error", "create", None)


def _default_if_does_not_exist(direction: str, if_exists: str | None) -> str:
    if direction == "input" or if_exists in ("overwrite", "truncate"):
        return "error"
    return "create"


def _plan(
    direction: str, if_exists: str | None, if_does_not_exist: str | EllipsisType | None
) -> tuple[int, bool, bool, bool]:
    if if_does_not_exist is ...:
        if_does_not_exist = _default_if_does_not_exist(direction, if_exists)
    create = if_does_not_exist == "create"
    oflag = _ACCESS[direction]
    if create:
        oflag |= _shm.O_CREAT
        if if_exists in ("error", None):
            oflag |= _shm.O_EXCL
    if if_exists == "truncate":
        oflag |= _shm.O_TRUNC
    supersede = create and if_exists == "supersede"
    none_if_exists = create and if_exists is None
    none_if_missing = if_does_not_exist is None
    return oflag, supersede, none_if_exists, none_if_missing


def _check_words(direction: object, if_exists: object, if_does_not_exist: object) -> None:
    """Say which of the words is wrong."""
    from ._flags import unknown_word

    for parameter, word, known in (
        ("direction", direction, tuple(_ACCESS)),
        ("if_exists", if_exists, _IF_EXISTS),
        ("if_does_not_exist", if_does_not_exist, (*_IF_DOES_NOT_EXIST, ...)),
    ):
        if word is not None and word is not ... and not isinstance(word, str):
            raise TypeError(f"{parameter} must be a word, not {word!r}")
        if word not in known:
            right = [word for word in known if word is not ...]
            raise unknown_word(parameter, word, right)


class _Plans(dict[tuple[object, object, object], tuple[int, bool, bool, bool]]):
    """What three words come to, worked out once for every combination of them.

    The flags of the system call, and what these can't say: whether to supersede, and whether the
    result is ``None`` if the object exists and if it is missing.
    """

    def __missing__(self, words: tuple[object, object, object]) -> NoReturn:
        _check_words(*words)
        raise KeyError(words)


_PLANS = _Plans(
    ((direction, if_exists, if_does_not_exist), _plan(direction, if_exists, if_does_not_exist))
    for direction in _ACCESS
    for if_exists in _IF_EXISTS
    for if_does_not_exist in (..., *_IF_DOES_NOT_EXIST)
)


if TYPE_CHECKING:

    @overload
    def open_shm(
        name: Name,
        *,
        direction: Direction = ...,
        if_exists: IfExists = ...,
        if_does_not_exist: IfDoesNotExist | EllipsisType = ...,
        permissions: Flags = ...,
        size: SupportsIndex | None = ...,
    ) -> SharedMemoryObject: ...

    @overload
    def open_shm(
        name: Name,
        *,
        direction: Direction = ...,
        if_exists: IfExists | None = ...,
        if_does_not_exist: IfDoesNotExist | EllipsisType | None = ...,
        permissions: Flags = ...,
        size: SupportsIndex | None = ...,
    ) -> SharedMemoryObject | None: ...


def open_shm(
    name: Name,
    *,
    direction: Direction = "input",
    if_exists: IfExists | None = "overwrite",
    if_does_not_exist: IfDoesNotExist | EllipsisType | None = ...,
    permissions: Flags = 0o600,
    size: SupportsIndex | None = None,
) -> SharedMemoryObject | None:
    """Open a shared memory object, and make it if need be.

    :param name: ``str``, ``bytes`` or path; a slash in front is added where it is missing.
    :param direction: "input" to read, "io" to read and write.
    :param if_exists: what to do with an object that exists: "overwrite" opens it as it is,
        "truncate" empties it.  If the call may create one, also: "error" raises, ``None`` returns
        ``None``, "supersede" gives the name to a new object and leaves the old one to those who
        have it.
    :param if_does_not_exist: "error" raises, "create" makes an empty object, ``None`` returns
        ``None``.  The default is "error" if the direction is "input" or ``if_exists`` is
        "overwrite" or "truncate", and "create" otherwise.
    :param permissions: of an object that the call creates, less the umask: an ``int``, or words
        such as "user-read", "group-all", "roth".
    :param size: bytes of an object that the call creates or truncates.  Nobody can open it shorter
        (on Linux), and its memory is reserved.  ``None`` leaves it empty.
    :returns: a :class:`SharedMemoryObject`, or ``None`` where a parameter says so.
    :raises ShmExistsError: if ``if_exists`` is "error" and the object exists.
    :raises ShmDoesNotExistError: if ``if_does_not_exist`` is "error" and it does not.
    :raises ShmPermissionError: if the system does not allow it.
    :raises ShmError: EINVAL or ENAMETOOLONG for a name that no object can have, ENOSPC if there is
        no room for ``size`` bytes, and for anything else that the system reports.
    :raises ValueError: for an unknown word, or a NUL in the name.

    Source: ``shm_open``; the seed's *open-shm*.
    """
    oflag, supersede, none_if_exists, none_if_missing = _PLANS[
        direction, if_exists, if_does_not_exist
    ]
    mode = bits("permission", permissions)
    try:
        if size is None and not supersede:
            return _shm.open_shm(SharedMemoryObject, name, oflag, mode)
        make = _shm.supersede_shm if supersede else _shm.publish_shm
        return make(SharedMemoryObject, name, oflag, mode, 0 if size is None else size, True)
    except _shm.ShmExistsError:
        if not none_if_exists:
            raise
    except _shm.ShmDoesNotExistError as error:
        if not none_if_missing:
            _add_hint(error, if_does_not_exist)
            raise
    return None


def _add_hint(error: _shm.ShmDoesNotExistError, if_does_not_exist: object) -> None:
    """Tell who left the parameter alone that it is what decides."""
    if if_does_not_exist is ...:
        error.add_note('if_does_not_exist="create" makes the object')


def open_prepared(
    name: Name,
    direction: Direction,
    if_exists: IfExists | None,
    if_does_not_exist: IfDoesNotExist | EllipsisType | None,
    permissions: Flags,
    size: int,
    *,
    reserve: bool,
    prepare: Callable[[SharedMemoryObject], None],
) -> SharedMemoryObject | None:
    """:func:`open_shm` that only succeeds if ``prepare`` does, and otherwise leaves no trace.

    An object that supersedes another gets the name when it is prepared.
    """
    oflag, supersede, none_if_exists, none_if_missing = _PLANS[
        direction, if_exists, if_does_not_exist
    ]
    new = (SharedMemoryObject, name, oflag, bits("permission", permissions), size, reserve)
    try:
        if supersede:
            return _supersede_prepared(new, prepare)
        shm = _shm.publish_shm(*new)
    except _shm.ShmExistsError:
        if not none_if_exists:
            raise
    except _shm.ShmDoesNotExistError as error:
        if not none_if_missing:
            _add_hint(error, if_does_not_exist)
            raise
    else:
        return prepare_or_unpublish(shm, prepare)
    return None


def _supersede_prepared(
    new: tuple[type[SharedMemoryObject], Name, int, int, int, bool],
    prepare: Callable[[SharedMemoryObject], None],
) -> SharedMemoryObject:
    try:
        shm = _shm.draft_shm(*new, True)
    except _shm.ShmError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return prepare_or_unpublish(_shm.supersede_shm(*new), prepare)
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
    return open_anonymous_reserving(
        direction, permissions, attempts, size, sealable, huge_pages, reserve=True
    )


def open_anonymous_reserving(
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
    try:
        oflag = _ACCESS[direction]
    except (KeyError, TypeError):
        _check_words(direction, None, None)
        raise
    mode = bits("permission", permissions)
    length = 0 if size is None else size
    if sealable or huge_pages:
        page_size = _check_page_size(huge_pages)
        return _shm.make_memfd(
            SharedMemoryObject,
            None,
            _shm.O_RDWR | _NEW,
            mode,
            length,
            reserve,
            sealable,
            page_size,
        )
    for _ in range(attempts):
        try:
            return _shm.make_nameless_shm(
                SharedMemoryObject, fresh_name(), oflag | _NEW, mode, length, reserve
            )
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
    return isinstance(obj, _shm.SharedMemoryObject)


def is_open_shm(obj: object) -> TypeGuard[SharedMemoryObject]:
    """Whether this is an open shared memory object.  Source: the seed's *open-shm-p*."""
    return isinstance(obj, _shm.SharedMemoryObject) and not obj.closed
