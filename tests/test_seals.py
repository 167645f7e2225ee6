"""Objects that can be sealed, and objects of huge pages."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import posix_shm
import pytest
from posix_shm import (
    MmapError,
    SharedMemoryObject,
    ShmError,
    ShmPermissionError,
    ffi,
    open_anonymous_shm,
)

from .elsewhere import alone_with, in_a_process, setting
from .support import PAGE

SIZE = 2 * PAGE
WORDS = ("seal", "shrink", "grow", "write", "future-write")


@pytest.fixture
def sealable() -> Iterator[SharedMemoryObject]:
    """An object without seals, with a size."""
    with posix_shm.open_anonymous_shm(sealable=True, size=SIZE) as shm:
        yield shm


# ---- what an object that can be sealed is -----------------------------------------------------


def test_a_sealable_object_is_read_write_and_nameless_and_has_no_seals(
    sealable: SharedMemoryObject,
) -> None:
    assert sealable.name is None
    assert sealable.direction == "io"
    assert sealable.size == SIZE
    assert sealable.seals == frozenset()
    assert not os.get_inheritable(sealable.fd)


def test_a_sealable_object_has_its_memory_reserved(sealable: SharedMemoryObject) -> None:
    assert sealable.stat().st_blocks * 512 == SIZE


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o700, 0])
def test_a_sealable_object_has_the_permissions_asked_for(permissions: int) -> None:
    with posix_shm.open_anonymous_shm(sealable=True, permissions=permissions) as shm:
        mask = os.umask(0)
        os.umask(mask)
        assert stat.S_IMODE(shm.stat().st_mode) == permissions & ~mask


def test_a_sealable_object_works_as_any_other(sealable: SharedMemoryObject) -> None:
    with sealable.mmap() as mapping:
        mapping[:3] = b"abc"
    with memoryview(sealable) as view:
        assert bytes(view[:3]) == b"abc"
    sealable.truncate(3 * PAGE)
    sealable.reserve(4 * PAGE)
    assert sealable.size == 4 * PAGE


# ---- what each seal forbids -------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_a_seal_is_one_of_the_seals_afterwards(word: str, sealable: SharedMemoryObject) -> None:
    sealable.seal(word)
    assert sealable.seals == {word}


def test_several_seals_can_be_set_at_once_and_one_after_the_other(
    sealable: SharedMemoryObject,
) -> None:
    sealable.seal("shrink", "grow")
    sealable.seal("write")
    sealable.seal("write", "seal")
    assert sealable.seals == {"shrink", "grow", "write", "seal"}


def test_no_seals_at_all_change_nothing(sealable: SharedMemoryObject) -> None:
    sealable.seal()
    assert sealable.seals == frozenset()


def test_the_words_are_those_of_the_kernel(sealable: SharedMemoryObject) -> None:
    sealable.seal(*WORDS)
    bits = fcntl.fcntl(sealable.fd, fcntl.F_GET_SEALS)
    assert bits & 0x1F == 0x1F


Attempt = Callable[[SharedMemoryObject], object]

FORBIDDEN: dict[str, tuple[str, Attempt]] = {
    "shrinking": ("shrink", lambda shm: shm.truncate(PAGE)),
    "growing": ("grow", lambda shm: shm.truncate(3 * PAGE)),
    "growing_by_reserving": ("grow", lambda shm: shm.reserve(3 * PAGE)),
    "sealing": ("seal", lambda shm: shm.seal("shrink")),
    "mapping_for_writing": ("write", lambda shm: shm.mmap()),
    "mapping_for_writing_later": ("future-write", lambda shm: shm.mmap()),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_a_seal_forbids_is_an_error(what: str, sealable: SharedMemoryObject) -> None:
    seal, attempt = FORBIDDEN[what]
    sealable.seal(seal)
    with pytest.raises((ShmPermissionError, MmapError)) as caught:
        attempt(sealable)
    assert caught.value.errno == errno.EPERM
    assert sealable.size == SIZE
    assert sealable.seals == {seal}


@pytest.mark.parametrize("seal", ["write", "future-write"])
def test_a_note_says_how_an_object_that_is_sealed_against_writing_is_mapped(
    seal: str, sealable: SharedMemoryObject
) -> None:
    sealable.seal(seal)
    with pytest.raises(MmapError) as caught:
        sealable.mmap()
    assert 'mmap(protections="read")' in "".join(caught.value.__notes__)


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_what_is_no_shared_memory_has_the_seal_against_sealing(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        if kind == "file":
            fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        else:
            fd, other = os.pipe()
            stack.callback(os.close, other)
        shm = stack.enter_context(posix_shm.make_shm(fd))
        assert shm.seals == {"seal"}


@pytest.mark.parametrize(("permissions", "sealed"), [(0o600, True), (0o700, False)])
def test_the_kernel_keeps_an_object_that_nobody_may_execute_from_becoming_executable(
    permissions: int, sealed: bool
) -> None:
    with posix_shm.open_anonymous_shm(sealable=True, permissions=permissions) as shm:
        bits = fcntl.fcntl(shm.fd, fcntl.F_GET_SEALS)
        if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 3):
            pytest.skip("this kernel does not know the seal")
        assert bool(bits & 0x20) == sealed


@pytest.mark.parametrize("seal", ["write", "future-write"])
def test_a_sealed_object_can_be_mapped_for_reading(
    seal: str, sealable: SharedMemoryObject
) -> None:
    with sealable.mmap() as mapping:
        mapping[:3] = b"abc"
    sealable.seal(seal)
    with sealable.mmap(protections="read") as mapping:
        assert mapping[:3] == b"abc"
        with pytest.raises((MmapError, PermissionError)):
            mapping.protect(["read", "write"])
    with sealable.mmap(flags="private") as mapping:
        mapping[0] = 0


def test_writing_cannot_be_sealed_while_it_is_mapped_for_writing(
    sealable: SharedMemoryObject,
) -> None:
    with sealable.mmap():
        with pytest.raises(ShmError) as caught:
            sealable.seal("write")
        assert caught.value.errno == errno.EBUSY
        assert any("future-write" in note for note in caught.value.__notes__)
    sealable.seal("write")


def test_future_writing_can_be_sealed_while_it_is_mapped_for_writing(
    sealable: SharedMemoryObject,
) -> None:
    with sealable.mmap() as mapping:
        sealable.seal("future-write")
        mapping[:3] = b"abc"
        with sealable.mmap(protections="read") as reader:
            assert reader[:3] == b"abc"


def test_a_peer_cannot_shrink_what_is_sealed_against_it(sealable: SharedMemoryObject) -> None:
    sealable.seal("shrink")
    with sealable.mmap() as mapping:
        peer = os.dup(sealable.fd)
        with pytest.raises(PermissionError):
            os.ftruncate(peer, 0)
        os.close(peer)
        assert mapping[-1] == 0


# ---- what cannot be sealed --------------------------------------------------------------------


def test_other_objects_cannot_be_sealed_and_say_why(name: str) -> None:
    with posix_shm.open_shm(name, direction="io", if_exists="error", size=SIZE) as shm:
        assert shm.seals == {"seal"}
        with pytest.raises(ShmPermissionError) as caught:
            shm.seal("shrink")
        assert any("sealable=True" in note for note in caught.value.__notes__)


def test_an_object_opened_for_input_cannot_be_sealed(sealable: SharedMemoryObject) -> None:
    reader = os.open(f"/proc/self/fd/{sealable.fd}", os.O_RDONLY)
    with posix_shm.make_shm(reader) as shm, pytest.raises(ShmPermissionError):
        shm.seal("shrink")
    assert sealable.seals == frozenset()


def test_an_unknown_word_lists_the_known_ones(sealable: SharedMemoryObject) -> None:
    with pytest.raises(ValueError, match="future-write"):
        sealable.seal("shrimp")


def test_a_closed_object_has_no_seals() -> None:
    shm = posix_shm.open_anonymous_shm(sealable=True)
    shm.close()
    with pytest.raises(ValueError, match="closed"):
        _ = shm.seals
    with pytest.raises(ValueError, match="closed"):
        shm.seal("grow")


# ---- huge pages -------------------------------------------------------------------------------

ENOUGH = 4  # for any test here

_POOLS = Path("/sys/kernel/mm/hugepages")


def _default_huge_page() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1]) * 1024
    pytest.skip("this kernel has no huge pages")


def _free_pages(size: int) -> int:
    return int((_POOLS / f"hugepages-{size // 1024}kB/free_hugepages").read_text())


@pytest.fixture
def pool() -> Iterator[int]:
    """The size of huge pages of which a few are free."""
    size = _default_huge_page()
    pages = _POOLS / f"hugepages-{size // 1024}kB/nr_hugepages"
    with alone_with("huge-pages"), ExitStack() as stack:
        if _free_pages(size) < ENOUGH:
            stack.enter_context(setting(pages, str(int(pages.read_text()) + ENOUGH)))
        if _free_pages(size) < ENOUGH:
            pytest.skip("there is no memory for huge pages")
        yield size


@pytest.mark.parametrize("how", ["default", "size"])
def test_an_object_of_huge_pages_works_as_any_other(how: str, pool: int) -> None:
    huge_pages = True if how == "default" else pool
    with posix_shm.open_anonymous_shm(huge_pages=huge_pages, size=2 * pool) as shm:
        assert shm.size == 2 * pool
        assert shm.direction == "io"
        with shm.mmap() as mapping:
            mapping[:] = b"h" * (2 * pool)
            assert mapping.address % pool == 0
            with memoryview(shm) as view:
                assert view[-1] == ord("h")
        with shm.mmap(10, offset=pool + 5) as mapping:
            assert mapping[:] == b"h" * 10
            memoryview(mapping).release()
        with shm.mmap() as mapping:
            mapping.populate()
            mapping.flush()
            mapping.protect("read")


def test_an_object_of_huge_pages_can_be_sealed(pool: int) -> None:
    with posix_shm.open_anonymous_shm(huge_pages=True, sealable=True, size=pool) as shm:
        assert shm.seals == frozenset()
        shm.seal("shrink")
        with pytest.raises(ShmPermissionError):
            shm.truncate(0)


def test_a_guarded_mapping_of_huge_pages_that_a_peer_shrinks_reads_zeros(pool: int) -> None:
    with (
        posix_shm.open_anonymous_shm(huge_pages=True, size=2 * pool) as shm,
        closing(shm.mmap(guard=True)) as mapping,
    ):
        mapping[:] = b"h" * (2 * pool)
        shm.truncate(pool)
        assert mapping[pool - 1] == ord("h")
        assert not mapping.faulted
        assert mapping[pool] == 0
        assert mapping.faulted
        assert mapping[:] == b"h" * pool + bytes(pool)


def test_a_stale_pointer_into_huge_pages_reads_zeros(pool: int) -> None:
    np = pytest.importorskip("numpy")
    with posix_shm.open_anonymous_shm(huge_pages=True, size=pool) as shm:
        mapping = shm.mmap()
        array = np.ndarray(pool, "u1", buffer=mapping)
        array[:] = 1
        mapping.unmap()
        assert not array.any()


@in_a_process
def _view_fails_without_a_hole(page: int, count: int) -> None:
    with (
        posix_shm.open_anonymous_shm(huge_pages=True, size=count * page) as shm,
        posix_shm.open_anonymous_shm(huge_pages=True) as other,
    ):
        view = memoryview(shm)
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        gc.collect()
        view.release()
        shm.truncate(0)
        other.truncate(count * page)
        with other.mmap() as taken:
            taken.populate()
            shm.truncate(count * page)
            with pytest.raises(MmapError) as caught:
                memoryview(shm)
            assert caught.value.errno == errno.ENOMEM
        with pytest.raises(OSError, match=os.strerror(errno.EEXIST)):
            ffi.mmap(address, page, "read", ["private", "anonymous", "fixed-noreplace"], -1, 0)


def test_a_view_that_fails_leaves_no_hole_where_a_view_was(pool: int) -> None:
    _view_fails_without_a_hole(page=pool, count=_free_pages(pool))


def test_more_huge_pages_than_there_are_is_no_room() -> None:
    page = _default_huge_page()
    with pytest.raises(ShmError) as caught:
        posix_shm.open_anonymous_shm(huge_pages=True, size=page * (_free_pages(page) + 100_000))
    assert caught.value.errno in {errno.ENOSPC, errno.ENOMEM}


def test_a_mapping_of_more_huge_pages_than_there_are_is_an_error() -> None:
    page = _default_huge_page()
    with posix_shm.open_anonymous_shm(huge_pages=True) as shm:
        shm.truncate(page * (_free_pages(page) + 100_000))
        with pytest.raises(MmapError) as caught:
            shm.mmap()
        assert caught.value.errno == errno.ENOMEM


def test_a_size_that_is_no_multiple_of_the_huge_page_is_an_error() -> None:
    with pytest.raises(ShmError) as caught:
        posix_shm.open_anonymous_shm(huge_pages=True, size=PAGE)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("size", [3, PAGE + 1, -PAGE])
def test_a_page_size_that_is_no_power_of_two_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        posix_shm.open_anonymous_shm(huge_pages=size)


def test_a_page_size_that_the_system_does_not_have_is_an_error() -> None:
    with pytest.raises(ShmError):
        posix_shm.open_anonymous_shm(huge_pages=1 << 40)


def test_a_view_that_can_not_be_mapped_costs_no_addresses() -> None:
    def addresses_after(rounds: int) -> int:
        for _ in range(rounds):
            with open_anonymous_shm(sealable=True, size=16 * PAGE) as shm:
                memoryview(shm).release()
                shm.seal("future-write")
                with pytest.raises(MmapError) as caught:
                    memoryview(shm)
                assert caught.value.errno == errno.EPERM
                del caught, shm
        return int(Path("/proc/self/statm").read_text().split()[0])

    before = addresses_after(50)
    assert addresses_after(500) < before + 500 * 16 // 2
