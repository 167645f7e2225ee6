"""SharedMemoryObject.mmap and the members of Mapping, but for items, buffers and lifetimes."""

from __future__ import annotations

import copy
import errno
import inspect
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from posix_shm import (
    MapFlag,
    Mapping,
    MmapError,
    Protection,
    SharedMemoryObject,
    ffi,
    make_shm,
    open_anonymous_shm,
    open_anonymous_shm_and_mmap,
    open_shm,
)

from .support import PAGE, descriptors, run_python, shared_mappings

SIZE = 4 * PAGE
CONTENT = bytes(i * 7 % 251 for i in range(SIZE))


def filled(size: int = SIZE) -> SharedMemoryObject:
    """An anonymous object for io that holds the first bytes of `CONTENT`."""
    shm = open_anonymous_shm(direction="io", size=size)
    os.pwrite(shm.fd, CONTENT[:size], 0)
    return shm


def content(shm: SharedMemoryObject) -> bytes:
    """What the object holds, without a mapping."""
    return os.pread(shm.fd, shm.size, 0)


def free_address(length: int) -> int:
    """An address with nothing mapped at it nor behind it for a while."""
    address = ffi.mmap(0, length, "none", ["private", "anonymous"], -1, 0)
    ffi.munmap(address, length)
    return address


def kilobytes_of(mapping: Mapping, field: str) -> int:
    """A field of the mapping's entry in this process's memory map."""
    smaps = Path("/proc/self/smaps").read_text()
    start = mapping.address - mapping.address % PAGE
    entry = smaps[re.search(rf"^{start:08x}-", smaps, re.MULTILINE).start() :]  # type: ignore[union-attr]
    value = re.search(rf"^{field}: +(\d+) kB$", entry, re.MULTILINE)
    assert value is not None
    return int(value[1])


# ---- what is mapped -------------------------------------------------------------------------


def test_without_a_length_it_maps_all() -> None:
    with filled() as shm, shm.mmap() as m:
        assert (len(m), m.nbytes, m.offset) == (SIZE, SIZE, 0)
        assert m[:] == CONTENT


def test_without_a_length_it_maps_from_the_offset_to_the_end() -> None:
    with filled() as shm, shm.mmap(offset=PAGE + 10) as m:
        assert (len(m), m.offset) == (SIZE - PAGE - 10, PAGE + 10)
        assert m[:] == CONTENT[PAGE + 10 :]


def test_the_length_comes_first() -> None:
    with filled() as shm, shm.mmap(10) as m, shm.mmap(length=10) as same:
        assert m[:] == same[:] == CONTENT[:10]


@given(offset=st.integers(0, SIZE - 1), data=st.data())
def test_each_range_inside_the_object_is_mapped_exactly(offset: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, SIZE - offset))
    with filled() as shm, shm.mmap(length, offset=offset) as m:
        assert (len(m), m.nbytes, m.offset) == (length, length, offset)
        assert m.address % PAGE == offset % PAGE
        assert m[:] == CONTENT[offset : offset + length]
        m[:] = bytes(length)
        assert content(shm) == CONTENT[:offset] + bytes(length) + CONTENT[offset + length :]


def test_two_mappings_of_one_object_see_each_other() -> None:
    with filled() as shm, shm.mmap() as one, shm.mmap(offset=PAGE + 1) as two:
        assert one.address != two.address
        one[PAGE + 1 : PAGE + 4] = b"abc"
        assert two[:3] == b"abc"
        two[1] = 0
        assert one[PAGE + 2] == 0


def test_two_objects_of_one_name_see_each_other(name: str) -> None:
    with (
        open_shm(name, direction="io", if_exists="error", size=10) as writer,
        open_shm(name) as reader,
        writer.mmap() as there,
        reader.mmap() as here,
    ):
        there[2:5] = b"abc"
        assert here[:] == b"\0\0abc\0\0\0\0\0"


def test_another_process_sees_what_is_written(name: str) -> None:
    with (
        open_shm(name, direction="io", if_exists="error", size=10) as shm,
        shm.mmap() as m,
    ):
        m[:5] = b"hello"
        run_python(
            "import sys, posix_shm\n"
            "with posix_shm.open_shm(sys.argv[1], direction='io') as shm, shm.mmap() as m:\n"
            "    assert m[:5] == b'hello'\n"
            "    m[5:] = b'world'\n",
            name,
        )
        assert m[:] == b"helloworld"


def test_a_mapping_needs_the_object_no_longer() -> None:
    shm = filled()
    m = shm.mmap()
    shm.close()
    m[0] = 7
    assert m[:] == b"\7" + CONTENT[1:]
    m.unmap()


def test_a_mapping_holds_no_descriptor() -> None:
    before = descriptors()
    shm = filled()
    mappings = [shm.mmap() for _ in range(10)]
    shm.close()
    assert descriptors() == before
    for m in mappings:
        m.close()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"length": SIZE + 1}, errno.ENXIO),
        ({"length": 1, "offset": SIZE}, errno.ENXIO),
        ({"length": SIZE, "offset": 1}, errno.ENXIO),
        ({"offset": SIZE + 1}, errno.ENXIO),
        ({"length": 0, "offset": SIZE + 1}, errno.ENXIO),
        ({"offset": -1}, errno.ENXIO),
        ({"length": 2, "offset": -1}, errno.ENXIO),
        ({"length": 1, "offset": -PAGE}, errno.ENXIO),
        ({"length": 10**30}, errno.ENXIO),
        ({"offset": 10**30}, errno.ENXIO),
        ({"offset": -(10**30)}, errno.ENXIO),
        ({"length": 10**30, "offset": 10**30}, errno.ENXIO),
        ({"length": (1 << 63) - 1, "offset": SIZE}, errno.ENXIO),
        ({"length": 0}, errno.EINVAL),
        ({"length": 0, "offset": SIZE}, errno.EINVAL),
        ({"offset": SIZE}, errno.EINVAL),
        ({"length": -1}, errno.EINVAL),
        ({"length": -1, "offset": 10}, errno.EINVAL),
        ({"length": -(10**30)}, errno.EINVAL),
    ],
)
def test_a_range_outside_is_enxio_and_an_empty_one_einval(
    name: str, arguments: dict[str, int], error: int
) -> None:
    before = shared_mappings()
    with open_shm(name, direction="io", if_exists="error", size=SIZE) as shm:
        with pytest.raises(MmapError) as caught:
            shm.mmap(**arguments)  # type: ignore[arg-type]  # mypy: only keywords of type int
        assert (caught.value.errno, caught.value.filename) == (error, name)
        assert any(str(SIZE) in note for note in caught.value.__notes__)
    assert shared_mappings() == before


@pytest.mark.parametrize("length", [None, 0, 1])
def test_an_empty_object_can_not_be_mapped_and_a_note_says_what_to_do(length: int | None) -> None:
    with open_anonymous_shm(direction="io") as shm:
        with pytest.raises(MmapError) as caught:
            shm.mmap(length)
        assert caught.value.errno in (errno.EINVAL, errno.ENXIO)
        assert any("empty" in note and "truncate" in note for note in caught.value.__notes__)


def test_what_is_larger_than_the_address_space_is_enomem() -> None:
    with open_anonymous_shm(direction="io") as shm:
        shm.truncate(1 << 62)
        for guard in (False, True):
            with pytest.raises(MmapError) as caught:
                shm.mmap(guard=guard)
            assert caught.value.errno == errno.ENOMEM
        shm.mmap(10, offset=1 << 61).unmap()


def test_what_the_object_grew_by_can_be_mapped() -> None:
    with filled(10) as shm:
        shm.truncate(SIZE)
        with shm.mmap() as m:
            assert m[:] == CONTENT[:10] + bytes(SIZE - 10)


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((1.0,), {}),
        (("1",), {}),
        ((), {"offset": 1.0}),
        ((), {"offset": None}),
        ((), {"addr": None}),
        ((), {"addr": "0"}),
        ((), {"flags": None}),
        ((), {"flags": 1.5}),
        ((), {"protections": 1.5}),
        ((1, 0), {}),
        ((), {"prot": 1}),
    ],
)
def test_a_wrong_type_is_a_type_error(
    arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with filled() as shm, pytest.raises(TypeError):
        shm.mmap(*arguments, **keywords)


def test_a_descriptor_of_what_can_not_be_mapped_is_an_mmap_error() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with make_shm(reader) as pipe, pytest.raises(MmapError):
        pipe.mmap(1)


def test_a_mapping_is_made_by_mmap_only() -> None:
    with pytest.raises(TypeError):
        Mapping()
    with pytest.raises(TypeError):
        object.__new__(Mapping)


# ---- protections ----------------------------------------------------------------------------


def test_the_default_is_what_the_direction_allows(name: str) -> None:
    with (
        open_shm(name, direction="io", if_exists="error", size=10) as writer,
        open_shm(name) as reader,
        writer.mmap() as writable,
        reader.mmap() as readable,
    ):
        assert (writable.protections, writable.readonly) == (
            Protection.READ | Protection.WRITE,
            False,
        )
        assert (readable.protections, readable.readonly) == (Protection.READ, True)


@pytest.mark.parametrize(
    ("protections", "expected"),
    [
        ("read", Protection.READ),
        (["read", "write"], Protection.READ | Protection.WRITE),
        (Protection.READ | Protection.WRITE, Protection.READ | Protection.WRITE),
        (1, Protection.READ),
        ("none", Protection.NONE),
        ([], Protection.NONE),
        (0, Protection.NONE),
        ("write", Protection.WRITE),
    ],
)
def test_protections_are_ints_members_or_words(protections: Any, expected: Protection) -> None:
    with filled() as shm, shm.mmap(protections=protections) as m:
        assert m.protections == expected
        assert isinstance(m.protections, Protection)
        assert m.readonly == (Protection.WRITE not in expected)


def test_none_stands_alone_and_an_unknown_word_lists_the_right_ones() -> None:
    with filled() as shm:
        with pytest.raises(ValueError, match="alone"):
            shm.mmap(protections=["none", "read"])
        with pytest.raises(ValueError, match="'read', 'write', 'exec'"):
            shm.mmap(protections="readable")


@pytest.mark.parametrize("protections", ["write", ["read", "write"]])
def test_an_object_opened_for_input_can_not_be_mapped_writable(
    name: str, protections: Any
) -> None:
    open_shm(name, direction="io", if_exists="error", size=10).close()
    before = shared_mappings()
    with open_shm(name) as reader:
        with pytest.raises(MmapError) as caught:
            reader.mmap(protections=protections)
        assert (caught.value.errno, caught.value.filename) == (errno.EACCES, name)
        assert any('direction="io"' in note for note in caught.value.__notes__)
    assert shared_mappings() == before


@pytest.mark.parametrize("protections", ["none", "exec"])
def test_a_mapping_that_can_not_be_accessed_has_no_views_and_no_items(protections: str) -> None:
    run_python(
        """
import os, sys
from posix_shm import make_shm
shm = make_shm(os.memfd_create("x"))  # which, unlike /dev/shm, may be executed anywhere
shm.truncate(10)
with shm, shm.mmap(protections=sys.argv[1]) as m:
    assert m.readonly and len(m) == 10
    for use in (
        lambda: memoryview(m),
        lambda: bytes(m),
        lambda: m[0],
        lambda: m[:],
        lambda: m[::-2],
        lambda: list(m),
        lambda: 0 in m,
        lambda: m.__setitem__(0, 1),
        lambda: m.__setitem__(slice(2), b"ab"),
        lambda: m.populate(),
        lambda: m.populate(write=True),
    ):
        try:
            use()
        except BufferError:
            pass
        else:
            raise SystemExit("it was accessed")
""",
        protections,
    )


def test_a_mapping_for_writing_alone_can_be_written_and_viewed() -> None:
    with filled() as shm:
        with shm.mmap(protections="write") as m:
            m[0] = 200
            with memoryview(m) as view:
                view[1] = 201
        assert content(shm)[:3] == bytes([200, 201, CONTENT[2]])


# ---- flags ----------------------------------------------------------------------------------


def test_it_is_shared_unless_said_otherwise() -> None:
    with filled() as shm, shm.mmap() as m:
        assert m.flags == MapFlag.SHARED
        assert isinstance(m.flags, MapFlag)


def test_a_private_mapping_keeps_its_changes_to_itself() -> None:
    with filled() as shm, shm.mmap(flags="private") as m:
        assert m.flags == MapFlag.PRIVATE
        m[:3] = b"abc"
        assert m[:4] == b"abc" + CONTENT[3:4]
        assert content(shm) == CONTENT


def test_a_private_mapping_of_an_object_opened_for_input_may_be_writable(name: str) -> None:
    open_shm(name, direction="io", if_exists="error", size=10).close()
    with (
        open_shm(name) as reader,
        reader.mmap(protections=["read", "write"], flags="private") as m,
    ):
        m[:3] = b"abc"
        assert content(reader) == bytes(10)


@pytest.mark.parametrize("word", ["noreserve", "populate"])
def test_more_flags_go_beside_it(word: str) -> None:
    with filled() as shm, shm.mmap(flags=["shared", word]) as m:
        assert m.flags == MapFlag.SHARED | MapFlag[word.upper()]
        assert m[:] == CONTENT


def test_populate_faults_the_pages_in() -> None:
    with filled() as shm, shm.mmap() as lazy, shm.mmap(flags=["shared", "populate"]) as m:
        assert kilobytes_of(lazy, "Rss") == 0
        assert kilobytes_of(m, "Rss") == SIZE // 1024


def test_locked_locks_the_pages() -> None:
    with filled() as shm, shm.mmap(flags=["shared", "locked"]) as m:
        assert kilobytes_of(m, "Locked") == SIZE // 1024


@pytest.mark.parametrize("flags", [0, [], "noreserve", ["shared", "growsdown"]])
def test_flags_that_the_kernel_refuses_are_an_mmap_error(flags: Any) -> None:
    with filled() as shm, pytest.raises(MmapError) as caught:
        shm.mmap(flags=flags)
    assert caught.value.errno == errno.EINVAL


def test_an_unknown_map_flag_lists_the_right_ones() -> None:
    with filled() as shm, pytest.raises(ValueError, match=r"'shared', 'private'.*'locked'"):
        shm.mmap(flags="sharde")


@pytest.mark.parametrize("offset", [0, 100, PAGE, PAGE + 100])
def test_fixed_honours_the_address(offset: int) -> None:
    address = free_address(SIZE) + offset % PAGE
    with filled() as shm, shm.mmap(addr=address, flags=["shared", "fixed"], offset=offset) as m:
        assert m.address == address
        assert m[:] == CONTENT[offset:]
        assert MapFlag.FIXED in m.flags


def test_fixed_never_replaces_a_mapping() -> None:
    taken = ffi.mmap(0, SIZE, "none", ["private", "anonymous"], -1, 0)
    before = Path("/proc/self/maps").read_text()
    with filled() as shm:
        for address in (taken, taken + SIZE - PAGE, taken - SIZE + PAGE):
            with pytest.raises(MmapError) as caught:
                shm.mmap(addr=address, flags=["shared", "fixed"])
            assert caught.value.errno == errno.EEXIST
    assert f"{taken:x}-{taken + SIZE:x} ---p" in before
    assert f"{taken:x}-{taken + SIZE:x} ---p" in Path("/proc/self/maps").read_text()
    ffi.munmap(taken, SIZE)


def test_fixed_never_replaces_a_mapping_of_ours() -> None:
    with filled() as shm, shm.mmap() as m:
        with pytest.raises(MmapError) as caught:
            shm.mmap(addr=m.address, flags=["shared", "fixed"])
        assert caught.value.errno == errno.EEXIST
        m[0] = 9
        assert m[:] == content(shm)


@pytest.mark.parametrize("offset", [0, 1])
def test_a_fixed_address_that_does_not_fit_the_offset_is_einval(offset: int) -> None:
    with filled() as shm, pytest.raises(MmapError) as caught:
        shm.mmap(addr=free_address(SIZE) + 2, flags=["shared", "fixed"], offset=offset)
    assert caught.value.errno == errno.EINVAL


def test_fixed_needs_an_address() -> None:
    with filled() as shm, pytest.raises(MmapError):
        shm.mmap(flags=["shared", "fixed"])


def test_an_address_that_is_taken_is_only_a_hint() -> None:
    with filled() as shm, shm.mmap() as one, shm.mmap(addr=one.address) as two:
        assert one.address != two.address
        assert two[:] == one[:] == CONTENT


@pytest.mark.parametrize("offset", [0, 100])
def test_an_address_that_is_free_is_a_hint_that_is_taken(offset: int) -> None:
    address = free_address(SIZE) + offset
    with filled() as shm, shm.mmap(addr=address, offset=offset) as m:
        assert m.address == address


def test_an_address_that_no_pointer_can_hold_is_an_overflow_error() -> None:
    with filled() as shm, pytest.raises(OverflowError):
        shm.mmap(addr=1 << 64)


# ---- attributes, and what is left once closed -----------------------------------------------


ATTRIBUTES = (
    "address",
    "offset",
    "protections",
    "flags",
    "readonly",
    "closed",
    "nbytes",
    "faulted",
)


def test_repr_shows_name_length_offset_and_protections(name: str) -> None:
    with open_shm(name, direction="io", if_exists="error", size=SIZE) as shm:
        with shm.mmap(100, offset=5) as m:
            for part in ("Mapping", f"'{name}'", "length=100", "offset=5", "rw-"):
                assert part in repr(m)
            assert "closed" not in repr(m)
        assert name in repr(m)
        assert "closed" in repr(m)


def test_attributes_can_not_be_set() -> None:
    with open_anonymous_shm_and_mmap(10, direction="io") as (_, m):
        for attribute in (*ATTRIBUTES, "made_up"):
            with pytest.raises(AttributeError):
                setattr(m, attribute, 1)


# What each member does when it is used.  A member that is missing here fails a test below.
MEMBERS: dict[str, Callable[[Mapping], object]] = {
    "address": lambda m: m.address,
    "offset": lambda m: m.offset,
    "protections": lambda m: m.protections,
    "flags": lambda m: m.flags,
    "readonly": lambda m: m.readonly,
    "nbytes": lambda m: m.nbytes,
    "ndarray": lambda m: m.ndarray(1),
    "flush": lambda m: m.flush(),
    "advise": lambda m: m.advise("normal"),
    "protect": lambda m: m.protect("read"),
    "lock": lambda m: m.lock(),
    "unlock": lambda m: m.unlock(),
    "populate": lambda m: m.populate(),
}
PROTOCOLS: dict[str, Callable[[Mapping], object]] = {
    "with": lambda m: m.__enter__(),
    "len": len,
    "bool": bool,
    "item": lambda m: m[0],
    "slice": lambda m: m[:],
    "extended slice": lambda m: m[::2],
    "assign item": lambda m: m.__setitem__(0, 1),
    "assign slice": lambda m: m.__setitem__(slice(1), b"x"),
    "iterate": lambda m: list(iter(m)),
    "contains": lambda m: 0 in iter(m),
    "memoryview": memoryview,
    "bytes": bytes,
}
USES = MEMBERS | PROTOCOLS
STILL_WORK = {"closed", "close", "unmap", "check", "faulted"}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("how", ["close", "unmap", "with"])
def test_any_use_once_closed_is_a_value_error(use: str, how: str) -> None:
    if use == "ndarray":
        pytest.importorskip("numpy")
    with filled() as shm:
        m = shm.mmap()
        if how == "with":
            with m:
                pass
        else:
            getattr(m, how)()
        with pytest.raises(ValueError, match="closed"):
            USES[use](m)


def test_what_says_how_it_ended_still_works_once_closed() -> None:
    with filled() as shm, shm.mmap() as m:
        assert not m.closed
        m.close()
        assert (m.closed, m.faulted) == (True, False)
        m.check()
        m.close()
        m.unmap()


def test_every_public_member_is_known_to_these_tests() -> None:
    members = {member for member in dir(Mapping) if not member.startswith("_")}
    assert members == set(MEMBERS) | STILL_WORK


@pytest.mark.parametrize(
    ("member", "signature"),
    [
        ("ndarray", "(shape, dtype='u1', offset=0, order='C')"),
        ("unmap", "()"),
        ("close", "()"),
        ("check", "()"),
        ("flush", "(offset=0, length=None)"),
        ("advise", "(advice, offset=0, length=None)"),
        ("protect", "(protections)"),
        ("lock", "()"),
        ("unlock", "()"),
        ("populate", "(*, write=None, workers=1)"),
    ],
)
def test_each_method_has_the_parameters_and_defaults_of_the_contract(
    member: str, signature: str
) -> None:
    with open_anonymous_shm_and_mmap(10, direction="io") as (_, m):
        found = inspect.signature(getattr(m, member))
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in found.parameters.values()
    ]
    assert str(inspect.Signature(parameters)) == signature


@pytest.mark.parametrize(
    "function",
    [copy.copy, copy.deepcopy]
    + [lambda m, p=protocol: pickle.dumps(m, p) for protocol in range(6)],
)
def test_a_mapping_can_not_be_copied_or_pickled_and_the_error_says_what_to_do(
    function: Callable[[Mapping], object],
) -> None:
    with filled() as shm, shm.mmap() as m, pytest.raises(TypeError, match="SharedMemoryObject"):
        function(m)


# ---- flush, advise, lock, populate ----------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, None), (0, 0), (1, 1), (PAGE, PAGE), (PAGE + 1, 2 * PAGE), (SIZE - 100, None)],
)
def test_flush_and_advise_take_each_range_inside(offset: int, length: int | None) -> None:
    with filled() as shm, shm.mmap(offset=100) as m:
        m.flush(offset=offset, length=length)
        m.flush(offset, length)
        m.advise("willneed", offset=offset, length=length)
        m.advise("willneed", offset, length)
        assert m[:] == CONTENT[100:]


@pytest.mark.parametrize(
    ("offset", "length"),
    [(-1, None), (SIZE + 1, None), (0, SIZE + 1), (1, SIZE), (0, -1), (10**30, 1), (0, 10**30)],
)
def test_flush_and_advise_refuse_a_range_outside(offset: int, length: int | None) -> None:
    with filled() as shm, shm.mmap() as m:
        with pytest.raises(ValueError, match="inside"):
            m.flush(offset, length)
        with pytest.raises(ValueError, match="inside"):
            m.advise("normal", offset, length)


@pytest.mark.parametrize("arguments", [("0",), (0.0,), (0, "1"), (None,), (0, 1, 2)])
def test_flush_refuses_a_wrong_type(arguments: tuple[Any, ...]) -> None:
    with filled() as shm, shm.mmap() as m, pytest.raises(TypeError):
        m.flush(*arguments)


def test_flush_reaches_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with make_shm(os.open(path, os.O_RDWR)) as shm, shm.mmap(offset=10) as m:
        m[:3] = b"abc"
        m.flush(0, 3)
        assert path.read_bytes()[8:15] == CONTENT[8:10] + b"abc" + CONTENT[13:15]


def test_advise_reaches_the_pages_of_the_range_and_no_others() -> None:
    with filled() as shm, shm.mmap() as m:
        m.advise("remove", PAGE, 2 * PAGE)  # gives the memory back: holes are zeros
        assert content(shm) == CONTENT[:PAGE] + bytes(2 * PAGE) + CONTENT[3 * PAGE :]
        assert shm.stat().st_blocks * 512 == 2 * PAGE


@pytest.mark.parametrize("advice", ["dontneed", 4])
def test_advise_takes_a_word_or_an_int(advice: int | str) -> None:
    with filled() as shm, shm.mmap(flags="private") as m:
        m[:] = bytes(SIZE)
        m.advise(advice)  # forgets what is private
        assert m[:] == CONTENT


def test_advise_refuses_what_is_no_advice() -> None:
    with filled() as shm, shm.mmap() as m:
        with pytest.raises(ValueError, match=r"'willneed'"):
            m.advise("will-not-need")
        with pytest.raises(MmapError) as caught:
            m.advise(12_345)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(TypeError):
            m.advise(None)  # type: ignore[arg-type]


@pytest.mark.not_under_sanitizers("AddressSanitizer makes mlock do nothing")
def test_lock_keeps_the_pages_in_memory_and_unlock_lets_them_go() -> None:
    with filled() as shm, shm.mmap(offset=PAGE + 1) as m:
        m.lock()
        assert kilobytes_of(m, "Locked") == kilobytes_of(m, "Rss") == (SIZE - PAGE) // 1024
        m.unlock()
        assert kilobytes_of(m, "Locked") == 0


@pytest.mark.not_under_sanitizers("AddressSanitizer makes mlock do nothing")
def test_lock_beyond_the_limit_is_an_mmap_error() -> None:
    run_python("""
import errno, os, resource
from posix_shm import MmapError, open_anonymous_shm
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
with open_anonymous_shm(direction="io", size=10) as shm, shm.mmap() as m:
    try:
        m.lock()
    except MmapError as error:
        assert error.errno in (errno.ENOMEM, errno.EPERM), error
    else:
        raise SystemExit("it was locked")
""")


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("offset", [0, PAGE + 7])
def test_populate_faults_all_pages_in_and_changes_nothing(workers: int, offset: int) -> None:
    size = 40 << 20  # more than one worker's share
    with open_anonymous_shm(direction="io") as shm:
        shm.truncate(size)
        os.pwrite(shm.fd, b"here", size // 2)
        with shm.mmap(offset=offset) as m:
            assert kilobytes_of(m, "Rss") == 0
            m.populate(workers=workers)
            pages = size - offset + offset % PAGE
            assert kilobytes_of(m, "Rss") == pages // 1024
            assert shm.stat().st_blocks * 512 == pages
            assert m[size // 2 - offset :][:6] == b"here\0\0"
            assert sum(memoryview(m)[:: PAGE + 1]) == 0


def test_populate_for_reading_works_on_a_mapping_for_reading(name: str) -> None:
    with open_shm(name, direction="io", if_exists="error", size=SIZE):
        pass
    with open_shm(name) as reader, reader.mmap() as m:
        m.populate()
        assert kilobytes_of(m, "Rss") == SIZE // 1024
        m.populate(write=False, workers=2)
        with pytest.raises(TypeError, match="read-only"):
            m.populate(write=True)


def test_populate_for_reading_works_on_a_mapping_for_writing_alone() -> None:
    with open_anonymous_shm(direction="io") as shm:
        shm.truncate(SIZE)
        with shm.mmap(protections="write") as m:
            m.populate(write=False)
            assert kilobytes_of(m, "Rss") == SIZE // 1024


def test_populate_commits_memory_for_writing() -> None:
    with open_anonymous_shm(direction="io") as shm:
        shm.truncate(SIZE)
        with shm.mmap() as m:
            m.populate(write=True)
        assert shm.stat().st_blocks * 512 == SIZE


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"workers": 0}, ValueError),
        ({"workers": -1}, ValueError),
        ({"workers": 1.0}, TypeError),
        ({"workers": "1"}, TypeError),
        ({"workers": 1 << 40}, OverflowError),
        ({"thread": 1}, TypeError),
    ],
)
def test_populate_refuses_what_is_no_number_of_workers(
    keywords: dict[str, Any], error: type[Exception]
) -> None:
    with filled() as shm, shm.mmap() as m, pytest.raises(error):
        m.populate(**keywords)


# ---- protect --------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["shared", "private"])
@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize("offset", [0, PAGE + 5])
def test_protect_takes_rights_and_gives_them_back(flags: str, exported: bool, offset: int) -> None:
    with filled() as shm, shm.mmap(flags=flags, offset=offset) as m:
        m[1] = 255
        expected = CONTENT[offset : offset + 1] + b"\xff" + CONTENT[offset + 2 :]
        if exported:
            memoryview(m).release()
        m.protect("read")
        assert (m.protections, m.readonly) == (Protection.READ, True)
        assert m[:] == expected
        with pytest.raises(TypeError, match="read-only"):
            m[0] = 1
        m.protect(protections="none")
        assert m.protections == Protection.NONE
        with pytest.raises(BufferError):
            m[0]
        m.protect(Protection.READ | Protection.WRITE)
        assert not m.readonly
        assert m[:] == expected
        m[2] = 254
        assert m[1:3] == b"\xff\xfe"
        assert (content(shm)[offset + 1 : offset + 3] == b"\xff\xfe") == (flags == "shared")


def test_protect_is_really_the_kernels() -> None:
    with filled() as shm, shm.mmap() as m:
        for protections, shown in (
            ("read", "r--s"),
            ("none", "---s"),
            (["read", "write"], "rw-s"),
        ):
            m.protect(protections)
            maps = Path("/proc/self/maps").read_text()
            assert re.search(rf"^{m.address:08x}-\w+ {shown} ", maps, re.MULTILINE)


def test_protect_does_not_give_what_the_direction_does_not_allow(name: str) -> None:
    open_shm(name, direction="io", if_exists="error", size=10).close()
    with open_shm(name) as reader, reader.mmap() as m:
        with pytest.raises(MmapError) as caught:
            m.protect(["read", "write"])
        assert (caught.value.errno, caught.value.filename) == (errno.EACCES, name)
        assert m.readonly
        assert m[0] == 0


@pytest.mark.parametrize("protections", ["read", "none", "exec"])
def test_protect_that_takes_a_right_from_a_live_view_is_a_buffer_error(protections: str) -> None:
    with filled() as shm, shm.mmap() as m:
        with memoryview(m) as view:
            with pytest.raises(BufferError):
                m.protect(protections)
            assert m.protections == Protection.READ | Protection.WRITE
            view[0] = 77
        assert m[0] == 77
        m.protect("read")
        assert m.readonly


def test_protect_may_give_rights_while_a_view_is_alive() -> None:
    with filled() as shm, shm.mmap(protections="read") as m, memoryview(m) as view:
        m.protect(["read", "write"])
        assert not m.readonly
        assert view.readonly  # as it was made
        m[0] = 99
        assert view[0] == 99
        m.protect(["read", "write"])


def test_protect_refuses_what_is_no_protection() -> None:
    with filled() as shm, shm.mmap() as m:
        with pytest.raises(ValueError, match="'read', 'write', 'exec'"):
            m.protect("readable")
        with pytest.raises(TypeError):
            m.protect(None)  # type: ignore[arg-type]
        assert m.protections == Protection.READ | Protection.WRITE


# ---- the with block -------------------------------------------------------------------------


def test_a_with_block_closes_the_mapping() -> None:
    with filled() as shm:
        before = shared_mappings()
        m = shm.mmap()
        with m as same:
            assert same is m
        assert m.closed
        assert shared_mappings() == before


def test_a_with_block_never_replaces_the_exception_of_its_body() -> None:
    with filled() as shm:
        m = shm.mmap()
        with pytest.raises(ZeroDivisionError), m:
            1 / 0  # noqa: B018
        assert m.closed
