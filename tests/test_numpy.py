"""NumPy over mappings and objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from posix_shm import Mapping, open_anonymous_shm, open_anonymous_shm_and_mmap, open_shm

from .support import PAGE, run_python, shared_mappings

np = pytest.importorskip("numpy")

SIZE = 240
CONTENT = bytes(i * 13 % 256 for i in range(SIZE))


@contextmanager
def filled() -> Iterator[Mapping]:
    """A mapping that holds `CONTENT`, at an address that is a multiple of 8."""
    with open_anonymous_shm_and_mmap(SIZE, direction="io", offset=PAGE - 8) as (_, m):
        m[:] = CONTENT
        yield m


@contextmanager
def filled_for_input(name: str) -> Iterator[Mapping]:
    """A read-only mapping that holds `CONTENT`."""
    with open_shm(name, direction="io", if_exists="error", size=SIZE) as writer:
        os.pwrite(writer.fd, CONTENT, 0)
    with open_shm(name) as shm, shm.mmap() as m:
        yield m


# Ways to get an array, and whether the array holds an export.
WAYS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "frombuffer": (lambda m: np.frombuffer(m, "u1"), True),
    "frombuffer of a view": (lambda m: np.frombuffer(memoryview(m), "u1"), True),
    "asarray of a view": (lambda m: np.asarray(memoryview(m)), True),
    "m.ndarray": (lambda m: m.ndarray(len(m)), True),
    "ndarray(buffer=)": (lambda m: np.ndarray(SIZE, "u1", buffer=m), False),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_array_is_the_mappings_memory(way: str) -> None:
    with filled() as m:
        a = WAYS[way][0](m)
        assert a.ctypes.data == m.address
        assert a.tobytes() == CONTENT
        assert a.flags.writeable
        a[3] = 99
        assert m[3] == 99
        m[4] = 98
        assert a[4] == 98
        del a


@pytest.mark.parametrize("way", WAYS)
def test_an_array_of_a_read_only_mapping_is_read_only(name: str, way: str) -> None:
    with filled_for_input(name) as m:
        a = WAYS[way][0](m)
        assert not a.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            a[0] = 1
        with pytest.raises(ValueError):
            a.flags.writeable = True
        assert a.tobytes() == CONTENT
        del a


@pytest.mark.parametrize("way", WAYS)
def test_unmap_refuses_while_an_array_holds_an_export(way: str) -> None:
    make, holds = WAYS[way]
    with filled() as m:
        a = make(m)
        if holds:
            part = a[::2][1:]
            del a
            with pytest.raises(BufferError):
                m.unmap()
            assert part[0] == CONTENT[2]
            del part
        m.unmap()


def test_an_array_of_a_mapping_without_rights_is_a_buffer_error() -> None:
    with open_anonymous_shm(direction="io", size=SIZE) as shm, shm.mmap(protections="none") as m:
        with pytest.raises(BufferError):
            m.ndarray(1)
        with pytest.raises((BufferError, ValueError, TypeError)):
            np.frombuffer(m, "u1")
        with pytest.raises((BufferError, ValueError, TypeError)):
            np.ndarray(1, "u1", buffer=m)


def test_typed_arrays_are_over_the_same_bytes() -> None:
    with filled() as m:
        for dtype in ("i4", ">i4", "u2", "f8", "c16", "M8[ns]", "S5", "?"):
            assert np.frombuffer(m, dtype).tobytes() == CONTENT


def test_an_object_can_be_viewed_by_an_array() -> None:
    with open_anonymous_shm(direction="io", size=SIZE) as shm:
        before = shared_mappings()
        a = np.frombuffer(shm, "i8")
        a[1] = -5
        assert os.pread(shm.fd, 8, 8) == b"\xfb" + b"\xff" * 7
        shm.close()
        a[2] = 6
        assert a.tolist()[:4] == [0, -5, 6, 0]
        del a
        assert shared_mappings() == before


# ---- m.ndarray ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "dtype", "offset"),
    [
        (SIZE, "u1", 0),
        ((SIZE,), "u1", 0),
        ((5, 6, 2), "f4", 0),
        ((2, 3), ">i2", 7),
        ((10, 3), "i8", 0),
        (1, "f8", SIZE - 8),
        ((), "i4", 0),
        ((), "i4", SIZE - 4),
        (0, "f8", 0),
        ((3, 0, 2), "f8", 8),
        (0, "u1", SIZE),
        ((4,), [("x", "<f4"), ("y", ">i2"), ("name", "S3")], 1),
        ((2,), "(2,3)u2", 4),
        ((2, 2), "U3", 0),
    ],
)
def test_ndarray_has_the_shape_dtype_order_and_place_that_it_is_asked_for(
    shape: int | tuple[int, ...], dtype: Any, offset: int, order: Literal["C", "F"]
) -> None:
    expected = np.ndarray(shape, dtype, bytearray(CONTENT), offset, order=order)
    with filled() as m:
        m[:] = bytes(SIZE)
        a = m.ndarray(shape, dtype, offset, order)
        assert type(a) is np.ndarray
        assert (a.shape, a.dtype, a.strides) == (expected.shape, expected.dtype, expected.strides)
        assert a.flags.f_contiguous == expected.flags.f_contiguous
        assert a.flags.writeable
        a[...] = expected
        wanted = bytearray(SIZE)
        np.ndarray(shape, dtype, wanted, offset, order=order)[...] = expected
        assert m[:] == wanted
        if a.size:
            assert a.ctypes.data == m.address + offset
        del a


def test_ndarray_is_of_unsigned_bytes_unless_said_otherwise() -> None:
    with filled() as m:
        a = m.ndarray((SIZE,))
        assert (a.dtype, a.tobytes()) == (np.dtype("u1"), CONTENT)
        del a


def test_ndarray_takes_keywords() -> None:
    with filled() as m:
        a = m.ndarray(shape=(2, 3), dtype=np.int16, offset=4, order="F")
        assert (a.shape, a.dtype, a.flags.f_contiguous) == ((2, 3), np.dtype("i2"), True)
        del a


@pytest.mark.parametrize("shape", [(), 0, 1, (0, 2), (3, 4)])
def test_ndarray_holds_an_export_whatever_its_shape(shape: Any) -> None:
    with filled() as m:
        a = m.ndarray(shape)
        with pytest.raises(BufferError):
            m.unmap()
        view = a.reshape(-1)[:0].view("i1")
        del a
        with pytest.raises(BufferError):
            m.unmap()
        del view
        m.unmap()


@pytest.mark.parametrize("dtype", ["O", object, [("x", "i4"), ("y", "O")], "(2,)O"])
def test_ndarray_of_objects_is_a_value_error(dtype: Any) -> None:
    with filled() as m:
        with pytest.raises(ValueError, match=r"pointers|object"):
            m.ndarray(1, dtype)
        m.unmap()


@pytest.mark.parametrize(
    ("shape", "dtype", "offset"),
    [(SIZE + 1, "u1", 0), (SIZE, "u1", 1), (31, "f8", 0), (1, "i4", SIZE - 3), ((), "i4", SIZE)],
)
def test_ndarray_larger_than_the_mapping_is_a_type_error(
    shape: Any, dtype: str, offset: int
) -> None:
    with filled() as m:
        with pytest.raises(TypeError, match="small"):
            m.ndarray(shape, dtype, offset)
        m.unmap()


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"offset": -1}, ValueError),
        ({"offset": -8, "dtype": "f8"}, ValueError),
        ({"offset": SIZE + 1, "shape": 0}, (TypeError, ValueError)),
        ({"offset": 1 << 62}, (TypeError, ValueError)),
        ({"offset": (1 << 63) - 1}, (TypeError, ValueError)),
        ({"offset": 1 << 70}, (TypeError, ValueError, OverflowError)),
        ({"shape": (1 << 63) - 1, "offset": 1}, (TypeError, ValueError)),
        ({"shape": -1}, ValueError),
        ({"shape": (-1, 2), "dtype": "i4"}, ValueError),
        ({"shape": (1 << 40, 1 << 40)}, (TypeError, ValueError)),
        ({"shape": "3"}, TypeError),
        ({"order": "Z"}, ValueError),
        ({"dtype": "nonsense"}, TypeError),
        ({"offset": 1.5}, TypeError),
    ],
)
def test_ndarray_refuses_what_is_not_inside_the_mapping(
    keywords: dict[str, Any], error: Any
) -> None:
    with filled() as m:
        with pytest.raises(error):
            m.ndarray(**{"shape": 1} | keywords)
        m.unmap()


def test_ndarray_of_a_closed_mapping_is_a_value_error() -> None:
    with filled() as m:
        pass
    with pytest.raises(ValueError, match="closed"):
        m.ndarray(1)


def test_the_package_does_not_import_numpy_before_it_is_needed() -> None:
    run_python("""
import sys
from posix_shm import open_anonymous_shm_and_mmap
with open_anonymous_shm_and_mmap(10, direction="io") as (shm, m):
    m[0] = 1
    assert "numpy" not in sys.modules
    assert m.ndarray(2).tolist() == [1, 0]
    assert "numpy" in sys.modules
""")
