"""Items and slices of a mapping: those of mmap.mmap, which is the model here."""

from __future__ import annotations

import array
import ctypes
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from posix_shm import Mapping, open_anonymous_shm, open_anonymous_shm_and_mmap, open_shm

from .support import PAGE, run_python

LENGTH = 37
MARGIN = 11  # of the object's bytes that are not mapped, on each side
CONTENT = bytes(range(100, 100 + LENGTH))
HUGE = 1 << 70


@contextmanager
def mapping_and_model() -> Iterator[tuple[Mapping, mmap.mmap]]:
    """A mapping and an mmap.mmap that hold the same; no byte beside the mapping may change."""
    size = MARGIN + LENGTH + MARGIN
    with (
        open_anonymous_shm(direction="io", size=size) as shm,
        shm.mmap() as whole,
        shm.mmap(LENGTH, offset=MARGIN) as mapping,
        mmap.mmap(-1, LENGTH) as model,
    ):
        whole[:] = b"#" * size
        mapping[:] = model[:] = CONTENT
        yield mapping, model
        assert whole[:MARGIN] == whole[-MARGIN:] == b"#" * MARGIN
        assert whole[MARGIN:-MARGIN] == mapping[:]


def outcome(function: Callable[[], object]) -> object:
    """What a call returns, or the class of what it raises."""
    try:
        return function()
    except Exception as error:
        return type(error)


numbers = st.integers(-2 * LENGTH, 2 * LENGTH) | st.sampled_from([HUGE, -HUGE, 1 << 63])
slices = st.slices(LENGTH) | st.builds(
    slice, st.none() | numbers, st.none() | numbers, st.none() | numbers
)
wrong_keys = st.sampled_from(["1", 1.0, None, (1, 2), b"1", ..., slice("a"), slice(1.0, 2)])


@given(key=numbers | slices | wrong_keys | st.booleans())
def test_reading_is_as_of_mmap(key: Any) -> None:
    with mapping_and_model() as (mapping, model):
        found, expected = outcome(lambda: mapping[key]), outcome(lambda: model[key])
        assert found == expected
        assert type(found) is type(expected)


@given(index=numbers, value=st.integers(-300, 300) | st.booleans())
def test_assigning_an_item_is_as_of_mmap(index: int, value: int) -> None:
    with mapping_and_model() as (mapping, model):
        assert outcome(lambda: mapping.__setitem__(index, value)) == outcome(
            lambda: model.__setitem__(index, value)
        )
        assert mapping[:] == model[:]


@given(index=st.integers(-LENGTH, LENGTH - 1), value=st.sampled_from(["1", 1.0, None, b"1", ()]))
def test_assigning_what_is_no_byte_is_as_of_mmap(index: int, value: Any) -> None:
    with mapping_and_model() as (mapping, model):
        assert outcome(lambda: mapping.__setitem__(index, value)) is TypeError
        assert outcome(lambda: model.__setitem__(index, value)) is TypeError
        assert mapping[:] == model[:]


@given(data=st.data(), key=slices)
def test_assigning_a_slice_is_as_of_mmap(data: st.DataObject, key: slice) -> None:
    with mapping_and_model() as (mapping, model):
        fitting = len(CONTENT[key]) if key.step != 0 else 0
        size = data.draw(st.just(fitting) | st.integers(0, LENGTH + 1))
        value = data.draw(st.binary(min_size=size, max_size=size))
        wrapped: Any = data.draw(
            st.sampled_from(
                [
                    value,
                    bytearray(value),
                    memoryview(value),
                    memoryview(bytes(2 * size))[::2],  # not contiguous
                    array.array("B", value),
                    [*value],
                    value.decode("latin-1"),
                    size,
                    None,
                ]
            )
        )
        assert outcome(lambda: mapping.__setitem__(key, wrapped)) == outcome(
            lambda: model.__setitem__(key, wrapped)
        )
        assert mapping[:] == model[:]


# ---- each promise by name -------------------------------------------------------------------


def test_an_item_is_an_int_and_a_slice_is_bytes() -> None:
    with mapping_and_model() as (m, _):
        assert type(m[0]) is int
        assert type(m[1:3]) is type(m[::-2]) is bytes
        assert (m[0], m[-1], m[1:3], m[::-1]) == (100, 136, CONTENT[1:3], CONTENT[::-1])


def test_a_slice_is_a_copy() -> None:
    with mapping_and_model() as (m, _):
        before = m[:]
        m[:] = bytes(LENGTH)
        assert before == CONTENT


def test_every_byte_can_be_written_and_read() -> None:
    with mapping_and_model() as (m, _):
        for byte in range(256):
            m[byte % LENGTH] = byte
            assert m[byte % LENGTH - LENGTH] == byte


@pytest.mark.parametrize("value", [-1, 256, 1 << 31, 1 << 32, -HUGE, HUGE])
def test_an_int_that_is_no_byte_is_a_value_error(value: int) -> None:
    with mapping_and_model() as (m, _):
        with pytest.raises(ValueError, match="256"):
            m[0] = value
        assert m[:] == CONTENT


@pytest.mark.parametrize("index", [LENGTH, -LENGTH - 1, HUGE, -HUGE, (1 << 63) - 1, -(1 << 63)])
def test_an_index_outside_is_an_index_error(index: int) -> None:
    with mapping_and_model() as (m, _):
        with pytest.raises(IndexError):
            m[index]
        with pytest.raises(IndexError):
            m[index] = 0
        assert m[:] == CONTENT


@pytest.mark.parametrize("key", ["1", 1.0, None, (0, 1), ..., b"1"])
def test_a_key_that_is_no_index_is_a_type_error(key: Any) -> None:
    with mapping_and_model() as (m, _):
        with pytest.raises(TypeError):
            m[key]
        with pytest.raises(TypeError):
            m[key] = 0


@pytest.mark.parametrize("key", [slice(3), slice(None, None, 2), slice(3, 3), slice(5, 0, -1)])
@pytest.mark.parametrize("difference", [-1, 1, LENGTH])
def test_a_slice_of_another_size_is_an_index_error(key: slice, difference: int) -> None:
    with mapping_and_model() as (m, _):
        size = len(CONTENT[key]) + difference
        if size >= 0:
            with pytest.raises(IndexError):
                m[key] = bytes(size)
        assert m[:] == CONTENT


@pytest.mark.parametrize("key", [0, slice(None), slice(None, None, 2), slice(0, 0)])
def test_items_can_not_be_deleted(key: Any) -> None:
    with mapping_and_model() as (m, _):
        with pytest.raises(TypeError):
            del m[key]
        assert m[:] == CONTENT


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (0, 1),
        (LENGTH, 1),
        (slice(1), b"x"),
        (slice(2), b"x"),
        (slice(0, 0), b""),
        (slice(None, None, LENGTH), b"x"),
    ],
)
def test_assigning_to_a_read_only_mapping_is_a_type_error(name: str, key: Any, value: Any) -> None:
    open_shm(name, direction="io", if_exists="error", size=LENGTH).close()
    with open_shm(name) as reader, reader.mmap() as m:
        with pytest.raises(TypeError, match="read-only"):
            m[key] = value
        assert m[:] == bytes(LENGTH)


def test_assigning_to_a_closed_mapping_is_a_value_error_whatever_is_assigned() -> None:
    with mapping_and_model() as (m, _):
        pass
    for key, value in ((slice(2), b"xy"), (slice(2), b"x"), (slice(0, 8, 2), b""), (0, 1)):
        with pytest.raises(ValueError, match="closed"):
            m[key] = value  # type: ignore[index, assignment]  # mypy does not pair the two


def test_a_step_of_zero_is_a_value_error() -> None:
    with mapping_and_model() as (m, _):
        with pytest.raises(ValueError, match="zero"):
            m[::0]
        with pytest.raises(ValueError, match="zero"):
            m[::0] = b""


class Index:
    """An int by another name."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def test_whatever_has_an_index_is_an_index_and_a_byte() -> None:
    with mapping_and_model() as (m, _):
        m[Index(3)] = Index(7)
        assert (m[3], m[Index(-LENGTH + 3)], m[Index(3) : Index(4)]) == (7, 7, b"\7")


@pytest.mark.parametrize(
    "value",
    [
        b"wxyz",
        bytearray(b"wxyz"),
        memoryview(b".wxyz.")[1:-1],
        array.array("B", b"wxyz"),
        array.array("i", [int.from_bytes(b"wxyz", "little")]),
        (ctypes.c_char * 4).from_buffer_copy(b"wxyz"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("key", [slice(2, 6), slice(2, 10, 2), slice(9, 1, -2)])
def test_whatever_has_bytes_can_be_assigned(key: slice, value: Any) -> None:
    with mapping_and_model() as (m, _):
        m[key] = value
        assert m[key] == b"wxyz"


def test_a_mapping_and_an_object_can_be_assigned() -> None:
    with (
        mapping_and_model() as (m, _),
        open_anonymous_shm_and_mmap(4, direction="io") as (shm, other),
    ):
        other[:] = b"wxyz"
        m[:4] = other
        m[4:8] = shm
        assert m[:9] == b"wxyzwxyz" + CONTENT[8:9]


@pytest.mark.parametrize(
    ("to", "source"),
    [
        (slice(0, 30), slice(5, 35)),
        (slice(5, 35), slice(0, 30)),
        (slice(None), slice(None)),
        (slice(None, None, -1), slice(None)),
        (slice(0, 20, 2), slice(0, 10)),
        (slice(0, 20, 2), slice(5, 15)),
        (slice(0, 20, 2), slice(10, 20)),
        (slice(30, 20, -1), slice(22, 32)),
    ],
)
def test_a_view_of_the_same_mapping_can_be_assigned(to: slice, source: slice) -> None:
    expected = bytearray(CONTENT)
    expected[to] = CONTENT[source]
    with mapping_and_model() as (m, _), memoryview(m) as view:
        m[to] = view[source]
        assert m[:] == expected


def test_a_view_through_another_mapping_of_the_object_can_be_assigned() -> None:
    with open_anonymous_shm(direction="io", size=100) as shm, shm.mmap() as m, shm.mmap() as other:
        m[:] = bytes(range(100))
        m[1:] = memoryview(other)[:-1]
        # Nobody can know that these overlap: each byte is one that was there before.
        assert (m[0], len(m[:])) == (0, 100)
        assert set(m[:]) <= set(range(100))


# ---- as a sequence --------------------------------------------------------------------------


def test_it_is_iterated_as_ints() -> None:
    with mapping_and_model() as (m, _):
        assert list(iter(m)) == list(CONTENT)
        assert list(reversed(m)) == list(CONTENT[::-1])
        assert 120 in iter(m)
        assert 99 not in iter(m)


def test_iterating_sees_what_is_written_meanwhile() -> None:
    with mapping_and_model() as (m, _):
        items = iter(m)
        next(items)
        m[1] = 1
        assert next(items) == 1


def test_iterating_ends_with_the_mapping() -> None:
    with mapping_and_model() as (m, _):
        items = iter(m)
        next(items)
    with pytest.raises(ValueError, match="closed"):
        next(items)


def test_its_length_is_its_bytes_and_it_is_never_false() -> None:
    with mapping_and_model() as (m, _):
        assert len(m) == m.nbytes == LENGTH
        assert m


# ---- large copies ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(256 << 10) - 1, 256 << 10, (256 << 10) + 1, (3 << 20) + 5])
def test_large_copies_are_exact(size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    with open_anonymous_shm(direction="io", size=size + 2) as shm, shm.mmap(offset=1) as m:
        m[:size] = data[:size]
        assert m[:] == data[:size] + b"\0"
        assert m[::-1] == b"\0" + data[:size][::-1]
        m[1:] = data[:size]
        assert m[:] == data[:1] + data[:size]
        m[: size - PAGE] = memoryview(m)[PAGE:size]
        assert m[: size - PAGE] == (data[:1] + data[:size])[PAGE:size]


@pytest.mark.parametrize("copy", ["m[:]", "m.__setitem__(slice(None), content)"])
def test_large_copies_let_other_threads_run(copy: str) -> None:
    # No thread is ever asked to let the GIL go, so only one that does so by itself lets the
    # other in.  One that is waiting may be too slow to wake for one copy, but not for all.
    run_python(f"""
import sys, threading
from posix_shm import open_anonymous_shm_and_mmap
sys.setswitchinterval(1e6)
go = threading.Lock()
go.acquire()
ran = []

def other():
    go.acquire()
    ran.append(True)

with open_anonymous_shm_and_mmap(64 << 20, direction="io") as (shm, m):
    content = bytes(len(m))
    thread = threading.Thread(target=other)
    thread.start()
    go.release()
    for _ in range(500):
        if ran:
            break
        {copy}
    assert ran, "no thread ran"
    thread.join()
""")


# ---- re-entrancy ----------------------------------------------------------------------------

REENTRANT = """
import sys
from posix_shm import Mapping, open_anonymous_shm

SIZE = 10_000
shm = open_anonymous_shm(direction="io", size=SIZE)
victims = open_anonymous_shm(direction="io", size=SIZE)
keep = []

class Closes:
    # Ends the mapping while it is being used, and lets others have its addresses.
    def __index__(self):
        getattr(m, sys.argv[1])()
        for _ in range(50):
            victim = victims.mmap()
            victim[0:SIZE] = b"v" * SIZE
            keep.append(victim)
        return 5

    def __bool__(self):
        return bool(self.__index__())

def use(function):
    global m
    m = shm.mmap()
    try:
        found = function()
    except ValueError as error:
        assert "closed" in str(error), error
    else:
        raise SystemExit(f"a closed mapping was used, and gave {found!r}")
    for victim in keep:
        assert victim[:] == b"v" * SIZE, "somebody else's memory was written"
        victim.close()
    keep.clear()

"""


USES = (
    "m[Closes()]",
    "m[Closes():]",
    "m[:Closes()]",
    "m[::Closes()]",
    "m.__setitem__(Closes(), 1)",
    "m.__setitem__(0, Closes())",
    "m.__setitem__(slice(Closes(), 7), b'xx')",
    "m.__setitem__(slice(2, Closes()), b'xxx')",
    "m.__setitem__(slice(0, 25, Closes()), b'xxxxx')",
    "m.flush(Closes())",
    "m.flush(0, Closes())",
    "m.advise('dontneed', Closes())",
    "m.advise('remove', 0, Closes())",
    "m.populate(workers=Closes())",
    "m.populate(write=Closes())",
)


@pytest.mark.parametrize("how", ["close", "unmap"])
def test_an_argument_that_closes_the_mapping_it_indexes_touches_nothing(how: str) -> None:
    run_python(
        REENTRANT
        + """
for code in sys.argv[2:]:
    print(code, flush=True)  # the last one, if this is a crash, is the culprit
    use(lambda: eval(code))
shm.close()
victims.close()
""",
        how,
        *USES,
    )


@pytest.mark.parametrize("how", ["close", "unmap"])
def test_a_source_that_closes_the_mapping_it_is_assigned_to_touches_nothing(how: str) -> None:
    # Only since Python 3.12 can a buffer be written in Python; before that this is vacuous.
    run_python(
        REENTRANT
        + """
class Source:
    def __buffer__(self, flags):
        Closes().__index__()
        return memoryview(b"xxxxx")

if sys.version_info >= (3, 12):
    use(lambda: m.__setitem__(slice(0, 5), Source()))
    use(lambda: m.__setitem__(slice(0, 10, 2), Source()))
shm.close()
victims.close()
""",
        how,
    )
