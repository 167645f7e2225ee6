"""Shared memory objects whose content is an ``.npy`` file.

Such an object says itself what array it holds, so its name is all that another process needs, and
``np.load("/dev/shm/name", mmap_mode="r")`` reads it, too.

An array that these functions return keeps its pages itself: nothing else has to be kept, and they
go when the last view of it does.
"""

from __future__ import annotations

import errno
import io
import math
import operator
import sys
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from . import _shm
from ._flags import unknown_word
from ._shm import open_shm
from ._words import bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ._shm import Mapping, SharedMemoryObject
    from ._typing import Flags, Name

__all__ = ["attach", "create", "save"]

_ORDERS = ("C", "F")
_IF_EXISTS = ("error", "supersede")

_HEADER_ROOM = 1 << 16  # bytes that every header fits into: NumPy reads 10,000 characters


# ---- headers -----------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """What a header says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]
    offset: int  # of the first item, in bytes
    end: int  # of the last one

    def over(self, mapping: Mapping) -> npt.NDArray[Any]:
        """The array in a mapping of the whole object."""
        if self.end > len(mapping):
            raise ValueError(f"its header promises {self.end} bytes, it has {len(mapping)}")
        return mapping.ndarray(self.shape, self.dtype, self.offset, self.order)


class _InAscii:
    """Has the ``repr`` of a value, with escapes for what is not ASCII.

    So headers need no encoding, and every version of NumPy can read them.
    """

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return ascii(self._value)


def _header(
    shape: tuple[int, ...], dtype: np.dtype[Any], order: Literal["C", "F"]
) -> tuple[bytes, _Layout]:
    """A header, and what its readers will make of it."""
    if dtype.hasobject:
        raise ValueError(f"an array of {dtype} holds pointers of this process only")
    stream = io.BytesIO()
    fields = {
        "descr": _InAscii(npy_format.dtype_to_descr(dtype)),
        "fortran_order": order == "F",
        "shape": shape,
    }
    npy_format.write_array_header_2_0(stream, fields)
    header = stream.getvalue()
    return header, _read_header(header)


def _read_header(content: bytes) -> _Layout:
    """Read the header at the beginning of whatever this is.

    :raises ValueError: if there is none, or no array can be as it says.
    """
    stream = io.BytesIO(content)
    try:
        shape, is_fortran, dtype = _fields(stream)
    except ValueError:
        raise
    except Exception as error:  # whatever a parser stumbles over in what somebody else wrote
        raise ValueError(f"its header can't be read: {error!r}") from error
    if dtype.hasobject:
        raise ValueError(f"its items are {dtype}: pointers of the process that wrote them")
    if not _is_sound(dtype):
        raise ValueError("its items have an impossible size")
    count = math.prod(shape)
    end = stream.tell() + count * dtype.itemsize
    if min(shape, default=0) < 0 or max(count, end) > sys.maxsize:
        raise ValueError(f"no array of {dtype} has the shape {shape}")
    dimensions = tuple(map(int, shape))  # to NumPy, True is no length
    return _Layout(dimensions, dtype, "F" if is_fortran else "C", stream.tell(), end)


def _is_sound(dtype: np.dtype[Any]) -> bool:
    """Whether nothing in an item has a negative size, to which NumPy 1 turns very large ones."""
    parts = [field[0] for field in (dtype.fields or {}).values()]
    if dtype.subdtype is not None:
        parts.append(dtype.base)
    return dtype.itemsize >= 0 and all(map(_is_sound, parts))


def _fields(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(stream)
    if version == (3, 0):
        return _fields_of_version_3(stream)
    if version != (2, 0):
        raise ValueError(f"it is of version {version} of the format, which nobody knows")
    return npy_format.read_array_header_2_0(stream)


def _fields_of_version_3(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Version 2 in UTF-8 instead of Latin-1.  NumPy has no public function for it."""
    length = int.from_bytes(stream.read(4), "little")
    text = stream.read(length).decode().encode("ascii", "backslashreplace")
    return npy_format.read_array_header_2_0(io.BytesIO(len(text).to_bytes(4, "little") + text))


# ---- objects -----------------------------------------------------------------------------------


def create(
    name: Name,
    shape: int | Sequence[int],
    dtype: npt.DTypeLike,
    *,
    order: Literal["C", "F"] = "C",
    if_exists: Literal["error", "supersede"] = "error",
    permissions: Flags = 0o600,
) -> npt.NDArray[Any]:
    """Make a shared memory object that holds an array of zeros.

    Whoever attaches to it finds it complete, and sees what is written to it from then on.  Its
    memory is reserved: writing to it can't fail.

    :param name: as for :func:`open_shm`.
    :param shape: of the array; an int for one dimension.
    :param dtype: of its items.
    :param order: "C" or "F": whether the last index or the first varies fastest in memory.
    :param if_exists: "error", or "supersede": the name refers to the new array afterwards, and
        whoever has the old one keeps that.
    :param permissions: as for :func:`open_shm`.
    :returns: the array, which can be written to.
    :raises ShmExistsError: if ``if_exists`` is "error" and the object exists.
    :raises ShmError: ENOSPC if there is no room, and as for :func:`open_shm`.
    :raises ValueError: for an unknown word, a shape that no array has, and items that the format
        can't describe: objects, overlapping fields, thousands of fields.
    :raises TypeError: for what is neither a shape nor a dtype.
    """
    _check_word("order", order, _ORDERS)
    dimensions = _dimensions(shape)
    item_type = np.dtype(dtype)
    if item_type.subdtype is not None:  # its dimensions are more dimensions of the array
        item_type, inner = item_type.subdtype
        dimensions += inner
    return _publish(name, *_header(dimensions, item_type, order), None, if_exists, permissions)


def save(
    name: Name,
    array: npt.ArrayLike,
    *,
    if_exists: Literal["error", "supersede"] = "error",
    permissions: Flags = 0o600,
) -> None:
    """Make a shared memory object that holds a copy of an array.

    The object only gets its name when the copy is complete, so nobody attaches to half an array,
    and a process that is killed on the way leaves nothing.  Where the system can't do this (it is
    Linux, with ``/proc``, that can) the header is written last, and until then :func:`attach`
    raises :exc:`ValueError`.

    :param name: as for :func:`open_shm`.
    :param array: the array, or what NumPy can make one of.
    :param if_exists: as for :func:`create`.  With "supersede" the name refers to a complete array
        at every moment: the old one or the new one.
    :param permissions: as for :func:`open_shm`.
    :raises ShmExistsError: as :func:`create` does.
    :raises ShmError: as :func:`create` does.
    :raises ValueError: as :func:`create` does.
    """
    source = np.asarray(array)
    is_fortran = source.flags.f_contiguous and not source.flags.c_contiguous
    header, layout = _header(source.shape, source.dtype, "F" if is_fortran else "C")
    _publish(name, header, layout, source, if_exists, permissions)


def attach(name: Name, *, writable: bool = False) -> npt.NDArray[Any]:
    """Map the array that a shared memory object holds, without a copy.

    :param name: as for :func:`open_shm`.
    :param writable: whether the array can be written to, which all who have it see.
    :returns: the array.
    :raises ShmDoesNotExistError: if there is no such object.
    :raises ShmPermissionError: if the system does not allow it.
    :raises ValueError: if the object does not hold an array: the header is missing, damaged or not
        to be trusted, or the object is shorter than its header says.
    """
    direction: Literal["input", "io"] = "io" if writable else "input"
    with open_shm(name, direction=direction, if_does_not_exist="error") as shm:
        try:
            if shm.size == 0:
                raise ValueError("it is empty")
            with shm.mmap() as mapping:
                return _read_header(mapping[:_HEADER_ROOM]).over(mapping)
        except ValueError as error:
            raise ValueError(f"{shm.name!r} does not hold an array: {error}") from error


def _publish(
    name: Name,
    header: bytes,
    layout: _Layout,
    source: npt.NDArray[Any] | None,
    if_exists: Literal["error", "supersede"],
    permissions: Flags,
) -> npt.NDArray[Any]:
    """Make an object, fill it, and only then give it its name."""
    _check_word("if_exists", if_exists, _IF_EXISTS)
    supersede = if_exists == "supersede"
    oflag = _shm.O_RDWR | _shm.O_CREAT | (0 if supersede else _shm.O_EXCL)
    mode = bits("permission", permissions)
    try:
        with _shm._draft_shm(name, oflag, mode, layout.end, True, supersede) as shm:
            array = _fill(shm, header, layout, source)
            shm._publish(supersede)
            return array
    except _shm.ShmError as error:
        if error.errno != errno.ENOTSUP:
            raise
    with open_shm(
        name, direction="io", if_exists=if_exists, permissions=mode, size=layout.end
    ) as shm:
        try:
            return _fill(shm, header, layout, source)
        except BaseException:
            shm._unpublish()
            raise


def _fill(
    shm: SharedMemoryObject, header: bytes, layout: _Layout, source: npt.NDArray[Any] | None
) -> npt.NDArray[Any]:
    """Write an array into an empty object; the header last."""
    with shm.mmap() as mapping:
        array = layout.over(mapping)
        if source is not None:
            # The format forgets what NumPy's built-in types can't say; the bytes are the same.
            array.view(source.dtype)[...] = source
        mapping[: len(header)] = header
    return array


# ---- arguments ---------------------------------------------------------------------------------


def _dimensions(shape: int | Sequence[int]) -> tuple[int, ...]:
    try:
        return (operator.index(shape),)  # type: ignore[arg-type]  # or the except clause
    except TypeError:
        return tuple(operator.index(length) for length in shape)  # type: ignore[union-attr]


def _check_word(parameter: str, word: object, known: tuple[str, ...]) -> None:
    if not isinstance(word, str):
        raise TypeError(f"{parameter} must be a word, not {word!r}")
    if word not in known:
        raise unknown_word(parameter, word, known)
