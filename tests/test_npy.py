"""``posix_shm.npy``: objects whose content is an ``.npy`` file."""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

import posix_shm
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from posix_shm import ShmDoesNotExistError, ShmError, ShmExistsError

from . import elsewhere, support
from .support import PREFIX, descriptors, exists, mode_of, path_of, run_python, shared_mappings

np = pytest.importorskip("numpy")

from posix_shm import npy  # noqa: E402  # imports numpy

Order = Literal["C", "F"]

# ---- round trips -------------------------------------------------------------------------------

DTYPES = {
    "native": "f8",
    "big-endian": ">i4",
    "little-endian": "<u2",
    "bool": "?",
    "complex": "c16",
    "half": "f2",
    "bytes": "S5",
    "text": ">U3",
    "date": "M8[ns]",
    "span": "m8[7D]",
    "raw": "V7",
    "no bytes": "S0",
    "structured": [("a", "u1"), ("b", ">f8"), ("c", "S3")],
    "nested": [("p", [("x", "f4"), ("y", "f4")]), ("n", "i8", (2, 3))],
    "padded": np.dtype([("a", "u1"), ("b", "f8")], align=True),
    "titled": [(("a title", "a"), "i4")],
    "latin-1": [("größe", "f8")],
    "beyond latin-1": [("π", "f8"), ("🐍", "u1")],
}
SHAPES = [(), (0,), (5,), (3, 0, 2), (4, 3), (2, 3, 4)]


def filled(shape: tuple[int, ...], dtype: object, order: Order = "C") -> Any:
    """An array of all kinds of bytes that are items of the dtype."""
    array = np.zeros(shape, dtype, order=order)
    if array.dtype.kind in "bSUV":
        fill = np.frombuffer(b"\x01" * max(1, array.nbytes), "u1")[: array.nbytes]
        if array.dtype.kind == "b":
            array[...] = fill.view("?").reshape(shape)
        elif array.dtype.names or array.dtype.kind == "V":
            raw = array.reshape(-1, order="A").view(f"V{array.dtype.itemsize}")
            raw[...] = np.frombuffer(random.Random(1).randbytes(array.nbytes), raw.dtype)
        else:
            array[...] = "xyz"[: max(1, array.dtype.itemsize)]
        return array
    array[...] = np.arange(array.size).reshape(shape).astype(array.dtype)
    return array


def assert_same(one: Any, other: Any) -> None:
    """That two arrays have the same shape, type, layout and bytes."""
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    assert one.dtype.byteorder == other.dtype.byteorder
    if one.nbytes:
        assert one.flags.c_contiguous == other.flags.c_contiguous
        assert one.flags.f_contiguous == other.flags.f_contiguous
    for field in one.dtype.names or ():
        assert_same(one[field], other[field])
    if one.dtype.names is None:
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_saved_array_is_attached_to_and_loaded_as_it_was(
    name: str, dtype: str, shape: tuple[int, ...]
) -> None:
    original = filled(shape, DTYPES[dtype])
    npy.save(name, original)
    assert_same(npy.attach(name), original)
    assert_same(np.load(path_of(name)), original)
    if original.nbytes:  # np.memmap can't be empty
        assert_same(np.load(path_of(name), mmap_mode="r"), original)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_numpy_saves_can_be_attached_to(
    name: str, dtype: str, shape: tuple[int, ...]
) -> None:
    original = filled(shape, DTYPES[dtype])
    version = (3, 0) if dtype == "beyond latin-1" else (1, 0)
    with path_of(name).open("wb") as file:
        np.lib.format.write_array(file, original, version)
    assert_same(npy.attach(name), original)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=str)
def test_every_version_of_the_format_is_read(name: str, version: tuple[int, int]) -> None:
    original = filled((4, 3), "f8")
    with path_of(name).open("wb") as file:
        np.lib.format.write_array(file, original, version)
    assert_same(npy.attach(name), original)


def test_the_header_is_ascii_and_of_version_2(name: str) -> None:
    npy.create(name, 1, DTYPES["beyond latin-1"])
    content = path_of(name).read_bytes()
    assert np.lib.format.read_magic(io.BytesIO(content)) == (2, 0)
    assert content[8:].isascii()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fortran_order_stays(name: str, shape: tuple[int, ...]) -> None:
    original = filled(shape, "i4", "F")
    npy.save(name, original)
    assert_same(npy.attach(name), original)
    assert_same(np.load(path_of(name)), original)


def test_an_array_that_is_not_contiguous_is_saved_in_c_order(name: str) -> None:
    original = filled((6, 6), "i4")[::2, ::-3]
    npy.save(name, original)
    assert_same(npy.attach(name), np.ascontiguousarray(original))


@pytest.mark.parametrize("array", [7, 2.5, [1, 2, 3], [[True]], "text", b"bytes", (1 + 2j,)])
def test_what_numpy_makes_an_array_of_can_be_saved(name: str, array: Any) -> None:
    npy.save(name, array)
    assert_same(npy.attach(name), np.asarray(array))


# ---- create ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_create_returns_zeros_that_can_be_written_to(
    name: str, dtype: str, shape: tuple[int, ...], order: Order
) -> None:
    array = npy.create(name, shape, DTYPES[dtype], order=order)
    assert_same(array, np.ndarray(shape, array.dtype, bytes(5000), order=order))
    assert array.dtype == np.dtype(DTYPES[dtype])
    assert array.flags.writeable
    assert_same(npy.attach(name), array)


def test_what_is_written_is_seen_by_all_who_have_the_array(name: str) -> None:
    created = npy.create(name, (2, 3), "i4")
    reader = npy.attach(name)
    writer = npy.attach(name, writable=True)
    loaded = np.load(path_of(name), mmap_mode="r+")
    created[0, 0] = 1
    writer[0, 1] = 2
    loaded[0, 2] = 3
    code = (
        "import sys; from posix_shm import npy\n"
        "npy.attach(sys.argv[1], writable=True)[1] = (4, 5, 6)"
    )
    run_python(code, name)
    expected = [[1, 2, 3], [4, 5, 6]]
    for array in (created, reader, writer, loaded):
        assert array.tolist() == expected
    loaded._mmap.close()


def test_an_int_is_a_shape_of_one_dimension(name: str) -> None:
    assert npy.create(name, np.int64(3), "u1").shape == (3,)


def test_the_dimensions_of_items_are_dimensions_of_the_array(name: str) -> None:
    item_type = np.dtype(("i4", (2, 3)))
    assert_same(npy.create(name, (4,), item_type), np.zeros((4,), item_type))
    assert_same(npy.attach(name), np.zeros((4,), item_type))


@pytest.mark.parametrize("make", ["create", "save"])
def test_permissions_are_those_of_the_user_alone_unless_given(
    names: support.NameFactory, make: str
) -> None:
    private, shared = names(), names()
    before = os.umask(0o022)
    try:
        if make == "create":
            npy.create(private, 3, "u1")
            npy.create(shared, 3, "u1", permissions=["user-all", "group-all"])
        else:
            npy.save(private, [1])
            npy.save(shared, [1], permissions=["user-all", "group-all"])
    finally:
        os.umask(before)
    assert mode_of(private) == 0o600
    assert mode_of(shared) == 0o750


@elsewhere.in_a_dev_shm(1 << 20)
def test_an_array_that_there_is_no_room_for_is_an_error_and_leaves_nothing() -> None:
    name = f"{PREFIX}too-large"
    attempts: list[Callable[[], object]] = [
        lambda: npy.create(name, 2 << 20, "u1"),
        lambda: npy.save(name, np.zeros(2 << 20, "u1")),
        lambda: npy.create(name, 1 << 50, "u1", if_exists="supersede"),
    ]
    for attempt in attempts:
        with pytest.raises(ShmError) as caught:
            attempt()
        assert elsewhere.no_room(caught.value)
        assert not exists(name)


# ---- lifetimes ---------------------------------------------------------------------------------


def mappings_of(name: str) -> int:
    """How often this process has an object mapped."""
    inode = str(path_of(name).stat().st_ino)
    return sum(line.split()[4] == inode for line in shared_mappings())


def created(name: str) -> Any:
    return npy.create(name, (3, 4), "i4")


def attached(name: str) -> Any:
    npy.save(name, filled((3, 4), "i4"))
    return npy.attach(name)


def attached_to_write(name: str) -> Any:
    npy.save(name, filled((3, 4), "i4"))
    return npy.attach(name, writable=True)


MAKERS = [created, attached, attached_to_write]


@pytest.mark.parametrize("make", MAKERS)
def test_the_pages_live_exactly_as_long_as_the_array(name: str, make: Any) -> None:
    array = make(name)
    assert mappings_of(name) == 1
    del array
    assert mappings_of(name) == 0


@pytest.mark.parametrize("make", MAKERS)
def test_a_view_of_the_array_keeps_the_pages(name: str, make: Any) -> None:
    view = make(name)[1:, ::2].T
    expected = view.tolist()
    assert mappings_of(name) == 1
    assert view.tolist() == expected
    other = memoryview(view)
    del view
    assert mappings_of(name) == 1
    assert other.tolist() == expected
    del other
    assert mappings_of(name) == 0


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", [(), (0,)], ids=str)
def test_the_pages_of_an_array_without_dimensions_or_items_go_with_it(
    name: str, make: Any, shape: tuple[int, ...]
) -> None:
    npy.save(name, np.zeros(shape))
    array = npy.attach(name)
    assert mappings_of(name) == 1
    del array
    assert mappings_of(name) == 0


@pytest.mark.parametrize("make", MAKERS)
def test_no_descriptor_is_held(name: str, make: Any) -> None:
    before = descriptors()
    array = make(name)
    assert descriptors() == before
    del array


@pytest.mark.parametrize("make", MAKERS)
def test_the_array_outlives_the_name(name: str, make: Any) -> None:
    array = make(name)
    expected = array.tolist()
    posix_shm.delete_shm(name)
    assert array.tolist() == expected
    with pytest.raises(ShmDoesNotExistError):
        npy.attach(name)


def test_save_keeps_nothing(name: str) -> None:
    npy.save(name, filled((3, 4), "i4"))
    assert mappings_of(name) == 0


def test_an_array_to_read_can_not_be_made_writable(name: str) -> None:
    npy.save(name, [1, 2, 3])
    array = npy.attach(name)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 9
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    assert npy.attach(name).tolist() == [1, 2, 3]


HOLD = """
import sys
from posix_shm import npy

array = npy.attach(sys.argv[1])
print(int(array.sum()), flush=True)
sys.stdin.read()
"""


def proportional_set_size(pid: int, inode: int) -> int:
    """The bytes of a process's share in the pages of an object."""
    size, found = 0, False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            fields = line.split()
            if not fields[0].endswith(":"):
                found = fields[4] == str(inode)
            elif found and fields[0] == "Pss:":
                size += int(fields[1]) << 10
    return size


def test_eight_processes_have_one_array_in_memory_once(name: str) -> None:
    size = 32 << 20
    npy.create(name, size, "u1")[:] = 1
    inode = path_of(name).stat().st_ino
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(running(HOLD, name)) for _ in range(8)]
        for worker in workers:
            assert worker.stdout is not None
            assert int(worker.stdout.readline()) == size
        total = sum(proportional_set_size(worker.pid, inode) for worker in workers)
    assert 0.99 * size < total < 1.01 * size


# ---- what is there already ---------------------------------------------------------------------


def make(how: str, name: str, **options: Any) -> None:
    """Create or save an array of two items."""
    if how == "create":
        npy.create(name, 2, "i4", **options)
    else:
        npy.save(name, np.zeros(2, "i4"), **options)


@pytest.fixture(params=["create", "save"])
def how(request: pytest.FixtureRequest) -> str:
    """One of the two ways to make an object."""
    way: str = request.param
    return way


def test_an_existing_object_is_an_error_and_stays(how: str, name: str) -> None:
    npy.save(name, [1, 2, 3])
    with pytest.raises(ShmExistsError):
        make(how, name)
    with pytest.raises(ShmExistsError):
        make(how, name, if_exists="error")
    assert npy.attach(name).tolist() == [1, 2, 3]


def test_an_existing_object_is_superseded_and_stays_with_its_holders(how: str, name: str) -> None:
    npy.save(name, [1, 2, 3])
    holder = npy.attach(name)
    make(how, name, if_exists="supersede")
    assert npy.attach(name).tolist() == [0, 0]
    assert holder.tolist() == [1, 2, 3]


def test_supersede_makes_what_does_not_exist(how: str, name: str) -> None:
    make(how, name, if_exists="supersede")
    assert npy.attach(name).tolist() == [0, 0]


@pytest.mark.parametrize("word", ["overwrite", "truncate", "", "ERROR"])
def test_other_words_are_refused_with_the_right_ones(how: str, name: str, word: str) -> None:
    with pytest.raises(ValueError, match="'error', 'supersede'"):
        make(how, name, if_exists=word)
    assert not exists(name)


@pytest.mark.parametrize("word", [None, 1, b"error"])
def test_what_is_no_word_is_a_type_error(how: str, name: str, word: object) -> None:
    with pytest.raises(TypeError, match="if_exists"):
        make(how, name, if_exists=word)
    assert not exists(name)


def test_an_unknown_order_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="'C', 'F'"):
        npy.create(name, 2, "i4", order="A")  # type: ignore[arg-type]
    assert not exists(name)


def test_attaching_to_nothing_is_an_error(name: str) -> None:
    with pytest.raises(ShmDoesNotExistError) as caught:
        npy.attach(name)
    assert not hasattr(caught.value, "__notes__")  # which are about parameters of open_shm


ATTACH_AS_ANOTHER_USER = """
import os, sys
import posix_shm
from posix_shm import npy

if os.geteuid() == 0:
    os.setuid(65534)
assert npy.attach(sys.argv[1]).tolist() == [1]
try:
    npy.attach(sys.argv[1], writable=True)
except posix_shm.ShmPermissionError:
    print("refused")
"""


def test_attaching_to_write_needs_the_permission(name: str) -> None:
    npy.save(name, [1], permissions=0o444)
    assert run_python(ATTACH_AS_ANOTHER_USER, name).stdout == "refused\n"


# ---- what can't be an array --------------------------------------------------------------------

OVERLAPPING = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]})
WIDE = np.dtype([(f"field_{i}", "u1") for i in range(2000)])  # a header beyond NumPy's limit


@pytest.mark.parametrize(
    "dtype", ["O", [("a", "i4"), ("b", "O")], [("a", [("b", "O", (2,))])], OVERLAPPING, WIDE]
)
def test_items_that_the_format_can_not_describe_are_refused(
    how: str, name: str, dtype: Any
) -> None:
    array = np.zeros(3, dtype)
    make_it: dict[str, Callable[[], object]] = {
        "create": lambda: npy.create(name, 3, dtype),
        "save": lambda: npy.save(name, array),
    }
    with pytest.raises(ValueError):
        make_it[how]()
    assert not exists(name)


def test_strings_outside_the_array_are_refused(name: str) -> None:
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("NumPy before 2")
    with pytest.raises(ValueError, match="pointers"):
        npy.save(name, np.array(["text"], np.dtypes.StringDType()))
    assert not exists(name)


@pytest.mark.parametrize(
    "shape",
    [-1, (2, -1), (1 << 62, 4), (1 << 70,), (0, 1 << 62), (1,) * 65],
    ids=lambda shape: str(shape)[:20],
)
def test_shapes_that_no_array_has_are_refused(name: str, shape: Any) -> None:
    with pytest.raises(ValueError):
        npy.create(name, shape, "i4")
    assert not exists(name)


@pytest.mark.parametrize("shape", [None, 2.5, "ab", (1.5,), ((1, 2),)])
def test_what_is_no_shape_is_a_type_error(name: str, shape: Any) -> None:
    with pytest.raises(TypeError):
        npy.create(name, shape, "i4")
    assert not exists(name)


# ---- damaged and hostile objects ---------------------------------------------------------------

MAGIC = b"\x93NUMPY"


def npy_file(
    descr: object = "<i4",
    fortran_order: object = False,
    shape: object = (3,),
    *,
    data: bytes = bytes(12),
    **more: object,
) -> bytes:
    """The content of a file, with anything in its header."""
    fields = {"descr": descr, "fortran_order": fortran_order, "shape": shape, **more}
    return npy_text(repr(fields), data)


def npy_text(text: str, data: bytes = bytes(12), version: bytes = b"\x01\0") -> bytes:
    """The content of a file, with anything for a header."""
    encoded = text.encode("latin-1") + b"\n"
    length = len(encoded).to_bytes(2 if version[0] == 1 else 4, "little")
    return MAGIC + version + length + encoded + data


GOOD = npy_file()
DAMAGED = {
    "nothing": b"",
    "zeros": bytes(5000),
    "text": b"not an array at all",
    "another magic": b"\x93NUMPX" + GOOD[6:],
    "half a magic": MAGIC[:4],
    "the magic alone": MAGIC,
    "no length": MAGIC + b"\x01\0",
    "half a length": MAGIC + b"\x02\0\x01\0",
    "version 0": MAGIC + b"\0\0" + GOOD[8:],
    "version 4": MAGIC + b"\x04\0" + GOOD[8:],
    "version 1.1": MAGIC + b"\x01\x01" + GOOD[8:],
    "a header that ends early": GOOD[:40],
    "a header longer than the object": MAGIC + b"\x02\0\xff\xff\xff\xff" + GOOD[10:],
    "a header that is not UTF-8": npy_text("{'descr': '\xff'}", version=b"\x03\0"),
    "a header of zeros": npy_text("\0" * 60),
    "no header": npy_text(""),
    "an unclosed header": npy_text("{'descr': '<i4', 'fortran_order': False, 'shape': (3,"),
    "an unclosed string": npy_text("{'descr': '<i4"),
    "bad indentation": npy_text("  {\n1}\n 2"),
    "a list": npy_text("['<i4', False, (3,)]"),
    "a number": npy_text("3"),
    "code": npy_text("__import__('os').abort()"),
    "code for a value": npy_text(
        "{'descr': '<i4', 'fortran_order': False, 'shape': (__import__('os').abort(),)}"
    ),
    "an unhashable key": npy_text("{[]: 1}"),
    "a key too many": npy_file(more=1),
    "a key too few": npy_text("{'descr': '<i4', 'shape': (3,)}"),
    "keys that don't compare": npy_text("{1: 2, 'a': 3}"),
    "an unknown type": npy_file("<q77"),
    "a type that is no type": npy_file(3.5),
    "no type": npy_file(None),
    "a field that is no field": npy_file([("a",)]),
    "fields of the same name": npy_file([("a", "<i4"), ("a", "<i4")]),
    "a field that is huge": npy_file([("a", "V2147483647"), ("b", "V2147483647")]),
    "an item that is huge": npy_file("S99999999999999999999"),
    "an item that is so huge that its size overflows": npy_file("S4294967295"),
    "a field that is so huge that its size overflows": npy_file(
        [("a", "S5"), ("b", "S4294967295"), ("c", "S7")], shape=(1,)
    ),
    "no items of a size that overflows, in a field": npy_file(
        [("a", "i4"), ("b", [("c", "S4294967295", (0,))])]
    ),
    "items with a negative size": npy_file(("<i4", (-1,))),
    "items with a huge size": npy_file(("<i4", (1 << 31, 1 << 31))),
    "objects": npy_file("|O"),
    "objects in a field": npy_file([("a", "<i4"), ("b", "|O")]),
    "objects in items": npy_file([("a", [("b", "|O", (2,))])]),
    "an order that is no bool": npy_file(fortran_order="yes"),
    "a shape that is no tuple": npy_file(shape=[3]),
    "a shape that is an int": npy_file(shape=3),
    "a length that is no int": npy_file(shape=(3.0,)),
    "a negative length": npy_file(shape=(-3,)),
    "two negative lengths": npy_file(shape=(-1, -3)),
    "a length to be worked out": npy_file(shape=(-1,)),
    "one item too many": npy_file(shape=(4,)),
    "far too many items": npy_file(shape=(1 << 40,)),
    "a size that overflows to 0": npy_file(shape=(1 << 62, 4)),
    "a size that overflows to 12": npy_file(shape=((1 << 62) + 3,)),
    "a length that overflows": npy_file(shape=(1 << 64,)),
    "no items of a huge size": npy_file(shape=(0, 1 << 62, 1 << 62)),
    "items of no size, too many": npy_file("V0", shape=(1 << 31, 1 << 31, 4)),
    "too many dimensions": npy_file(shape=(1,) * 100),
    "data that end early": GOOD[:-1],
    "no data": GOOD[:-12],
}


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.filterwarnings("ignore")  # of NumPy about headers of Python 2, of Python about code
def test_data_that_are_no_array_are_a_value_error(name: str, case: str, writable: bool) -> None:
    path_of(name).write_bytes(DAMAGED[case])
    with pytest.raises(ValueError, match=f"'{name}' does not hold an array: "):
        npy.attach(name, writable=writable)
    assert path_of(name).read_bytes() == DAMAGED[case]


DEEP = {
    "parentheses": "(" * 9000 + ")" * 900,
    "lists": "[" * 90 + "]" * 90,
    "many lists": "[" * 4500 + "]" * 4500,
    "tuples": "(" * 4000 + ",)" * 2000,
    "dictionaries": "{1:" * 2500 + "1" + "}" * 2500,
    "signs": "-" * 9990 + "1",
    "negations": "not " * 2400 + "1",
    "sums": "1" + "+1" * 4900,
    "sums to the right": "1+(" * 2400 + "1" + ")" * 2400,
    "attributes": "a" + ".a" * 4900,
    "calls": "a" + "()" * 4900,
    "subscripts": "a" + "[0]" * 3300,
    "conditions": "1 if 1 else " * 800 + "1",
    "functions": "lambda:" * 1400 + "1",
    "digits": "1" * 9900,
    "strings": "'a'" * 3300,
    "a type of many dimensions": "{'descr': ('<i4', (" + "1," * 1000 + ")), 'fortran_order': "
    "False, 'shape': ()}",
    "a type of types": "{'descr': " + "(" * 90 + "'<i4'" + ", (1,))" * 90 + ", 'fortran_order': "
    "False, 'shape': (4,)}",
    "a type of fields": "{'descr': " + "[('a'," * 45 + "'<i4'" + ")]" * 45 + ", 'fortran_order': "
    "False, 'shape': (4,)}",
    "types in a string": "{'descr': '"
    + "i4," * 3000
    + "', 'fortran_order': False, 'shape': (4,)}",
}


@elsewhere.in_a_process
def test_a_header_that_is_deeply_nested_is_a_value_error_and_no_crash() -> None:
    name = f"{PREFIX}deep"
    try:
        for case, text in DEEP.items():
            print(case, flush=True)  # shown if it crashes
            for version in (b"\x01\0", b"\x02\0", b"\x03\0"):
                path_of(name).write_bytes(npy_text(text, version=version))
                with pytest.raises(ValueError):
                    npy.attach(name)
    finally:
        path_of(name).unlink()


def test_a_header_that_is_not_aligned_is_read(name: str) -> None:
    data = np.arange(3, dtype="<i4").tobytes()
    for spaces in range(4):
        text = repr({"descr": "<i4", "fortran_order": False, "shape": (3,)}) + " " * spaces
        path_of(name).write_bytes(npy_text(text, data))
        assert npy.attach(name).tolist() == [0, 1, 2]


def test_bytes_behind_the_array_are_left_alone(name: str) -> None:
    path_of(name).write_bytes(npy_file(data=bytes(12) + b"more"))
    npy.attach(name, writable=True)[:] = -1
    assert path_of(name).read_bytes() == npy_file(data=b"\xff" * 12 + b"more")


HOSTILE_INTS = st.one_of(
    st.integers(-2, 5), st.sampled_from([1 << n for n in (31, 32, 62, 63, 64)]), st.booleans()
)
HOSTILE_TYPES = st.recursive(
    st.sampled_from(
        [
            "<i4",
            ">f8",
            "|O",
            "V0",
            "S0",
            "V2147483647",
            "S4294967295",
            "<U536870911",
            "m8",
            "",
            "x",
        ]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.tuples(HOSTILE_INTS)),
        st.lists(st.tuples(st.sampled_from(["", "a", "b"]), inner), max_size=3),
        st.lists(st.tuples(st.sampled_from(["a", "b"]), inner, st.tuples(HOSTILE_INTS))),
    ),
    max_leaves=4,
)
HOSTILE_HEADERS = st.builds(
    lambda descr, order, shape: repr({"descr": descr, "fortran_order": order, "shape": shape}),
    HOSTILE_TYPES,
    st.booleans(),
    st.lists(HOSTILE_INTS, max_size=4).map(tuple),
)


@st.composite
def hostile_files(draw: st.DrawFn) -> bytes:
    """Files that NumPy may have written, and what becomes of them."""
    version = bytes([draw(st.integers(1, 3)), 0])
    content = npy_text(draw(HOSTILE_HEADERS), draw(st.binary(max_size=64)), version)
    for at, byte in draw(
        st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3)
    ):
        if at < len(content):
            content = content[:at] + bytes([byte]) + content[at + 1 :]
    return content[: draw(st.integers(0, len(content) * 3))]


@elsewhere.in_a_process
def test_no_file_crashes_whoever_attaches_to_it() -> None:
    name = f"{PREFIX}hostile"

    @settings(
        max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(hostile_files())
    def attach_and_read(content: bytes) -> None:
        path_of(name).write_bytes(content)
        with contextlib.suppress(ValueError):
            array = npy.attach(name)
            assert array.nbytes <= len(content)
            assert array.nbytes == math.prod(array.shape) * array.itemsize
            if array.itemsize > 0:
                assert array.tobytes("A") in content
                assert repr(array)

    try:
        attach_and_read()
    finally:
        path_of(name).unlink(missing_ok=True)


# ---- nobody sees half an array -----------------------------------------------------------------

COUNT = 1 << 19  # items of each array: 4 MiB

HALF_WAY = """
import sys
import posix_shm
from posix_shm import npy

name, if_exists = sys.argv[1:]
size = 4 << 20
with posix_shm.open_anonymous_shm(direction="io", size=size) as shm:
    array = shm.mmap().ndarray(size)
    array[:] = 7
    shm.truncate(size // 2)
npy.save(name, array, if_exists=if_exists)  # dies of SIGBUS when half of it is copied
"""


def die_half_way(name: str, if_exists: str) -> None:
    """Let a process die in the middle of copying an array into an object."""
    done = run_python(HALF_WAY, name, if_exists, check=False)
    assert done.returncode == -signal.SIGBUS, done.stderr


@pytest.mark.parametrize("if_exists", ["error", "supersede"])
def test_a_writer_that_dies_half_way_leaves_nothing(name: str, if_exists: str) -> None:
    die_half_way(name, if_exists)
    assert not exists(name)


def test_a_writer_that_dies_half_way_leaves_the_old_array(name: str) -> None:
    npy.save(name, [1, 2, 3])
    die_half_way(name, "supersede")
    assert npy.attach(name).tolist() == [1, 2, 3]


@contextlib.contextmanager
def running(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed in the end."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def assert_complete(name: str) -> bool:
    """Whether the object is there; if it is, it must be an array of equal items."""
    try:
        array = npy.attach(name)
    except ShmDoesNotExistError:
        return False
    assert array.shape == (COUNT,)
    assert (array == array[0]).all()
    return True


SAVE_AND_DELETE = f"""
import itertools, sys
import numpy as np
from posix_shm import delete_shm, npy

for i in itertools.count():
    npy.save(sys.argv[1], np.full({COUNT}, i))
    delete_shm(sys.argv[1])
"""


@pytest.mark.parametrize("attempt", range(6))
def test_a_writer_that_is_killed_leaves_nothing_or_a_complete_array(
    name: str, attempt: int
) -> None:
    with running(SAVE_AND_DELETE, name) as writer:
        seen = 0
        while seen <= random.Random(attempt).randrange(20):
            seen += assert_complete(name)
            assert writer.poll() is None
        for _ in range(random.Random(attempt).randrange(1000)):  # some more or less time
            exists(name)
        writer.kill()
        writer.wait()
    assert_complete(name)


SUPERSEDE = f"""
import sys
import numpy as np
from posix_shm import npy

for i in range(40):
    npy.save(sys.argv[1], np.full({COUNT}, i), if_exists="supersede")
"""


def test_while_an_array_is_superseded_its_readers_find_a_complete_one(name: str) -> None:
    npy.save(name, np.zeros(COUNT, int))
    with running(SUPERSEDE, name) as writer:
        while writer.poll() is None:
            assert assert_complete(name)
        assert writer.returncode == 0
    assert npy.attach(name)[0] == 39


CREATE = """
import sys
from posix_shm import delete_shm, npy

while True:
    npy.create(sys.argv[1], (3, 4), "f8")
    delete_shm(sys.argv[1])
"""


def test_what_is_created_can_be_attached_to_from_the_first_moment(name: str) -> None:
    with running(CREATE, name) as writer:
        seen = 0
        while seen < 200:
            assert writer.poll() is None
            with contextlib.suppress(ShmDoesNotExistError):
                assert_same(npy.attach(name), np.zeros((3, 4)))
                seen += 1


# ---- where an object can't get its name later --------------------------------------------------


@elsewhere.in_a_dev_shm(64 << 20)
def test_without_proc_arrays_are_saved_under_their_names_with_the_header_last() -> None:
    elsewhere.hide_proc()
    name = f"{PREFIX}without-proc"
    npy.save(name, [1, 2, 3])
    assert npy.attach(name).tolist() == [1, 2, 3]
    with pytest.raises(ShmExistsError):
        npy.save(name, [4])
    array = npy.create(name, 3, ">f8", if_exists="supersede")
    array[:] = 1.5
    assert npy.attach(name).tolist() == [1.5] * 3
    posix_shm.delete_shm(name)
    with pytest.raises(ValueError):
        npy.create(name, (1,) * 65, "u1")
    assert not exists(name)


HALF_WAY_UNDER_ITS_NAME = """
import os, sys, threading
import posix_shm
from posix_shm import npy

def truncate_when_the_object_is_there():
    while not os.path.exists(f"/dev/shm{sys.argv[1]}"):
        pass
    shm.truncate(0)

with posix_shm.open_anonymous_shm(direction="io", size=32 << 20) as shm:
    array = shm.mmap().ndarray(32 << 20)
    array[:] = 7
    threading.Thread(target=truncate_when_the_object_is_there, daemon=True).start()
    npy.save(sys.argv[1], array)  # dies of SIGBUS, if the thread is fast enough
"""


@pytest.mark.not_under_sanitizers("AddressSanitizer needs /proc to start")
@elsewhere.in_a_dev_shm(256 << 20)
def test_without_proc_a_writer_that_dies_half_way_leaves_what_can_not_be_attached_to() -> None:
    elsewhere.hide_proc()
    name = f"{PREFIX}without-proc"
    while not (status := run_python(HALF_WAY_UNDER_ITS_NAME, name, check=False).returncode):
        posix_shm.delete_shm(name)
    assert status == -signal.SIGBUS
    with pytest.raises(ValueError, match="does not hold an array"):
        npy.attach(name)
    npy.save(name, [1, 2, 3], if_exists="supersede")
    assert npy.attach(name).tolist() == [1, 2, 3]
    posix_shm.delete_shm(name)


# ---- imports -----------------------------------------------------------------------------------


def test_only_npy_imports_numpy() -> None:
    code = (
        "import sys, posix_shm, posix_shm._cli; print('numpy' in sys.modules)\n"
        "import posix_shm.npy; print('numpy' in sys.modules)"
    )
    assert run_python(code).stdout.split() == ["False", "True"]
