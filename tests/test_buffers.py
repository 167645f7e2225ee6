"""The buffer protocol of mappings and objects, and the standard library's consumers of it."""

from __future__ import annotations

import array
import ctypes
import errno
import hashlib
import io
import os
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from posix_shm import (
    Mapping,
    SharedMemoryObject,
    open_anonymous_shm,
    open_anonymous_shm_and_mmap,
    open_shm,
)

from .support import PAGE, shared_mappings

SIZE = PAGE + 100
CONTENT = bytes(i * 11 % 256 for i in range(SIZE))

# What a consumer can ask for (Include/pybuffer.h).
SIMPLE = 0
WRITABLE = 0x1
FORMAT = 0x4
ND = 0x8
STRIDES = 0x10 | ND
C_CONTIGUOUS = 0x20 | STRIDES
F_CONTIGUOUS = 0x40 | STRIDES
ANY_CONTIGUOUS = 0x80 | STRIDES
INDIRECT = 0x100 | STRIDES
REQUESTS = (
    *(SIMPLE, FORMAT, ND, STRIDES, C_CONTIGUOUS, F_CONTIGUOUS, ANY_CONTIGUOUS, INDIRECT),
    INDIRECT | FORMAT,
)


class PyBuffer(ctypes.Structure):
    """A Py_buffer, to see what a consumer in C sees."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    )


@contextmanager
def requested(exporter: object, flags: int) -> Iterator[PyBuffer]:
    """Ask for a buffer as C code does."""
    view = PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(exporter), ctypes.byref(view), flags)
    try:
        yield view
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))


def address_of(view: memoryview) -> int:
    """Where a view's bytes are."""
    with requested(view, SIMPLE) as buffer:
        address = buffer.buf
    assert isinstance(address, int)
    return address


@contextmanager
def filled() -> Iterator[tuple[SharedMemoryObject, Mapping]]:
    """An object for io that holds `CONTENT`, and a mapping of it."""
    with open_anonymous_shm_and_mmap(SIZE, direction="io") as (shm, m):
        m[:] = CONTENT
        yield shm, m


@contextmanager
def filled_for_input(name: str) -> Iterator[SharedMemoryObject]:
    """An object for input that holds `CONTENT`."""
    with open_shm(name, direction="io", if_exists="error", size=SIZE) as writer:
        os.pwrite(writer.fd, CONTENT, 0)
    with open_shm(name) as shm:
        yield shm


# ---- what a view of a mapping is ------------------------------------------------------------


def test_a_view_is_one_dimensional_contiguous_unsigned_bytes() -> None:
    with filled() as (_, m), memoryview(m) as view:
        assert (view.format, view.itemsize, view.ndim) == ("B", 1, 1)
        assert (view.shape, view.strides, view.suboffsets) == ((SIZE,), (1,), ())
        assert (view.nbytes, len(view)) == (SIZE, SIZE)
        assert view.contiguous
        assert view.c_contiguous
        assert view.f_contiguous
        assert view.obj is m
        assert not view.readonly
        assert view == CONTENT
        assert address_of(view) == m.address


def test_a_view_begins_at_an_offset_that_is_no_page() -> None:
    with filled() as (shm, _), shm.mmap(50, offset=77) as m, memoryview(m) as view:
        assert view == CONTENT[77:127]
        view[0] = 1
        assert os.pread(shm.fd, 3, 76) == CONTENT[76:77] + b"\1" + CONTENT[78:79]


def test_a_view_and_the_mapping_are_the_same_memory() -> None:
    with filled() as (_, m), memoryview(m) as view:
        view[3:6] = b"abc"
        assert m[3:6] == b"abc"
        m[3] = 0
        assert view[3] == 0


@pytest.mark.parametrize("flags", REQUESTS)
@pytest.mark.parametrize("writable", [0, WRITABLE])
def test_each_request_gets_what_it_asks_for(flags: int, writable: int) -> None:
    with filled() as (_, m), requested(m, flags | writable) as view:
        assert (view.buf, view.len, view.itemsize) == (m.address, SIZE, 1)
        assert (view.obj, view.readonly, view.ndim) == (m, 0, 1)
        assert view.format == (b"B" if flags & FORMAT else None)
        assert (view.shape[0] if flags & ND else None) == (SIZE if flags & ND else None)
        assert bool(view.shape) == bool(flags & ND)
        assert bool(view.strides) == (flags & STRIDES == STRIDES)
        assert not view.suboffsets


@pytest.mark.parametrize("flags", REQUESTS)
def test_a_writable_request_on_a_read_only_mapping_is_a_buffer_error(
    name: str, flags: int
) -> None:
    with filled_for_input(name) as shm, shm.mmap() as m:
        with requested(m, flags) as view:
            assert view.readonly == 1
        with pytest.raises(BufferError), requested(m, flags | WRITABLE):
            pass
        m.unmap()  # which proves that a request that failed holds nothing


def test_a_view_of_a_read_only_mapping_is_read_only(name: str) -> None:
    with filled_for_input(name) as shm, shm.mmap() as m, memoryview(m) as view:
        assert view.readonly
        assert view == CONTENT
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1


@pytest.mark.parametrize("flags", [*REQUESTS, WRITABLE])
def test_a_request_on_a_mapping_without_rights_is_a_buffer_error(flags: int) -> None:
    with filled() as (shm, _), shm.mmap(protections="none") as m:
        with pytest.raises(BufferError), requested(m, flags):
            pass
        m.unmap()


@pytest.mark.parametrize("format_", ["b", "B", "c", "h", "i", "Q", "d", "?"])
def test_a_view_can_be_cast(format_: str) -> None:
    with (
        open_anonymous_shm_and_mmap(4 * PAGE, direction="io") as (_, m),
        memoryview(m) as view,
        view.cast(format_) as cast,  # type: ignore[call-overload]
    ):
        assert cast.nbytes == 4 * PAGE
        cast[3] = cast[3]
        assert m[:] == bytes(4 * PAGE)


def test_ints_written_through_a_cast_view_are_read_through_another_mapping() -> None:
    with open_anonymous_shm_and_mmap(40, direction="io") as (shm, m), memoryview(m) as view:
        with view.cast("i") as ints:
            for i in range(10):
                ints[i] = i * i - 20
        with shm.mmap() as other, memoryview(other) as bytes_, bytes_.cast("i", (2, 5)) as table:
            assert [table[1, column] for column in range(5)] == [5, 16, 29, 44, 61]


# ---- consumers in the standard library ------------------------------------------------------


def test_struct_packs_into_it_and_unpacks_from_it() -> None:
    with filled() as (_, m):
        struct.pack_into("<iq3s", m, 5, -3, 1 << 40, b"abc")
        assert struct.unpack_from("<iq3s", m, 5) == (-3, 1 << 40, b"abc")
        assert m[:5] == CONTENT[:5]
        assert m[20:] == CONTENT[20:]
        with pytest.raises(struct.error):
            struct.pack_into("i", m, SIZE - 3, 1)


def test_a_socket_receives_into_it_and_sends_from_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, filled() as (_, m):
        theirs.sendall(b"from the socket")
        assert ours.recv_into(m, 15) == 15
        assert m[:20] == b"from the socket" + CONTENT[15:20]
        theirs.sendall(b"xyz")
        with memoryview(m)[SIZE - 3 :] as end:
            assert ours.recv_into(end) == 3
        assert m[-4:] == CONTENT[-4:-3] + b"xyz"
        ours.sendall(m)
        assert theirs.recv(SIZE, socket.MSG_WAITALL) == m[:]


def test_a_file_reads_into_it_and_writes_from_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with filled() as (_, m):
        with path.open("wb") as file:
            assert file.write(m) == SIZE
        assert path.read_bytes() == CONTENT
        path.write_bytes(CONTENT[::-1])
        for buffering in (0, -1):
            m[:] = bytes(SIZE)
            with path.open("rb", buffering=buffering) as readable:
                assert readable.readinto(m) == SIZE  # type: ignore[attr-defined]
            assert m[:] == CONTENT[::-1]
        with io.BytesIO(b"abc") as stream:
            assert stream.readinto(m) == 3
        assert m[:4] == b"abc" + CONTENT[::-1][3:4]


def test_os_reads_into_it_and_writes_from_it() -> None:
    with filled() as (_, m), filled() as (other, _), memoryview(m) as view:
        assert os.pwrite(other.fd, m[::-1], 0) == SIZE
        assert os.preadv(other.fd, [view[:10], view[10:]], 0) == SIZE
        assert m[:] == CONTENT[::-1]
        m[:4] = b"abcd"
        assert os.pwrite(other.fd, m, 0) == SIZE
        assert os.pread(other.fd, SIZE, 0) == m[:]


def test_hashes_and_checksums_are_of_its_bytes() -> None:
    with filled() as (_, m):
        assert hashlib.sha256(m).digest() == hashlib.sha256(CONTENT).digest()
        assert zlib.crc32(m) == zlib.crc32(CONTENT)
        assert zlib.decompress(zlib.compress(m)) == CONTENT


def test_it_is_bytes_to_whatever_takes_bytes() -> None:
    with filled() as (_, m):
        assert bytes(m) == bytearray(m) == CONTENT
        assert array.array("B", bytes(m)).tobytes() == CONTENT
        items = array.array("B")
        items.frombytes(m)
        assert items.tobytes() == CONTENT
        assert b"".join([b"<", m, b">"]) == b"<" + CONTENT + b">"
        assert b"x" + memoryview(m) == b"x" + CONTENT
        found = re.search(re.escape(CONTENT[50:60]), m)
        assert found is not None
        assert found.start() == 50
        del found  # holds a view


def test_a_bytearray_can_be_filled_from_it_and_it_from_a_bytearray() -> None:
    with filled() as (_, m):
        copy = bytearray(b"<>")
        copy[1:1] = memoryview(m)
        assert copy == b"<" + CONTENT + b">"
        m[:] = copy[2:]
        assert m[:] == CONTENT[1:] + b">"


def test_ctypes_sees_its_memory() -> None:
    with filled() as (_, m):
        numbers = (ctypes.c_uint8 * SIZE).from_buffer(m)
        assert ctypes.addressof(numbers) == m.address
        numbers[7] = 70
        assert m[7] == 70
        with pytest.raises(BufferError):
            m.unmap()
        del numbers


@pytest.mark.parametrize(
    "write",
    [
        lambda m: struct.pack_into("i", m, 0, 1),
        lambda m: io.BytesIO(b"abc").readinto(m),
        (ctypes.c_char * 3).from_buffer,
        lambda m: memoryview(m).__setitem__(0, 1),
    ],
    ids=["struct", "readinto", "ctypes", "memoryview"],
)
def test_a_consumer_that_writes_refuses_a_read_only_mapping(name: str, write: Any) -> None:
    with filled_for_input(name) as shm, shm.mmap() as m:
        with pytest.raises((TypeError, BufferError)):
            write(m)
        assert m[:] == CONTENT


def test_receiving_into_a_read_only_mapping_is_refused_and_loses_nothing(name: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, filled_for_input(name) as shm, shm.mmap() as m:
        theirs.sendall(b"abc")
        with pytest.raises((TypeError, BufferError)):
            ours.recv_into(m)
        assert ours.recv(3) == b"abc"


# ---- memoryview(shm) ------------------------------------------------------------------------


def test_a_view_of_an_object_is_its_bytes() -> None:
    with filled() as (shm, m), memoryview(shm) as view:
        assert (view.format, view.itemsize, view.ndim, view.shape) == ("B", 1, 1, (SIZE,))
        assert view.obj is shm
        assert view == CONTENT
        view[PAGE] = 1
        assert m[PAGE] == 1
        m[0] = 2
        assert view[0] == 2


def test_each_view_of_an_object_is_mapped_afresh() -> None:
    with filled() as (shm, m), memoryview(shm) as one, memoryview(shm) as two:
        assert len({address_of(one), address_of(two), m.address}) == 3
        one[0] = 77
        assert two[0] == 77


def test_a_view_of_an_object_has_the_size_of_when_it_was_made() -> None:
    with open_anonymous_shm(direction="io", size=10) as shm, memoryview(shm) as small:
        shm.truncate(3 * PAGE + 1)
        with memoryview(shm) as large:
            assert (len(small), len(large)) == (10, 3 * PAGE + 1)
            large[3 * PAGE] = 5
        assert os.pread(shm.fd, 1, 3 * PAGE) == b"\5"


def test_a_view_of_an_object_has_the_protections_of_its_direction(name: str) -> None:
    with filled_for_input(name) as reader, open_shm(name, direction="io") as writer:
        with memoryview(reader) as readable, memoryview(writer) as writable:
            assert readable.readonly
            assert not writable.readonly
            writable[0] = 99
            assert readable[0] == 99
        with pytest.raises(BufferError), requested(reader, WRITABLE):
            pass
        with requested(writer, WRITABLE) as view:
            assert view.readonly == 0


def test_the_pages_live_as_long_as_the_view_and_no_longer() -> None:
    with filled() as (shm, _):
        before = shared_mappings()
        view = memoryview(shm)
        assert len(shared_mappings()) == len(before) + 1
        part = view[10:20]
        view.release()
        assert len(shared_mappings()) == len(before) + 1
        assert part == CONTENT[10:20]
        part.release()
        assert shared_mappings() == before


def test_a_request_on_an_object_that_fails_leaves_no_pages(name: str) -> None:
    with filled_for_input(name) as shm:
        before = shared_mappings()
        for _ in range(3):
            with pytest.raises(BufferError), requested(shm, WRITABLE):
                pass
        assert shared_mappings() == before


def test_a_view_of_an_object_survives_its_close() -> None:
    with filled() as (shm, _):
        view = memoryview(shm)
        shm.close()
        view[1] = 7
        assert bytes(view) == CONTENT[:1] + b"\7" + CONTENT[2:]
        view.release()


def test_a_view_of_an_empty_object_is_a_buffer_error() -> None:
    with open_anonymous_shm(direction="io") as shm:
        with pytest.raises(BufferError, match="empty"):
            memoryview(shm)
        shm.truncate(1)
        assert bytes(shm) == b"\0"


def test_a_view_of_a_closed_object_is_a_value_error() -> None:
    with open_anonymous_shm(direction="io", size=10) as shm:
        pass
    with pytest.raises(ValueError, match="closed"):
        memoryview(shm)


def test_consumers_take_an_object_as_they_take_a_mapping() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, filled() as (shm, _):
        assert bytes(shm) == CONTENT
        assert hashlib.sha256(shm).digest() == hashlib.sha256(CONTENT).digest()
        assert io.BytesIO(b"abc").readinto(shm) == 3
        struct.pack_into("3s", shm, 3, b"def")
        theirs.sendall(b"ghi")
        with memoryview(shm) as view:
            assert ours.recv_into(view[6:9]) == 3
        assert os.pread(shm.fd, 10, 0) == b"abcdefghi" + CONTENT[9:10]


def test_a_view_of_what_is_larger_than_the_address_space_is_an_os_error_and_not_a_crash() -> None:
    with open_anonymous_shm(direction="io") as shm:
        shm.truncate(1 << 62)
        for _ in range(3):
            with pytest.raises(OSError) as caught:
                memoryview(shm)
            assert caught.value.errno == errno.ENOMEM
        shm.truncate(10)
        assert bytes(shm) == bytes(10)
