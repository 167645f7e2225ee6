"""What is alive when: objects, mappings, views, and pointers that somebody kept."""

from __future__ import annotations

import gc
import mmap
import os
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from posix_shm import (
    Mapping,
    SharedMemoryObject,
    open_anonymous_shm,
    open_anonymous_shm_and_mmap,
    open_shm,
    open_shm_and_mmap,
)

from .support import PAGE, run_python, shared_mappings

SIZE = 3 * PAGE


def filled() -> SharedMemoryObject:
    """An anonymous object for io, full of "x"."""
    shm = open_anonymous_shm(direction="io", size=SIZE)
    os.pwrite(shm.fd, b"x" * SIZE, 0)
    return shm


def is_shared_memory(address: int) -> bool:
    """Whether a shared memory object is mapped at this address."""
    for line in shared_mappings():
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        if start <= address < end:
            return True
    return False


def count_mappings() -> int:
    """How many ranges of addresses this process has."""
    return len(Path("/proc/self/maps").read_text().splitlines())


# ---- a mapping and its object ---------------------------------------------------------------


def test_a_mapping_outlives_its_object() -> None:
    shm = filled()
    m = shm.mmap()
    shm.close()
    del shm
    gc.collect()
    m[0] = 1
    assert m[:3] == b"\1xx"
    m.close()


def test_a_mapping_outlives_the_name(name: str) -> None:
    with open_shm(name, direction="io", if_exists="error", size=SIZE) as shm, shm.mmap() as m:
        shm.delete()
        shm.close()
        m[:] = b"y" * SIZE
        assert m[:] == b"y" * SIZE


def test_closing_one_mapping_leaves_the_others() -> None:
    with filled() as shm, shm.mmap() as one, shm.mmap() as two:
        one.unmap()
        two[0] = 1
        assert two[:2] == b"\1x"
        assert is_shared_memory(two.address)


def test_dropping_a_mapping_unmaps_it() -> None:
    with filled() as shm:
        m = shm.mmap()
        address = m.address
        assert is_shared_memory(address)
        del m
        gc.collect()
        assert not is_shared_memory(address)


def test_dropping_a_mapping_in_a_cycle_unmaps_it() -> None:
    with filled() as shm:
        cycle: list[object] = [shm.mmap()]
        cycle.append(cycle)
        before = len(shared_mappings())
        del cycle
        gc.collect()
        assert len(shared_mappings()) == before - 1


# ---- close ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Mapping.close, Mapping.unmap])
def test_without_a_view_the_pages_go_at_once(end: Callable[[Mapping], None]) -> None:
    with filled() as shm:
        m = shm.mmap()
        address = m.address
        end(m)
        assert m.closed
        assert not is_shared_memory(address)


def test_close_leaves_the_pages_to_the_last_view() -> None:
    with filled() as shm:
        m = shm.mmap()
        address = m.address
        views = [memoryview(m), memoryview(m)[PAGE:], memoryview(m)[1:2].cast("b")]
        m.close()
        assert m.closed
        m.close()
        while views:
            assert is_shared_memory(address)
            assert views[-1][0] == ord("x")
            views.pop().release()
        gc.collect()  # the views that those were made of
        assert not is_shared_memory(address)


def test_after_a_deferred_close_views_work_and_new_uses_do_not() -> None:
    with filled() as shm:
        m = shm.mmap()
        with memoryview(m) as view:
            m.close()
            view[0] = 1
            assert os.pread(shm.fd, 2, 0) == b"\1x"
            with pytest.raises(ValueError, match="closed"):
                memoryview(m)
            with pytest.raises(ValueError, match="closed"):
                m[0]
            with memoryview(view) as second:
                assert second[0] == 1


def test_a_view_outlives_object_and_mapping() -> None:
    shm = filled()
    m = shm.mmap()
    address = m.address
    view = memoryview(m)[5:10]
    shm.close()
    m.close()
    del shm, m
    gc.collect()
    assert bytes(view) == b"xxxxx"
    view[0] = 7
    assert is_shared_memory(address)
    del view
    gc.collect()
    assert not is_shared_memory(address)


def test_a_view_outlives_a_mapping_that_was_dropped_open() -> None:
    with filled() as shm:
        m = shm.mmap()
        address, reference = m.address, weakref.ref(m)
        view = memoryview(m)
        del m
        gc.collect()
        assert reference() is not None
        assert bytes(view[:3]) == b"xxx"
        assert is_shared_memory(address)
        view.release()
        del view
        gc.collect()
        assert reference() is None
        assert not is_shared_memory(address)


def test_a_view_of_an_object_outlives_it() -> None:
    shm = filled()
    view = memoryview(shm)
    shm.close()
    reference = weakref.ref(shm)
    del shm
    gc.collect()
    view[0] = 1
    assert bytes(view[:3]) == b"\1xx"
    view.release()
    del view
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("count", [1, 3])
def test_leaving_a_with_block_never_raises_because_of_a_view(count: int) -> None:
    with filled() as shm:
        with shm.mmap() as m:
            views = [memoryview(m) for _ in range(count)]
        assert m.closed
        assert all(bytes(view[:3]) == b"xxx" for view in views)
        for view in views:
            view.release()


def test_leaving_the_combining_with_blocks_never_raises_because_of_a_view(name: str) -> None:
    with open_shm_and_mmap(name, 10, direction="io", if_does_not_exist="create") as (_, m):
        view = memoryview(m)
    with open_anonymous_shm_and_mmap(10, direction="io") as (_, m):
        other = memoryview(m)
    view[0] = other[0] = 1
    assert (bytes(view), bytes(other)) == (b"\1" + bytes(9),) * 2
    view.release()
    other.release()


def test_a_failing_request_does_not_keep_the_pages() -> None:
    with filled() as shm:
        m = shm.mmap(protections="none")
        for _ in range(3):
            with pytest.raises(BufferError):
                memoryview(m)
        m.unmap()


# ---- unmap ----------------------------------------------------------------------------------


def test_unmap_is_refused_while_a_view_is_alive_and_changes_nothing() -> None:
    with filled() as shm:
        m = shm.mmap()
        address = m.address
        view = memoryview(m)
        part = view[1:]
        for _ in range(2):
            with pytest.raises(BufferError):
                m.unmap()
        assert not m.closed
        view.release()
        with pytest.raises(BufferError):
            m.unmap()
        assert (m[0], part[0]) == (ord("x"), ord("x"))
        part.release()
        assert is_shared_memory(address)
        m.unmap()
        assert not is_shared_memory(address)


def test_unmap_is_refused_while_a_view_keeps_a_closed_mapping_alive() -> None:
    with filled() as shm:
        m = shm.mmap()
        with memoryview(m):
            m.close()
            with pytest.raises(BufferError):
                m.unmap()
        m.unmap()


def test_unmap_and_close_are_idempotent_in_any_order() -> None:
    with filled() as shm:
        for first in (Mapping.close, Mapping.unmap):
            m = shm.mmap()
            first(m)
            for again in (Mapping.close, Mapping.unmap, Mapping.close):
                again(m)
            assert m.closed


def test_unmap_never_unmaps_what_came_to_the_same_address() -> None:
    with filled() as shm:
        m = shm.mmap()
        address = m.address
        m.unmap()
        with shm.mmap(addr=address, flags=["shared", "fixed"]) as other:
            assert other.address == address
            m.unmap()
            m.close()
            del m
            gc.collect()
            assert other[:] == b"x" * SIZE


def test_the_address_of_an_exported_mapping_stays_taken_until_it_is_freed() -> None:
    # So that whoever kept a pointer never sees another mapping there.
    with filled() as shm:
        m = shm.mmap()
        address = m.address
        memoryview(m).release()
        m.unmap()
        assert not is_shared_memory(address)
        with pytest.raises(OSError):
            shm.mmap(addr=address, flags=["shared", "fixed"])
        del m
        gc.collect()
        with shm.mmap(addr=address, flags=["shared", "fixed"]) as other:
            assert other.address == address


@pytest.mark.parametrize("how", ["close", "unmap", "drop", "view", "protect"])
def test_no_range_of_addresses_is_left_however_a_mapping_ends(how: str) -> None:
    def once() -> None:
        m = shm.mmap(offset=PAGE + 1)
        memoryview(m).release()
        if how == "view":
            view = memoryview(m)
            m.close()
            view.release()
        elif how == "protect":
            m.protect("read")
            memoryview(m).release()
            m.protect("none")
        elif how != "drop":
            getattr(m, how)()

    with filled() as shm:
        once()
        gc.collect()
        before = count_mappings()
        for _ in range(200):
            once()
        gc.collect()
        assert count_mappings() <= before + 20  # the allocator has ranges of its own


# ---- pointers that somebody kept ------------------------------------------------------------

# What np.ndarray(buffer=) does: it takes a buffer, keeps the pointer and a reference to whoever
# exported it, and releases the buffer.
KEEP = {
    "numpy": """
import numpy as np

def keep(exporter):
    return np.ndarray(len(memoryview(exporter)), "u1", buffer=exporter)

def content(kept):
    return kept.tobytes()
""",
    "numpy, given a view": """
import numpy as np

def keep(exporter):
    return np.ndarray(len(memoryview(exporter)), "u1", buffer=memoryview(exporter))

def content(kept):
    return kept.tobytes()
""",
    "ctypes": """
import ctypes

class Pointer:
    def __init__(self, exporter):
        self.exporter = exporter
        with memoryview(exporter) as view:
            array = ctypes.c_uint8 * len(view)
            first = (ctypes.c_uint8 * len(view)).from_buffer(view)
            self.items = array.from_address(ctypes.addressof(first))
            del first

    def __setitem__(self, key, value):
        self.items[0 if key is ... else key] = value

    def __getitem__(self, key):
        return self.items[key]

keep = Pointer

def content(kept):
    return bytes(kept.items)
""",
}

KEPT = """
import gc, mmap, os, sys
from posix_shm import open_anonymous_shm

SIZE = 3 * mmap.PAGESIZE
PATTERN = b"x" * SIZE

def shared():
    with open("/proc/self/maps") as maps:
        return [line for line in maps if "/dev/shm/" in line]

def check_that_nobody_elses_memory_is_reached(kept, wanted):
    # Maps a lot, with every way to map, in the hope to come to the same address.
    assert content(kept) == wanted, content(kept)[:20]
    with open_anonymous_shm(direction="io", size=SIZE) as others:
        mappings = [others.mmap() for _ in range(100)]
        views = [memoryview(others) for _ in range(20)]
        strangers = [mmap.mmap(-1, SIZE) for _ in range(100)]
        for m in [*mappings, *views, *strangers]:
            m[0:SIZE] = b"o" * SIZE
        assert content(kept) == wanted, content(kept)[:20]
        kept[0] = kept[SIZE - 1] = 7
        for m in [*mappings, *views, *strangers]:
            assert m[0:SIZE] == b"o" * SIZE
        kept[0], kept[SIZE - 1] = wanted[0], wanted[-1]
        for m in mappings:
            m.unmap()
        assert content(kept) == wanted, content(kept)[:20]

def leave(m):
    with m:
        pass

shm = open_anonymous_shm(direction="io", size=SIZE)
os.pwrite(shm.fd, PATTERN, 0)
m = shm.mmap()
kept = keep(m)
assert content(kept) == PATTERN
"""

# Each is the end of a mapping `m`, after which a pointer of it is still `kept`.
ENDS = (
    "m.unmap()",
    "m.close()",
    "leave(m)",
    "m.close(); m.unmap(); m.close()",
    "m.unmap(); del m; shm.close(); gc.collect()",
    "leave(m); del m; shm.close(); del shm; gc.collect()",
    "view = memoryview(m); m.close(); view.release()",
    "m.protect('read'); m.unmap()",
    "m.protect('none'); m.protect('write'); keep(m); m.close()",
)


@pytest.fixture(params=KEEP)
def kept(request: pytest.FixtureRequest) -> str:
    """A program that has an object, a mapping of it, and a pointer to its bytes."""
    if request.param.startswith("numpy"):
        pytest.importorskip("numpy")
    code: str = KEEP[request.param]
    return code + KEPT


def test_a_kept_pointer_reads_zeros_once_the_mapping_is_closed(kept: str) -> None:
    run_python(
        kept
        + """
m.unmap()
shm.close()
for end in sys.argv[1:]:
    print(end, flush=True)  # the last one, if this is a crash, is the culprit
    shm = open_anonymous_shm(direction="io", size=SIZE)
    os.pwrite(shm.fd, PATTERN, 0)
    fd = os.dup(shm.fd)
    m = shm.mmap()
    kept = keep(m)
    exec(end)
    assert shared() == [], "the shared pages are still mapped"
    check_that_nobody_elses_memory_is_reached(kept, bytes(SIZE))
    kept[5] = 1
    assert os.pread(fd, SIZE, 0) == PATTERN, "the object was written"
    os.close(fd)
    if "shm" in globals():
        shm.close()
""",
        *ENDS,
    )


def test_a_kept_pointer_alone_keeps_an_open_mapping(kept: str) -> None:
    run_python(
        kept
        + """
shm.close()
del m, shm
gc.collect()
assert len(shared()) == 1
check_that_nobody_elses_memory_is_reached(kept, PATTERN)
del kept
gc.collect()
assert shared() == []
"""
    )


def test_a_kept_pointer_survives_a_protect_that_takes_rights_away(kept: str) -> None:
    run_python(
        kept
        + """
m.unmap()
for protections in ("read", "none", "exec"):
    os.pwrite(shm.fd, PATTERN, 0)
    m = shm.mmap()
    kept = keep(m)
    m.protect(protections)
    kept[0] = kept[SIZE - 1] = 9  # must not crash, and must not change the object
    assert os.pread(shm.fd, SIZE, 0) == PATTERN
    kept[0] = kept[SIZE - 1] = 0
    check_that_nobody_elses_memory_is_reached(kept, bytes(SIZE))
    m.protect(["read", "write"])
    assert m[:] == PATTERN
    m[1] = 5
    assert os.pread(shm.fd, 2, 0) == b"x\\5"
    again = keep(m)
    assert content(again) == m[:]
    check_that_nobody_elses_memory_is_reached(kept, bytes(SIZE))
    m.unmap()
    check_that_nobody_elses_memory_is_reached(kept, bytes(SIZE))
    check_that_nobody_elses_memory_is_reached(again, bytes(SIZE))
shm.close()
"""
    )


def test_kept_pointers_survive_any_number_of_protects_and_leave_no_addresses(kept: str) -> None:
    run_python(
        kept
        + """
def addresses():
    gc.collect()
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[0]) * mmap.PAGESIZE

m.unmap()
shm.truncate(4 << 20)
m = shm.mmap()
before = addresses()
pointers = []
for i in range(100):
    pointers.append(keep(m))
    m.protect("none")
    m.protect(["read", "write"])
    for pointer in pointers:
        pointer[i] = 1
assert m[:SIZE] == PATTERN
assert addresses() - before > 99 * len(m), "somebody may get the addresses that are pointed at"
m.close()
del pointer, pointers, m
assert addresses() - before < 20 << 20
shm.close()
"""
    )


def test_a_pointer_that_is_kept_of_a_view_of_an_object_never_crashes(kept: str) -> None:
    run_python(
        kept
        + """
pointer = keep(shm)
assert shared() != [] and len(shared()) == 1, "only the mapping's pages are shared"
check_that_nobody_elses_memory_is_reached(pointer, bytes(SIZE))
view = memoryview(shm)
pointer[0] = 9
view.release()
shm.close()
m.unmap()
del shm
gc.collect()
check_that_nobody_elses_memory_is_reached(pointer, bytes(SIZE))
"""
    )


def test_a_kept_pointer_of_a_private_mapping_is_safe_too(kept: str) -> None:
    run_python(
        kept
        + """
private = shm.mmap(flags="private")
private[0:2] = b"pp"
pointer = keep(private)
private.protect("read")
pointer[0] = 9
assert private[:3] == b"ppx"
private.unmap()
pointer[0] = 0
check_that_nobody_elses_memory_is_reached(pointer, bytes(SIZE))
m.unmap()
shm.close()
"""
    )


def test_mmaps_own_hint_is_not_the_place_where_zeros_are_buried() -> None:
    with filled() as shm:
        m = shm.mmap()
        address = m.address
        memoryview(m).release()
        m.unmap()
        with mmap.mmap(-1, SIZE) as stranger, shm.mmap(addr=address) as other:
            stranger[:] = b"o" * SIZE
            assert other.address != address
            assert other[:] == b"x" * SIZE
